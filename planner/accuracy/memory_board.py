"""How far memory predictions are from start-up logs, per engine, version and metric; and with models left out.

Every row counts once. The error is ln(predicted / measured); a printed value of zero or less has none and is skipped.
`starts` is right or wrong.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from statistics import median
from typing import NamedTuple

import msgspec
import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from catalog import load as catalogue
from catalog.errors import BadInput
from catalog.load import DATA, Catalog
from planner.accuracy import logs, memory_fit, predict_memory, truth
from planner.accuracy.logs import Described
from planner.accuracy.memory_fit import Measured
from planner.accuracy.truth import Prediction

Key = tuple[str, str, str]
"""Engine, version, metric."""
EPOCHS = {
    "0": "before 0.8", "0.8": "0.8-0.13", "0.14": "0.14-0.18", "0.19": "0.19", "0.20": "0.20", "0.21": "since 0.21",
}  # fmt: skip
"""Releases at which vLLM's accounting changed."""


class Cell(Struct, frozen=True, kw_only=True):
    """One line of the board. Errors are logarithms; None where nothing was answered or the metric has none."""

    engine: str
    version: str
    metric: str
    rows: int
    models: int
    coverage: float
    """Share of the rows that got an answer."""
    median: float | None = None
    p90: float | None = None
    bias: float | None = None
    """Median of ln(predicted / measured): above 0 is too high."""
    interval_coverage: float | None = None
    right: int | None = None
    """`starts` alone: answers that agree with the log."""


class Score(NamedTuple):
    """One measurement with its answer."""

    key: Key
    model: str
    value: float
    answer: Prediction


def board(lines: Sequence[dict[str, str]]) -> tuple[Cell, ...]:
    """The board of these measurements."""
    return cells(scores(lines, predict_memory.memory(lines)))


def scores(lines: Sequence[dict[str, str]], answers: Sequence[Prediction]) -> list[Score]:
    """Measurements beside predictions."""
    pairs = [(line, answer) for line, answer in zip(lines, answers, strict=True) if line.get("value")]
    made = [Score(key(line), line["model"], float(line["value"]), answer) for line, answer in pairs]
    return [one for one in made if one.value > 0 or one.key[2] == "starts"]


def key(line: dict[str, str]) -> Key:
    """The cell that a line belongs to."""
    row = truth.start(line)
    if row.engine != "vllm":
        built = logs.build(row)
        return row.engine, f"b{built // 1000}xxx" if built else "not stated", row.metric
    release = logs.release(row)
    if release is None:
        return row.engine, "not stated", row.metric
    since = [name for epoch, name in EPOCHS.items() if not logs.memory_before(release, epoch)]
    return row.engine, since[-1], row.metric


def cells(scored: Sequence[Score]) -> tuple[Cell, ...]:
    """One cell per engine, version and metric, in that order."""
    return tuple(_cell(each, [one for one in scored if one.key == each]) for each in sorted({s.key for s in scored}))


def _cell(key: Key, scored: list[Score]) -> Cell:
    answered = [one for one in scored if one.answer.predicted is not None]
    cell = Cell(
        engine=key[0], version=key[1], metric=key[2], rows=len(scored), models=len({one.model for one in scored}),
        coverage=len(answered) / len(scored),
    )  # fmt: skip
    if key[2] == "starts":
        right = sum(one.answer.predicted == one.value for one in answered)
        return replace(cell, right=right, interval_coverage=_inside(answered))
    if not answered:
        return cell
    errors = [math.log((one.answer.predicted or 0.0) / one.value) for one in answered]
    sizes = np.sort(np.abs(errors))
    return replace(
        cell,
        median=float(sizes[(len(sizes) - 1) // 2]),
        p90=float(sizes[math.ceil(0.9 * len(sizes)) - 1]),
        bias=median(errors),
        interval_coverage=_inside(answered),
    )


def _inside(answered: list[Score]) -> float | None:
    held = [(one.answer.p10 or 0.0) <= one.value <= (one.answer.p90 or 0.0) for one in answered]
    return sum(held) / len(held) if held else None


# ---- left out --------------------------------------------------------------------------------------------------------


def left_out(lines: Sequence[dict[str, str]], group: Callable[[Described], str]) -> list[Prediction]:
    """Each row predicted with constants fitted without its group; what cannot be described is refused as usual."""
    catalog = catalogue.load()
    known = measured(lines, catalog)
    groups = {line["id"]: group(row.found) for line, row in known}
    unfitted = {name for entry in excluded() for name in entry.ids}
    fitted = [row for _, row in known if row.found.row.id not in unfitted]
    made: dict[str, Prediction] = {}
    for name in sorted(set(groups.values())):
        refitted = memory_fit.refit([row for row in fitted if group(row.found) != name], catalog)
        own = [line for line, _ in known if groups[line["id"]] == name]
        made |= {one.id: one for one in predict_memory.answers(own, catalog, refitted)}
    plain = predict_memory.answers([line for line in lines if line["id"] not in made], catalog)
    made |= {one.id: one for one in plain}
    return [made[line["id"]] for line in lines]


class Excluded(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rows that are scored but not fitted to."""

    ids: tuple[str, ...]
    reason: str


@cache
def excluded(path: Path = DATA / "truth" / "memory.toml") -> tuple[Excluded, ...]:
    """Those of the shipped table."""
    return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8"))["excluded"], tuple[Excluded, ...])


def measured(lines: Iterable[dict[str, str]], catalog: Catalog) -> list[tuple[dict[str, str], Measured]]:
    """The lines that have a value and an answer."""
    found = []
    for line in lines:
        try:
            row = logs.describe(truth.start(line), catalog)
            logs.value(row)
        except BadInput:
            continue
        if line.get("value"):
            found.append((line, Measured(row, float(line["value"]))))
    return found


def text(found: Sequence[Cell]) -> list[str]:
    """The board as lines of text."""
    head = f"{'engine / version / metric':<50} {'rows':>5} {'models':>6} {'answered':>8} {'median':>7} {'p90':>7} {'bias':>7} {'in 80 %':>8}"  # noqa: E501
    return [head, *(_line(cell) for cell in found)]


def _line(cell: Cell) -> str:
    name = f"{cell.engine} / {cell.version} / {cell.metric}"
    start = f"{name:<50} {cell.rows:>5} {cell.models:>6} {cell.coverage:>8.3f}"
    if cell.right is not None:
        return f"{start} {cell.right:>7} right, {round(cell.rows * cell.coverage) - cell.right} wrong"
    numbers = ((cell.median, 7), (cell.p90, 7), (cell.bias, 7), (cell.interval_coverage, 8))
    return start + "".join(f" {'-' if x is None else f'{x:.4f}':>{width}}" for x, width in numbers)
