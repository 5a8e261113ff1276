"""How far predictions are from published measurements, per engine, load and metric: `lanewise accuracy`.

Every group of rows counts once (column `weight`). The error is the logarithm of predicted over measured: 0.1 is about
10 %. Coverage stands beside error, because refusing hard rows would improve it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import numpy as np
from msgspec import Struct

from catalog.errors import Unsupported
from catalog.load import DATA
from planner.accuracy import memory_board, predict, speed_order, truth
from planner.accuracy.predict import Kind
from planner.accuracy.truth import Prediction
from planner.trace import Array


class Cell(Struct, frozen=True, kw_only=True):
    """One line of the board. Errors are logarithms; None where nothing was answered."""

    engine: str
    load: str
    metric: str
    rows: int
    groups: int
    coverage: float
    """Share of the weight that got an answer."""
    median: float | None = None
    p90: float | None = None
    bias: float | None = None
    """Median of ln(predicted / measured): above 0 is too high."""
    interval_coverage: float | None = None
    interval_width: float | None = None
    """Median of ln(p90 / p10)."""


class Score(Struct, frozen=True, kw_only=True):
    """One measurement with its answer: errors as logarithms, None where refused."""

    cell: tuple[str, str, str]
    group: str
    weight: float
    error: float | None
    inside: bool
    width: float


def run(kind: Kind, truth: Path | None = None, out: TextIO = sys.stdout) -> None:
    """Print the board of the shipped measurements, or of `truth`."""
    print(*shown(kind, truth or shipped(kind)), sep="\n", file=out)


def shipped(kind: Kind) -> Path:
    """The measurements that the package carries."""
    return DATA / "truth" / f"{kind}.csv"


def shown(kind: Kind, path: Path) -> list[str]:
    """The board as text. Raises Unsupported for a kind without one."""
    if kind == "memory":
        return memory_board.text(memory_board.board(truth.read(path)))
    rows, answers = truth.read(path), predict.predictions(kind, path)
    return [*lines(cells(scores(rows, answers))), *ordered(rows, answers)]


def ordered(rows: Sequence[dict[str, str]], answers: Sequence[Prediction]) -> list[str]:
    """How many pairs of rows come in the measured order, and the lane table, as text."""
    both = [
        (truth.row(line), float(line["value"]), answer.predicted)
        for line, answer in zip(rows, answers, strict=True)
        if answer.predicted and float(line.get("value") or 0) > 0
    ]
    if not both:
        return []
    found, values, made = zip(*both, strict=True)
    measured, predicted = np.log(values), np.log(made)
    return speed_order.text(
        speed_order.orders(found, measured, predicted), speed_order.signs(found, measured, predicted)
    )


def board(kind: Kind, path: Path) -> tuple[Cell, ...]:
    """One cell per engine, load and metric, and one for everything."""
    if kind != "speed":
        raise Unsupported(f"no board of loads for {kind}; there is: speed", "$.kind")
    return cells(scores(truth.read(path), predict.predictions(kind, path)))


def scores(rows: Sequence[dict[str, str]], answers: Sequence[Prediction]) -> list[Score]:
    """Measurements beside predictions; a value of zero or less has no logarithm and is left out."""
    return [
        _score(line, answer) for line, answer in zip(rows, answers, strict=True) if float(line.get("value") or 0) > 0
    ]


def cells(scored: Sequence[Score]) -> tuple[Cell, ...]:
    """The board of these measurements."""
    keys = sorted({one.cell for one in scored})
    found = [_cell(key, [one for one in scored if one.cell == key]) for key in keys]
    return (*found, _cell(("all", "", ""), list(scored)))


def weighted(values: Sequence[float] | Array, weights: Sequence[float] | Array, share: float) -> float:
    """The smallest value with at least `share` of the weight at or below it."""
    order = np.argsort(values, kind="stable")
    running = np.cumsum(np.asarray(weights)[order])
    place = int(np.searchsorted(running, share * running[-1] - 1e-12))
    return float(np.asarray(values)[order][min(place, len(order) - 1)])


def lines(found: Sequence[Cell]) -> list[str]:
    """The board as text."""
    head = f"{'engine / load / metric':<42} {'rows':>5} {'groups':>6} {'answered':>8} {'median':>7} {'p90':>7} {'bias':>7} {'in 80 %':>8} {'width':>6}"  # noqa: E501
    return [head, *(_line(cell) for cell in found)]


def _line(cell: Cell) -> str:
    name = " / ".join(part for part in (cell.engine, cell.load, cell.metric) if part)
    numbers = (cell.median, cell.p90, cell.bias, cell.interval_coverage, cell.interval_width)
    widths = (7, 7, 7, 8, 6)
    shown = " ".join(f"{'-' if x is None else f'{x:.3f}':>{width}}" for x, width in zip(numbers, widths, strict=True))
    return f"{name:<42} {cell.rows:>5} {cell.groups:>6} {cell.coverage:>8.3f} {shown}"


def _score(line: dict[str, str], answer: Prediction) -> Score:
    value, given = float(line["value"]), answer.predicted
    low, high = answer.p10 or 0.0, answer.p90 or 0.0
    return Score(
        cell=(line["engine"], line.get("load", ""), line["metric"]),
        group=line.get("group", ""),
        weight=float(line.get("weight") or 1),
        error=math.log(given / value) if given else None,
        inside=given is not None and low <= value <= high,
        width=math.log(high / low) if low else 0.0,
    )


def _cell(key: tuple[str, str, str], scored: list[Score]) -> Cell:
    answered = [one for one in scored if one.error is not None]
    weights = [one.weight for one in answered]
    whole, given = sum(one.weight for one in scored), sum(weights)
    engine, load, metric = key
    groups = len({one.group for one in scored})
    cell = Cell(engine=engine, load=load, metric=metric, rows=len(scored), groups=groups, coverage=given / whole)
    if not answered:
        return cell
    errors = [one.error or 0.0 for one in answered]
    sizes = [abs(error) for error in errors]
    return Cell(
        engine=engine, load=load, metric=metric, rows=len(scored), groups=groups, coverage=given / whole,
        median=weighted(sizes, weights, 0.5),
        p90=weighted(sizes, weights, 0.9),
        bias=weighted(errors, weights, 0.5),
        interval_coverage=sum(one.weight for one in answered if one.inside) / given,
        interval_width=weighted([one.width for one in answered], weights, 0.5),
    )  # fmt: skip
