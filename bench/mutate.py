"""Changes of one constant, comparison or sign in a source file, one at a time."""

from __future__ import annotations

import ast
import random
from collections.abc import Iterator
from dataclasses import dataclass

COMPARISONS: dict[type, tuple[str, str]] = {
    ast.Lt: ("<", "<="), ast.LtE: ("<=", "<"), ast.Gt: (">", ">="), ast.GtE: (">=", ">"), ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
}  # fmt: skip
SIGNS: dict[type, tuple[str, str]] = {ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.BitAnd: ("&", "|"), ast.BitOr: ("|", "&")}

# Functions that say what is refused, how large something is or how fast a way would be, and examples: not what an op computes.
LEFT_OUT = (
    "problems", "overflows", "size", "dense_ops", "examples", "examples_of", "payload", "state_bits", "gain", "share", "event_driven",
    "reach", "macs", "memory", "exact_bound", "one_sided_bound", "weight_problems", "input_problems", "gating_problems", "instruction",
    "report", "_overflow", "counters", "bound", "narrow", "peak",
)  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """`old` at line and column of a file becomes `new`, within a function."""

    file: str
    line: int
    column: int
    function: str
    old: str
    new: str

    @property
    def name(self) -> str:
        return f"{self.file}:{self.line}:{self.column} {self.function}: {self.old} -> {self.new}"

    def source(self, text: str) -> str:
        """A name that stays when lines are put in before it: the line itself with the change in brackets."""
        row = text.splitlines()[self.line - 1]
        marked = f"{row[: self.column]}[{self.old} -> {self.new}]{row[self.column + len(self.old) :]}"
        return f"{self.file} {self.function}: {marked.strip()}"

    def applied(self, text: str) -> str:
        """The source with this change."""
        lines = text.splitlines(keepends=True)
        row = lines[self.line - 1]
        assert row[self.column : self.column + len(self.old)] == self.old, self.name
        lines[self.line - 1] = row[: self.column] + self.new + row[self.column + len(self.old) :]
        return "".join(lines)


def mutants(file: str, text: str) -> list[Mutant]:
    """All changes of a file, in the order of its text."""
    finder = _Finder(file, text)
    finder.visit(ast.parse(text))
    return finder.found


class _Finder(ast.NodeVisitor):
    """Walks the functions of a file; strings, annotations, slices of shapes and what `LEFT_OUT` names are passed by."""

    def __init__(self, file: str, text: str) -> None:
        self.file, self.lines = file, text.splitlines()
        self.inside: list[str] = []
        self.found: list[Mutant] = []

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        if node.name in LEFT_OUT:
            return
        self.inside.append(node.name)
        for default in (*node.args.defaults, *node.body):
            self.visit(default)
        self.inside.pop()

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        return

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if self.inside and node.value is not None:
            self.visit(node.value)

    def visit_Assert(self, node: ast.Assert) -> None:
        return

    def visit_Raise(self, node: ast.Raise) -> None:
        return

    def add(self, line: int, column: int, old: str, new: str) -> None:
        if self.inside:
            self.found.append(Mutant(self.file, line, column, self.inside[-1], old, new))

    def between(self, left: ast.expr, right: ast.expr, token: str) -> tuple[int, int] | None:
        """Line and column of an operator between two operands on one line."""
        if left.end_lineno != right.lineno or left.end_lineno is None:
            return None
        raw = self.lines[left.end_lineno - 1].encode()
        start, end = len(raw[: left.end_col_offset].decode()), len(raw[: right.col_offset].decode())  # type: ignore[index]
        at = self.lines[left.end_lineno - 1].find(token, start, end)
        return None if at < 0 else (left.end_lineno, at)

    def visit_Compare(self, node: ast.Compare) -> None:
        for left, op, right in zip([node.left, *node.comparators], node.ops, node.comparators):
            if type(op) in COMPARISONS:
                old, others = COMPARISONS[type(op)]
                place = self.between(left, right, old)
                if place:
                    self.add(*place, old, others)
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in zip(node.values, node.values[1:]):
            place = self.between(left, right, old)
            if place:
                self.add(*place, old, new)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if type(node.op) in SIGNS:
            old, new = SIGNS[type(node.op)]
            place = self.between(node.left, node.right, old)
            if place:
                self.add(*place, old, new)
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if type(node.value) is int:
            text = self.lines[node.lineno - 1][node.col_offset : node.end_col_offset]
            if text == str(node.value):
                for new in (node.value + 1, node.value - 1):
                    self.add(node.lineno, node.col_offset, text, str(new))


def chosen(found: list[Mutant], how_many: int, rng: random.Random) -> Iterator[Mutant]:
    """A sample that takes as many of each file as it can, in turns."""
    by_file: dict[str, list[Mutant]] = {}
    for m in found:
        by_file.setdefault(m.file, []).append(m)
    for group in by_file.values():
        rng.shuffle(group)
    taken = 0
    while taken < how_many and any(by_file.values()):
        for group in by_file.values():
            if group and taken < how_many:
                yield group.pop()
                taken += 1
