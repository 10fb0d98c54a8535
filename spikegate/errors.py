"""The one kind of error that users see."""

from __future__ import annotations

import errno

LONGEST = 400  # characters of one line of a message
FOR_ERRNO = {
    errno.ENOSPC: "free some space or choose another folder with --output",
    errno.EDQUOT: "your quota is used up: free some space or choose another folder with --output",
    errno.EFBIG: "a file may not become so large here: raise the limit (ulimit -f) or choose another folder with --output",
    errno.EMFILE: "too few files may be open at a time: raise the limit (ulimit -n 1024)",
    errno.ENFILE: "the system has too many files open: close other programs",
    errno.EACCES: "check its permissions",
    errno.EPERM: "check its permissions",
    errno.EROFS: "choose a writable folder with --output",
    errno.ENOMEM: "give it more memory, or fewer samples at a time",
}


class DeployError(Exception):
    """A problem that the user can act on: where it is, what is wrong, what to do."""

    def __init__(self, where: str, problem: str, hint: str) -> None:
        self.where, self.problem, self.hint = (shown(text) for text in (where, problem, hint))
        super().__init__(f"{self.where}: {self.problem}\n  hint: {self.hint}")

    def __reduce__(self) -> tuple[type[DeployError], tuple[str, str, str]]:
        return type(self), (self.where, self.problem, self.hint)  # so that it comes whole out of a worker process


def first_line(error: BaseException) -> str:
    """The first line of what another library's error says, or its type where that is empty."""
    return (str(error).splitlines() or [""])[0] or type(error).__name__


def escaped(text: object) -> str:
    """A text that may come from a file, fit for a terminal: printable characters, tabs and line ends alone."""
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in str(text))


def shown(text: object) -> str:
    """`escaped`, and long lines cut in the middle."""
    lines = escaped(text).split("\n")
    return "\n".join(line if len(line) <= LONGEST else f"{line[: LONGEST - 100]} ... {line[-90:]}" for line in lines)


def hint_of(error: OSError, otherwise: str) -> str:
    """What to do about an error of the system."""
    return FOR_ERRNO.get(error.errno or 0, otherwise)
