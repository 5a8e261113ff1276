"""Predictions for published measurements: `lanewise predict speed|memory|quality --truth IN.csv --out OUT.csv`.

The answer depends on the describing columns alone; a `value` column is never read.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from catalog import load as catalogue
from catalog.errors import BadInput, Unsupported
from catalog.load import Catalog
from catalog.parameters import NAMES, Parameters, Resolved
from planner.accuracy import predict_memory, truth
from planner.accuracy.deployment import Case, cases
from planner.accuracy.truth import Prediction, Row
from planner.benchmark import Bench, Habits, Load, expected, formula
from planner.speed import SHARED_FIELDS, Rates, Work
from planner.trace import Array

Kind = Literal["speed", "memory"]
DIGITS = {"speed": 6, "memory": 12, "quality": 6}
"""Significant digits that are written: file sizes are exact to the byte."""
COLUMNS = ("id", "predicted", "p10", "p90", "refused")


@dataclass(frozen=True)
class Described:
    """A row that can be predicted, and the ways to run it."""

    index: int
    row: Row
    cases: list[Case]


def run(kind: Kind, truth: Path, out: Path) -> None:
    """Read `truth`, write one prediction per row to `out`, in the same order."""
    write(predictions(kind, truth), kind, out)


def write(made: Sequence[Prediction], kind: str, out: Path) -> None:
    """One line per prediction, in the order of the rows."""
    with out.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for one in made:
            numbers = ("" if x is None else f"{x:.{DIGITS[kind]}g}" for x in (one.predicted, one.p10, one.p90))
            writer.writerow((one.id, *numbers, one.refused))


def predictions(kind: Kind, path: Path) -> list[Prediction]:
    """One prediction per row of the file. Raises Unsupported for a kind without formulas."""
    if kind not in PREDICTORS:
        raise Unsupported(f"no predictions of {kind} yet; there are: {', '.join(PREDICTORS)}", "$.kind")
    return PREDICTORS[kind](truth.read(path))


def speed(lines: list[dict[str, str]]) -> list[Prediction]:
    """Speed predictions with the shipped catalogue and parameters."""
    catalog = catalogue.load()
    resolver = Resolver(catalog.speed, {})
    described, refused = describe(lines, catalog)
    values = evaluate(described, resolver.values)
    made = dict(refused)
    for one, value in zip(described, values, strict=True):
        low, high = resolver.fitted.band(
            one.row.engine, one.row.load, one.row.metric, assumed=resolver.assumes(one.cases)
        )
        made[one.index] = Prediction(
            id=one.row.id, predicted=float(value), p10=float(value * low), p90=float(value * high)
        )
    return [made[index] for index in range(len(lines))]


PREDICTORS: dict[str, Callable[[list[dict[str, str]]], list[Prediction]]] = {
    "speed": speed,
    "memory": predict_memory.memory,
}


def describe(lines: Sequence[dict[str, str]], catalog: Catalog) -> tuple[list[Described], dict[int, Prediction]]:
    """The rows that can be predicted, and by position those that cannot, with the reason."""
    described: list[Described] = []
    refused: dict[int, Prediction] = {}
    for index, line in enumerate(lines):
        try:
            row = answerable(truth.row(line))
            described.append(Described(index, row, cases(row, catalog)))
        except BadInput as error:
            refused[index] = Prediction(id=line["id"], refused=error.message)
    return described, refused


def answerable(row: Row) -> Row:
    """The row again. Raises Unsupported where its load has no formula, BadInput where a needed column is empty."""
    formula(row.load, row.metric)
    needs = {"concurrency": row.users} if row.load == "closed" else {}
    needs |= {"isl": row.prompt} if row.metric != "decode_tok_s" else {}
    needs |= {"osl": row.output} if row.metric != "prefill_tok_s" else {}
    empty = [column for column, value in needs.items() if value <= 0]
    if empty:
        raise BadInput(f"{row.metric} under load {row.load} needs {', '.join(empty)}", "$.truth")
    return row


Values = Mapping[str, Array]
"""Parameter name to one value per case."""


def evaluate(described: Sequence[Described], values: Callable[[list[Case]], Values]) -> Array:
    """One prediction per row. Where several layouts are possible, the best: published systems are tuned."""
    made = np.full(len(described), np.nan)
    for block in blocks(described):
        made[block.rows] = block.predict(values(block.cases))
    return made


@dataclass(frozen=True)
class Block:
    """Rows of one load and metric: evaluated in one array pass."""

    rows: NDArray[np.intp]
    """Positions of the rows in the list they were taken from."""
    load: str
    metric: str
    cases: list[Case]
    owner: NDArray[np.intp]
    """For each case the row of this block it belongs to."""
    work: Work[Array]
    peaks: dict[str, Array]
    use: Load

    def predict(self, values: Values) -> Array:
        """The printed value of each row, given one value per case of every parameter."""
        rates = Rates(**self.peaks, **{name: values[name] for name in SHARED_FIELDS})
        habits = Habits(**{field.name: values[field.name] for field in fields(Habits)})
        bench = Bench(work=self.work, rates=rates, load=self.use, habits=habits)
        printed = np.broadcast_to(expected(bench, self.load, self.metric), (len(self.cases),))
        best = np.zeros(len(self.rows))
        np.maximum.at(best, self.owner, printed)
        return best


def blocks(described: Sequence[Described]) -> list[Block]:
    """Rows by load and metric, with their cases as arrays."""
    places: dict[tuple[str, str], list[int]] = {}
    for place, one in enumerate(described):
        places.setdefault((one.row.load, one.row.metric), []).append(place)
    return [_block(load, metric, rows, described) for (load, metric), rows in sorted(places.items())]


def _block(load: str, metric: str, rows: list[int], described: Sequence[Described]) -> Block:
    cases = [case for place in rows for case in described[place].cases]
    owner = [number for number, place in enumerate(rows) for _ in described[place].cases]
    return Block(
        rows=np.array(rows),
        load=load,
        metric=metric,
        cases=cases,
        owner=np.array(owner),
        work=Work(**_columns([case.work for case in cases])),
        peaks={name: np.array([case.peaks[name] for case in cases]) for name in cases[0].peaks},
        use=Load(**_columns([case.use for case in cases])),
    )


def _columns(items: Sequence[object]) -> dict[str, Array]:
    names = [field.name for field in fields(items[0])]  # type: ignore[arg-type]
    return {name: np.array([getattr(item, name) for item in items], dtype=float) for name in names}


@dataclass
class Resolver:
    """The parameters of cases; a few dozen sets of classes serve thousands of rows."""

    fitted: Parameters
    known: dict[tuple[str, ...], Resolved]

    def __call__(self, case: Case) -> Resolved:
        key = (case.family, *case.classes)
        if key not in self.known:
            self.known[key] = self.fitted.resolve(case.classes, case.family)
        return self.known[key]

    def values(self, cases: list[Case]) -> Values:
        """One value per case of every parameter."""
        found = [self(case) for case in cases]
        return {name: np.array([getattr(one, name) for one in found]) for name in NAMES}

    def assumes(self, cases: list[Case]) -> bool:
        """Whether any parameter of these cases rests on no measurement of their class."""
        return any(self(case).basis == "assumed" for case in cases)
