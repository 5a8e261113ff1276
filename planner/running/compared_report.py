"""Compared lanes for people: the table of lanes, and size and speed against divergence drawn with characters."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

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
SPEEDS = {"TTFT ms": ("ttft_p50_s", 1e-3), "TPOT ms": ("tpot_p50_s", 1e-3), "requests/s": (compared.RATE, 1.0)}
"""Column -> what it shows, and its unit."""
COLUMNS = ("lane", "engine", "weights", "KL nat (95 %)", "task points (95 %)", *SPEEDS, "$ a month", "verdict")
"""Cost is the plan's."""
WIDE = 140
"""Characters of the table: ten columns, half of them with intervals."""
COLOURS = {"pass": "green", "fail": "red", "inconclusive": "yellow"}


def show(made: Comparison, where: str) -> None:
    """The table, the drawing, what could not be planned."""
    out = console(WIDE)
    paced = compared.paced(made.lanes)
    beaten = "smaller, nearer and faster" if paced else "smaller and nearer"
    out.print(f"[bold]{escape(made.model)}[/]: {len(made.lanes)} lanes; * = no other is {beaten}.")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in COLUMNS:
        table.add_column(name, overflow="fold")
    for lane in made.lanes:
        table.add_row(*_row(lane))
    out.print(table)
    for line in about_speeds(made.lanes):
        out.print(f"[dim]{escape(line)}[/]", soft_wrap=True)
    out.print(escape(drawn(made.lanes)))
    if paced:
        out.print(escape(drawn(made.lanes, TIME)))
    for lane in made.lanes:
        if lane.served not in ("", "measured"):
            out.print(f"{escape(lane.lane)}: served: {escape(lane.served)}: {escape(lane.unserved)}", soft_wrap=True)
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
        *(_speed(lane, name, scale) for name, scale in SPEEDS.values()),
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


def _speed(lane: Lane, name: str, scale: float) -> str:
    """Measured with its interval, or the plan's number, called an estimate."""
    found = lane.speeds.get(name)
    if found is None:
        planned = lane.planned.get(name)
        return "–" if planned is None else f"[dim]{short(planned.value / scale)} est.[/]"
    if found.low is None or found.high is None:
        side = "at least" if found.high is None else "below"
        return f"{side} {short(found.value / scale)}"
    low, high = (short(end / scale) for end in (found.low, found.high))
    if name == compared.RATE:
        return f"{low} to {high}"
    return f"{short(found.value / scale)} ({low} to {high})"


def about_speeds(lanes: Sequence[Lane]) -> tuple[str, ...]:
    """What the columns of speeds are, as far as they hold anything measured."""
    if not any(lane.speeds for lane in lanes):
        return ("TTFT, TPOT: medians at the planned load; requests/s: the highest rate. All as planned: est.",)
    said = (
        "TTFT, TPOT: medians at the planned load with 95 % intervals, est. = as planned; requests/s: the highest rate "
        "held, below the lowest that did not.",
    )
    elsewhere = tuple(dict.fromkeys(lane.elsewhere for lane in lanes if lane.elsewhere))
    return (*said, *(f"Measured and estimated speeds are not of one machine: {each}." for each in elsewhere))


class Axis(NamedTuple):
    """What is to the right."""

    point: Callable[[Lane], tuple[float, float] | None]
    said: Callable[[float], str]


def drawn(lanes: Sequence[Lane], across: Axis | None = None) -> str:
    """Size (or `across`) to the right, divergence upwards on a logarithmic scale, a name at each lane; "" where fewer
    than two."""
    where, said = across or SIZE
    points = [(lane, found) for lane in lanes if (found := where(lane)) is not None]
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
    low, high = said(min(sizes)), said(max(sizes))
    axis = f"{'':>8} +{'-' * WIDTH}\n{'':>10}{low}{high:>{WIDTH - len(low)}}"
    return "\n".join([f"{'KL nat':>8}", *body, axis])


SIZE = Axis(compared.point, size)
TIME = Axis(compared.pace, lambda seconds: f"{short(seconds * 1000)} ms a token")


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
