"""The reference of all ops, written from the registry: each op's docstring, slots, fields, counters."""

from __future__ import annotations

import dataclasses
import inspect
import re

import numpy as np
from latex2mathml.converter import convert

from spikegate.graph.ir import COUNTERS, Op, load_ops

GROUPS = {
    "Synapses and neurons": ("dense", "conv", "lif", "level_conv", "max_pool", "token_mix", "current", "membrane"),
    "Attention": ("spiking_attention", "sdsa", "qk_token_gate", "qk_channel_gate", "multiscale_gate"),
    "Halting, merging, masks, exits": (
        "token_gate", "rectangle_gate", "contrast_gate", "token_merge", "token_move", "relay", "timestep_gate", "exit_gate",
    ),
    "Input and output": ("inject", "route", "step_window", "readout"),
}
OTHERS = "Layers of foreign NetX files"
HEAD = """# Ops, from the registry

This page is written from the registry when the site is built. Every op is one file in [`spikegate/ops/`](../../spikegate/ops);
[Contributing](../../CONTRIBUTING.md) shows how to add one. [Operations](../ops.md) has what each op computes and counts, exactly;
[Semantics](../semantics.md) says what time, halting and counters mean.

Slots: `?` marks an optional input, `*` one that takes several sources, whose values add up. Fields are what the file stores.
*Arithmetic* is all that the op may use on its synaptic path; *counters* are the ones that its examples raise.
"""


def ops_page() -> str:
    """Markdown of the whole page, an entry for each registered op."""
    ops = load_ops()
    grouped = {kind for kinds in GROUPS.values() for kind in kinds}
    groups = {**GROUPS, OTHERS: tuple(sorted(set(ops) - grouped))}
    parts = [HEAD]
    for title, kinds in groups.items():
        parts.append(f"## {title}\n")
        parts += [entry(ops[kind]) for kind in kinds]
    return "\n".join(parts)


def entry(cls: type[Op]) -> str:
    """Heading, text, equation and table of one op."""
    text, _, fields = inspect.cleandoc(cls.__doc__ or "").partition("\nAttributes\n----------\n")
    module = cls.__module__.removeprefix("spikegate.ops.")
    rows = [
        ("inputs", _codes(cls.slots)),
        ("output", _output(cls)),
        ("fields", ", ".join(f"`{f.name}`" for f in dataclasses.fields(cls)) or "none"),
        ("arithmetic", _codes(cls.arithmetic)),
        ("counters", _codes(_counters(cls))),
        ("file", f"[`spikegate/ops/{module}.py`](../../spikegate/ops/{module}.py)"),
    ]
    table = "| | |\n|---|---|\n" + "".join(f"| {name} | {value} |\n" for name, value in rows)
    listed = "".join(f"- {line}\n" for line in _joined(fields)) if fields.strip() else ""
    return f"### {cls.kind}\n\n{_mathml(text)}\n\n{listed}\n{table}\n"


def _codes(words: tuple[str, ...]) -> str:
    return ", ".join(f"`{w}`" for w in words) or "none"


def _joined(fields: str) -> list[str]:
    """The lines of an Attributes section; a line that is indented belongs to the one before."""
    lines: list[str] = []
    for line in fields.strip().splitlines():
        if line.startswith(" ") and lines:
            lines[-1] += " " + line.strip()
        elif line.strip():
            lines.append(line.strip())
    return [re.sub(r"^([\w, ]+?) : ", lambda m: ", ".join(f"`{n.strip()}`" for n in m[1].split(",")) + ": ", line) for line in lines]


def _mathml(text: str) -> str:
    """The docstring with each ``.. math::`` block as MathML, which browsers draw without a script."""
    out: list[str] = []
    formula: list[str] | None = None
    for line in [*text.replace("``", "`").splitlines(), ""]:
        if line.startswith(".. math::"):
            formula = [line.removeprefix(".. math::")]
        elif formula is not None and (line.startswith(" ") or not line.strip()):
            formula.append(line)
            if not line.strip() and "".join(formula).strip():
                out += ["", f'<div class="formula">{convert(" ".join(formula), display="block")}</div>', ""]
                formula = None
        else:
            out.append(line)
    return "\n".join(out).strip()


def _counters(cls: type[Op]) -> tuple[str, ...]:
    """Counters that the op's own examples raise, in the order of the record."""
    raised: set[str] = set()
    for op, steps in cls.examples(np.random.default_rng(7)):
        first = next(iter(steps[0].values()), None)
        batch = 2 if first is None else len(first[0] if isinstance(first, tuple) else first)
        state = op.state(batch)
        for k, inputs in enumerate(steps):
            t = np.full(batch, k + 1)
            raised |= {n for n, v in op.events(inputs, op.step(state, inputs, t), t).items() if np.any(v)}
    return tuple(c for c in COUNTERS if c in raised)


def _output(cls: type[Op]) -> str:
    """What the first example sends."""
    op, _ = next(iter(cls.examples(np.random.default_rng(7))))
    if op.gates_tokens:
        return "credit of each token"
    return "binary spikes" if op.payload.binary else "graded values"
