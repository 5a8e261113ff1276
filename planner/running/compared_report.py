"""Compared lanes for people: the table of lanes, size against divergence drawn with characters, and the same as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich import box
from rich.markup import escape
from rich.table import Table

from catalog.units import GIB, MIB
from planner.plan import Estimate
from planner.proving import compared
from planner.proving.checks import Check
from planner.proving.compared import Comparison, Lane
from planner.report import console
from planner.wording import short

WIDTH, HEIGHT = 64, 14
"""Characters of the drawing."""
NOTHING_NAT = 1e-6
"""Divergences below are drawn there: the original itself has none."""
COLUMNS = ("lane", "engine", "weights", "KL nat (95 %)", "task points (95 %)", "TPOT p95", "$ a month", "verdict")
"""TPOT and cost are the plan's."""
COLOURS = {"pass": "green", "fail": "red", "inconclusive": "yellow"}


def show(made: Comparison, where: str) -> None:
    """The table, the drawing, what could not be planned."""
    out = console()
    out.print(f"[bold]{escape(made.model)}[/]: {len(made.lanes)} lanes; * = no other is smaller and nearer.")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in COLUMNS:
        table.add_column(name, overflow="fold")
    for lane in made.lanes:
        table.add_row(*_row(lane))
    out.print(table)
    out.print(escape(drawn(made.lanes)))
    for lane in made.lanes:
        if lane.because:
            out.print(f"{escape(lane.lane)}: {escape(lane.because)}", soft_wrap=True)
    for name, because in made.refused.items():
        out.print(f"[dim]not planned[/] {escape(name)}: {escape(because)}", soft_wrap=True)
    if where:
        out.print(escape(where), soft_wrap=True)


def _row(lane: Lane) -> tuple[str, ...]:
    verdict = lane.verdict or "not run"
    return (
        escape(f"{'*' if lane.undominated else ' '} {lane.lane}"),
        escape(lane.engine),
        _weights(lane),
        _measured(lane.divergence),
        _measured(lane.task),
        f"{_planned(lane, 'tpot_p95_s', 1e-3)} ms",
        _planned(lane, "price_usd_per_month", 1.0),
        f"[{COLOURS.get(verdict, 'dim')}]{verdict}[/]",
    )


def _weights(lane: Lane) -> str:
    planned = lane.planned.get("weight_bytes")
    if lane.bytes is not None:
        return size(lane.bytes)
    return "–" if planned is None else f"[dim]{size(planned.value)} planned[/]"


def size(count: float) -> str:
    """Bytes in the unit that people read."""
    return f"{count / GIB:.3g} GiB" if count >= GIB else f"{count / MIB:.3g} MiB"


def _planned(lane: Lane, name: str, scale: float) -> str:
    found: Estimate | None = lane.planned.get(name)
    return "–" if found is None else short(found.value / scale)


def _measured(check: Check | None) -> str:
    if check is None or check.value is None:
        return "–"
    if check.lower is None or check.upper is None:
        return f"{check.value:.3g}"
    return f"{check.value:.3g} ({check.lower:.3g} to {check.upper:.3g})"


def drawn(lanes: Sequence[Lane]) -> str:
    """Size to the right, divergence upwards on a logarithmic scale, a name at each lane; "" where fewer than two."""
    points = [(lane, found) for lane in lanes if (found := compared.point(lane)) is not None]
    if len(points) < 2:
        return ""
    sizes = [found[0] for _, found in points]
    levels = [math.log10(max(found[1], NOTHING_NAT)) for _, found in points]
    grid = [[" "] * WIDTH for _ in range(HEIGHT)]
    for (lane, _), wide, level in sorted(zip(points, sizes, levels, strict=True), key=lambda each: each[1]):
        column = round((WIDTH - 1) * _share(wide, sizes))
        row = round((HEIGHT - 1) * (1 - _share(level, levels)))
        _write(grid[row], column, f"{'*' if lane.undominated else 'o'} {lane.lane}")
    top, bottom = (f"{10**level:.1e}" for level in (max(levels), min(levels)))
    labels = [top, *[""] * (HEIGHT - 2), bottom]
    body = [f"{label:>8} |{''.join(row).rstrip()}" for label, row in zip(labels, grid, strict=True)]
    low, high = size(min(sizes)), size(max(sizes))
    axis = f"{'':>8} +{'-' * WIDTH}\n{'':>10}{low}{high:>{WIDTH - len(low)}}"
    return "\n".join([f"{'KL nat':>8}", *body, axis])


def _share(value: float, among: Sequence[float]) -> float:
    """Where a value lies between the least and the most, from 0 to 1."""
    least, most = min(among), max(among)
    return 0.5 if most == least else (value - least) / (most - least)


def _write(row: list[str], column: int, text: str) -> None:
    """A mark with its name to the right, or to the left where there is no room; marks are never written over."""
    mark, name = text[0], text[2:]
    row[column] = mark
    after = row[column + 1 : column + 2 + len(name)]
    if len(after) == len(name) + 1 and all(each == " " for each in after):
        row[column + 2 : column + 2 + len(name)] = name
        return
    start = column - 1 - len(name)
    if start >= 0 and all(each == " " for each in row[start:column]):
        row[start : column - 1] = name
