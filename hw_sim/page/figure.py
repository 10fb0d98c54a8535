"""Figures of the report, one family a file. Each is SVG text made here, with a sentence, an alt text and a table of its data."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes
    ----------
    name : id in the page and file name without ending; lower case, no blanks
    title, says : heading, and the sentence that says what is to be seen
    svg : the picture; its alt text stands in it
    columns, rows : its data as text
    note : what a reader must not overlook, shown in the colour of a warning
    """

    name: str
    title: str
    says: str
    svg: str
    columns: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    note: str = ""
