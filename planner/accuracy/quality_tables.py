"""The board of losses as tables, for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from catalog.load import Catalog
from planner.accuracy import quality_board, quality_compare, quality_folds
from planner.accuracy.quality_board import Residual, Score
from planner.accuracy.quality_compare import Compared

WORST = 10
"""Sources that are named."""
Table = tuple[str, tuple[str, ...], Sequence[tuple[str, ...]]]
"""Title, heads and rows; the first column is text, the others are numbers."""


def tables(found: Compared) -> list[Table]:
    """All of the board."""
    return [
        promises(found), estimates(found), *constants(found), verdicts(found),
        *residuals(found), worst(found.scores),
    ]  # fmt: skip


CLASSES: tuple[tuple[str, quality_board.Key, tuple[str, ...]], ...] = (
    ("family of lanes", quality_board.lane, ()),
    ("family of tasks", lambda one: one.family, ()),
    ("size of the model", lambda one: one.size, quality_board.SIZES),
    ("context", lambda one: one.context, (quality_board.UNSTATED, *(name for _, name in quality_board.CONTEXTS))),
)
"""Title, class of a row, and the order of the classes."""


def residuals(found: Compared) -> list[Table]:
    """Errors by class."""
    return [_residuals(title, quality_board.residuals(found.scores, by, order)) for title, by, order in CLASSES]


def _lanes(found: Compared) -> Table:
    return residuals(found)[0]


def promises(found: Compared) -> Table:
    """Every bar with its verdict."""
    rows = [(one.name, one.asked, one.reached, "met" if one.met else "NOT met") for one in quality_compare.bars(found)]
    return "bars", ("bar", "asked", "reached", "verdict"), rows


def estimates(found: Compared) -> Table:
    """Errors, shares and interval scores."""
    named = (
        ("the law, without the source", found.ours),
        ("the law, cells by lane as spelled", found.ours_by_method),
        ("medians and quantiles of families of lanes", found.lanes),
        ("medians and quantiles of lanes as spelled", found.methods),
    )
    rows = [
        (name, f"{one.rows}", f"{one.sources}", f"{one.error:.2f}", f"{one.bias:+.2f}", f"{one.cells}",
         f"{one.coverage:.1%}", f"{one.cell_score:.1f}", f"{one.row_score:.1f}")
        for name, one in named
    ]  # fmt: skip
    heads = ("estimate", "rows", "sources", "error", "bias", "cells", "in 80 %", "score of cells", "score of rows")
    return "estimates", heads, rows


def constants(found: Compared) -> list[Table]:
    """Constants by the lane that they name."""
    heads = ("lane", "rows", "sources", "law", "constant")
    return [
        (
            f"{one.said.name} ({one.said.source})",
            heads,
            [
                *((name, f"{n}", f"{s}", f"{ours:.2f}", f"{theirs:.2f}") for name, n, s, ours, theirs in one.lanes),
                ("together", f"{one.rows}", f"{one.sources}", f"{one.ours:.2f}", f"{one.theirs:.2f}"),
            ],
        )
        for one in found.beside
    ]


def verdicts(found: Compared) -> Table:
    """Tolerances as gates."""
    named = [*found.gates]
    for one in found.beside:
        named += [(f"law, typical, on the lanes of {one.said.name}", one.gates[0]), (one.said.name, one.gates[1])]
    rows = [(name, *(f"{gate.false_safe:.1%} / {gate.false_alarm:.1%}" for gate in gates)) for name, gates in named]
    return "wrongly passed / wrongly held back", ("rule", *(f"{t:g} %" for t in quality_board.TOLERANCES)), rows


def _residuals(title: str, found: Sequence[Residual]) -> Table:
    rows = [
        (one.name, f"{one.rows}", f"{one.sources}", f"{one.error:.2f}", f"{one.bias:+.2f}", f"{one.inside:.0%}")
        for one in found
    ]
    return f"by {title}", (title, "rows", "sources", "error", "bias", "in 80 %"), rows


def worst(scores: Sequence[Score]) -> Table:
    """The sources that are missed most."""
    found = sorted(quality_board.residuals(scores, lambda one: one.source), key=lambda one: -one.error)[:WORST]
    rows = [(one.name, f"{one.rows}", f"{one.error:.2f}", f"{one.bias:+.2f}", f"{one.inside:.0%}") for one in found]
    return f"the {len(rows)} sources missed most", ("source", "rows", "error", "bias", "in 80 %"), rows


def text(table: Table) -> list[str]:
    """A table for the terminal, its title above."""
    title, heads, rows = table
    wide = [max(len(line[place]) for line in (heads, *rows)) for place in range(len(heads))]
    return [title, *("  " + _aligned(line, wide) for line in (heads, *rows)), ""]


def _aligned(line: Sequence[str], wide: Sequence[int]) -> str:
    first, *others = (cell.rjust(width) if place else cell.ljust(width)
                      for place, (cell, width) in enumerate(zip(line, wide, strict=True)))  # fmt: skip
    return "  ".join((first, *others)).rstrip()


def markdown(table: Table) -> str:
    """The same for a page, without its title."""
    _, heads, rows = table
    rule = "|".join(("", "---", *("---:" for _ in heads[1:]), ""))
    return "\n".join([f"| {' | '.join(heads)} |", rule, *(f"| {' | '.join(row)} |" for row in rows)])


def printed(path: Path | None, catalog: Catalog) -> list[str]:
    """The board of the catalogue's evidence, every source left out in turn; or of a table, and which sources are new.

    Raises BadInput naming file, row and column of the table.
    """
    if path is None:
        return _sections("", quality_folds.left_out(catalog), catalog)
    found = quality_folds.of_table(path, catalog)
    new = sorted({one.source for one in found.outside})
    left = [f"{count} rows are not scored: {reason}" for reason, count in found.unscored.items()]
    return [
        *_sections(" (sources of the catalogue, each left out of the fit)", found.known, catalog),
        *_sections(f" (sources that the catalogue has not: {'; '.join(new)})", found.outside, catalog),
        *left,
    ]


def _sections(of: str, scores: Sequence[Score], catalog: Catalog) -> list[str]:
    known, lines = quality_folds.bare(catalog), list[str]()
    tasks, perplexities = quality_compare.split(scores)
    if tasks:
        lines += [
            f"tasks{of}",
            "",
            *(
                line
                for table in tables(quality_compare.compare(tasks, quality_compare.split(known)[0]))
                for line in text(table)
            ),
        ]
    if perplexities:
        found = quality_compare.compare(perplexities, quality_compare.split(known)[1])
        lines += [f"perplexities, inverted{of}", "", *text(estimates(found)), *text(_lanes(found))]
    return lines
