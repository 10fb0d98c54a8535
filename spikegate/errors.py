"""The one kind of error that users see."""

from __future__ import annotations


class DeployError(Exception):
    """A problem that the user can act on: where it is, what is wrong, what to do."""

    def __init__(self, where: str, problem: str, hint: str) -> None:
        self.where, self.problem, self.hint = where, problem, hint
        super().__init__(f"{where}: {problem}\n  hint: {hint}")
