"""What a review's pages are laid out from: paragraphs, lists, tables, figures and notes, all plain text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct


class Paragraph(Struct, frozen=True, kw_only=True, tag=True):
    """`lead` marks the decision, `caution` what must not be missed."""

    text: str
    tone: Literal["plain", "lead", "caution"] = "plain"


class Items(Struct, frozen=True, kw_only=True, tag=True):
    """A list."""

    texts: tuple[str, ...]


class Table(Struct, frozen=True, kw_only=True, tag=True):
    """Rows as long as the head; `numbers` are the columns to align at the right; `marked` is a row to stress."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: frozenset[int] = frozenset()
    marked: int | None = None


class Figure(Struct, frozen=True, kw_only=True, tag=True):
    """The place of one chart."""

    chart: str


class Notes(Struct, frozen=True, kw_only=True, tag=True):
    """Footnotes: label and text."""

    notes: tuple[tuple[str, str], ...]


Block = Paragraph | Items | Table | Figure | Notes


class Section(Struct, frozen=True, kw_only=True):
    """One heading and what stands below it."""

    title: str
    blocks: tuple[Block, ...]


def table(head: str, rows: Iterable[Iterable[str]], numbers: Iterable[int] = (), marked: int | None = None) -> Table:
    """A table; `head` names its columns between bars."""
    names = tuple(name.strip() for name in head.split("|"))
    return Table(head=names, rows=tuple(tuple(row) for row in rows), numbers=frozenset(numbers), marked=marked)


def say(text: str) -> Paragraph:
    """An ordinary paragraph."""
    return Paragraph(text=text)


def warn(text: str) -> Paragraph:
    """A paragraph that must not be missed."""
    return Paragraph(text=text, tone="caution")
