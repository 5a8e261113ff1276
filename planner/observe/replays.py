"""Rows of a plan's load, each with the replica that it speaks of; rows of one run share theirs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from catalog.errors import BadInput, Unsupported
from catalog.load import Catalog
from catalog.observation import Observation
from planner import ownspeed, replayed
from planner.accuracy.truth import Prediction
from planner.fits import Fits, Shifted
from planner.remembered import remembered
from planner.replayed import Replayed

ESTIMATED = {"ttft_ms": "ttft", "tpot_ms": "tpot", "e2e_ms": "e2e", replayed.RATE: "tpot"}
"""Whose band is the interval of a metric."""
SAID = ("id", "run", "metric", "stat", "unit", "source", "machine")
BLANK: dict[str, Any] = {**dict.fromkeys(SAID, ""), "value": 0.0, "sd": 0.0, "repeats": 0}
"""What differs between numbers of one load."""


def of(row: Observation, catalog: Catalog) -> Replayed | None:
    """The replica under its load; None where the catalogue does not know it, or its formulas do not carry the rate."""
    try:
        return _replayed(catalog, replace(row, **BLANK))
    except BadInput:
        return None


@remembered(256)
def _replayed(catalog: Catalog, row: Observation) -> Replayed:
    made = Replayed(row, catalog)
    if not made.carried(Shifted(catalog.speed, ownspeed.STILL)):
        raise Unsupported("by the formulas such a replica does not carry this rate")
    return made


def predictions(rows: Sequence[Observation], catalog: Catalog) -> list[Prediction]:
    """What a plan without any own measurement shows, with its 80 % intervals."""
    return [_prediction(row, catalog) for row in rows]


def _prediction(row: Observation, catalog: Catalog) -> Prediction:
    if row.stat not in ("p50", "mean") or row.metric not in ESTIMATED:
        return Prediction(id=row.id, refused="no estimate of a plan is beside it")
    try:
        load = _replayed(catalog, replace(row, **BLANK))
        fits = Fits(catalog.speed)
        value = load.shown(fits).get(row.metric)
    except BadInput as fault:
        return Prediction(id=row.id, refused=fault.message)
    if value is None:
        return Prediction(id=row.id, refused="its rate is given, not predicted")
    low, high = fits.band(load.option.pairing, ESTIMATED[row.metric])
    if row.metric == replayed.RATE:
        low, high = 1 / high, 1 / low
    return Prediction(id=row.id, predicted=value, p10=value * min(low, 1.0), p90=value * max(high, 1.0))
