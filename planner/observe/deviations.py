"""How far the user's own measurements of speed lie from the formulas, in the terms that plans are moved by."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace as with_fields

import numpy as np
from numpy.typing import NDArray

from catalog.load import Catalog
from catalog.observation import Deviation, Observation
from catalog.parameters import NAMES
from planner import ownspeed
from planner.accuracy import predict
from planner.accuracy.deployment import Case
from planner.accuracy.predict import Described, Resolver, Values
from planner.observe.beside import speed_line
from planner.observe.observed import RATES, TIMES
from planner.ownspeed import Asked, Machine, Moved
from planner.remembered import remembered

ONE_RUN = 0.05
"""Spread (ln) of a measurement that was not repeated (assumed)."""
LEAST = 0.01
"""Spread of the median of any number of repeats: what does not average out (assumed)."""
STEP = 0.05
ROUNDS = 4
"""Of straightening: formulas are no straight lines in logarithms far from where they start."""
Latents = NDArray[np.float64]


@remembered(4)
def with_deviations(catalog: Catalog) -> Catalog:
    """The catalogue with what its observations say of the formulas; itself where there are none."""
    if not catalog.observations:
        return catalog
    return with_fields(catalog, deviations=of_catalog(catalog))


def of_catalog(catalog: Catalog) -> tuple[Deviation, ...]:
    """One per observed mean that a formula predicts, in the order of their ids."""
    rows = {row.id: row for row in catalog.observations if row.metric in (*RATES, *TIMES) and row.stat == "mean"}
    described, _ = predict.describe([speed_line(row) for row in rows.values()], catalog)
    if not described:
        return ()
    found = [rows[one.row.id] for one in described]
    resolver, latents = Resolver(catalog.speed, {}), np.zeros((len(found), 2))
    made: tuple[Deviation, ...] = ()
    for _ in range(ROUNDS):
        made = _straightened(found, described, resolver, latents)
        machines = ownspeed.machines(made)
        latents = np.array([_latent(machines, row) for row in found])
    return made


def _straightened(
    rows: Sequence[Observation], described: list[Described], resolver: Resolver, at: Latents
) -> tuple[Deviation, ...]:
    """Deviations of measured from predicted times around these latents, one pair per row."""
    here, decode, prefill = (_times(rows, described, resolver, at + step) for step in _STEPS)
    slopes = np.stack([(decode - here) / STEP, (prefill - here) / STEP], axis=1)
    measured = np.array([_sign(row) * math.log(row.value) for row in rows])
    left = measured - here + (slopes * at).sum(axis=1)
    return tuple(
        Deviation(
            accelerator=row.accelerator, engine=row.engine, version=row.engine_version, lane=row.lane, model=row.model,
            prompt=row.prompt, output=row.output, decode=float(slope[0]), prefill=float(slope[1]),
            deviation=float(off), noise=_noise(row),
        )
        for row, slope, off in zip(rows, slopes, left, strict=True)
    )  # fmt: skip


_STEPS = (np.zeros(2), np.array([STEP, 0.0]), np.array([0.0, STEP]))


def _times(rows: Sequence[Observation], described: list[Described], resolver: Resolver, at: Latents) -> Latents:
    """Logarithms of predicted times (of rates: of their inverses) with parameters moved row by row."""
    by = {
        id(case): Moved(decode=float(x[0]), prefill=float(x[1]))
        for one, x in zip(described, at, strict=True)
        for case in one.cases
    }

    def values(cases: list[Case]) -> Values:
        scaled = [ownspeed.scaled(resolver(case), by[id(case)]) for case in cases]
        return {name: np.array([getattr(one, name) for one in scaled]) for name in NAMES}

    signs = np.array([_sign(row) for row in rows])
    return np.asarray(signs * np.log(predict.evaluate(described, values)))


def _latent(machines: Mapping[tuple[str, str], Machine], row: Observation) -> tuple[float, float]:
    asked = Asked(
        accelerator=row.accelerator, engine=row.engine, version=row.engine_version, lane=row.lane, model=row.model,
        prompt=row.prompt, output=row.output,
    )  # fmt: skip
    found = machines[row.accelerator, row.engine].moved(asked)
    return found.decode, found.prefill


def _sign(row: Observation) -> float:
    return 1.0 if row.metric in TIMES else -1.0


def _noise(row: Observation) -> float:
    """Variance of the logarithm of a median of repeats, or of one run."""
    if row.repeats < 2 or not row.sd:
        return ONE_RUN**2
    return (row.sd / row.value) ** 2 / row.repeats + LEAST**2
