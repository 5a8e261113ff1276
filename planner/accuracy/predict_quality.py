"""Predictions for rows of measured quality: `lanewise predict quality`.

The law with the parameters as they are, for every row alike: a row whose source they were fitted to is no exception.
What the row's table measured, noted and printed as error is never read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from catalog.benchmarks import Benchmark
from catalog.load import Catalog
from catalog.quality_parameters import SeverityParameters
from planner import measured, severity
from planner.accuracy import quality_truth
from planner.accuracy.quality_truth import Row
from planner.accuracy.truth import Prediction
from planner.measured import Described
from planner.quality import T80
from planner.severity import Severity

UNSIZED = 1.5
"""Standard deviation of the logarithm of a model's size where nothing says it: that of the evidence's models."""


def predictions(path: Path, catalog: Catalog) -> list[Prediction]:
    """One prediction per row of the file, in its order."""
    found = quality_truth.rows(quality_truth.read(path), catalog, str(path))
    return [answer(row, catalog.severity, catalog.benchmarks) for row in found]


def answer(row: Row, fitted: SeverityParameters, benchmarks: tuple[Benchmark, ...]) -> Prediction:
    """Recovery in percent with its 80 % interval, or why there is none."""
    if row.refused:
        return Prediction(id=row.row.id, refused=row.refused)
    loss, spread = expected(measured.described(row.row, benchmarks), fitted, sized=row.sized)
    low, high = 100 - loss - T80 * spread, 100 - loss + T80 * spread
    return Prediction(id=row.row.id, predicted=100 - loss, p10=max(0.0, low), p90=high)


def expected(row: Described, fitted: SeverityParameters, *, sized: bool = True) -> tuple[float, float]:
    """Median loss and spread in percent; wider where the model's size had to be assumed."""
    found: Severity = severity.severity(fitted, row.what, row.where)
    unknown = 0.0 if sized else found.loss * fitted.slopes["size"].value * UNSIZED
    return found.loss, math.hypot(found.spread, unknown)


def all_of(rows: Sequence[Row], catalog: Catalog) -> list[Prediction]:
    """Predictions with the catalogue's parameters."""
    return [answer(row, catalog.severity, catalog.benchmarks) for row in rows]
