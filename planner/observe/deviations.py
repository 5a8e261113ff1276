"""How far the user's own measurements of speed lie from the formulas, in the terms that plans are moved by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace as with_fields

import numpy as np
from numpy.typing import NDArray

from catalog.load import Catalog
from catalog.observation import Deviation, Observation
from catalog.parameters import NAMES
from planner import ownspeed, replayed
from planner.accuracy import predict
from planner.accuracy.deployment import Case
from planner.accuracy.predict import Resolver, Values
from planner.fits import Shifted
from planner.observe import replays
from planner.observe.beside import speed_line
from planner.observe.observed import RATES, TIMES
from planner.ownspeed import Asked, Machine, Moved
from planner.remembered import remembered

ONE_RUN = 0.05
"""Spread (ln) of a measurement that was not repeated (assumed)."""
LEAST = 0.01
"""Spread of the median of any number of repeats: what does not average out (assumed)."""
STEP = 0.05
ROUNDS, SETTLED = 12, 1e-3
"""Of straightening, at most, and the change that ends it: formulas are no straight lines in logarithms far from where
they start."""
Latents = NDArray[np.float64]


@remembered(4)
def with_deviations(catalog: Catalog) -> Catalog:
    """The catalogue with what its observations say of the formulas; itself where there are none."""
    if not catalog.observations:
        return catalog
    return with_fields(catalog, deviations=of_catalog(catalog))


def of_catalog(catalog: Catalog) -> tuple[Deviation, ...]:
    """One per observed number that a formula predicts, in the order of their ids: means of benchmarks, medians of the
    loads of plans."""
    sources = (_Benches(catalog), _Replays(catalog))
    found = [row for source in sources for row in source.rows]
    latents = np.zeros((len(found), 2))
    made: tuple[Deviation, ...] = ()
    for _ in range(ROUNDS if found else 0):
        made = _straightened(found, sources, latents)
        machines, before = ownspeed.machines(made), latents
        latents = np.array([_latent(machines, row) for row in found])
        if np.abs(latents - before).max() < SETTLED:
            break
    return tuple(one for _, one in sorted(zip((row.id for row in found), made, strict=True), key=lambda each: each[0]))


class _Benches:
    """Rows of benchmarks, whose formulas are those of the board."""

    def __init__(self, catalog: Catalog) -> None:
        means = {row.id: row for row in catalog.observations if row.metric in (*RATES, *TIMES) and row.stat == "mean"}
        rows = {key: row for key, row in means.items() if row.load != replayed.LOAD}
        self.described, _ = predict.describe([speed_line(row) for row in rows.values()], catalog)
        self.rows = [rows[one.row.id] for one in self.described]
        self.resolver = Resolver(catalog.speed, {})

    def times(self, at: Latents) -> Latents:
        """Logarithms of predicted times (of rates: of their inverses) with parameters moved row by row."""
        if not self.described:
            return np.zeros(0)
        by = {
            id(case): Moved(decode=float(x[0]), prefill=float(x[1]))
            for one, x in zip(self.described, at, strict=True)
            for case in one.cases
        }

        def values(cases: list[Case]) -> Values:
            scaled = [ownspeed.scaled(self.resolver(case), by[id(case)]) for case in cases]
            return {name: np.array([getattr(one, name) for one in scaled]) for name in NAMES}

        return np.asarray(_signs(self.rows) * np.log(predict.evaluate(self.described, values)))


class _Replays:
    """Rows of loads of plans, whose formulas are those of plans."""

    def __init__(self, catalog: Catalog) -> None:
        learnt = ("ttft_ms", "tpot_ms", replayed.RATE)
        rows = [row for row in catalog.observations if row.load == replayed.LOAD and row.metric in learnt]
        self.loads = {row.id: load for row in rows if (load := replays.of(row, catalog)) is not None}
        self.rows = [row for row in rows if row.id in self.loads and row.stat in ("p50", "mean")]
        self.fitted = catalog.speed

    def times(self, at: Latents) -> Latents:
        """The same as plans show them, simulated: far from a calm load formulas have other slopes."""
        said: dict[tuple[int, float, float], dict[str, float]] = {}
        values = []
        for row, (decode, prefill) in zip(self.rows, at.tolist(), strict=True):
            load = self.loads[row.id]
            key = id(load), decode, prefill
            if key not in said:
                said[key] = load.shown(Shifted(self.fitted, Moved(decode=decode, prefill=prefill)))
            values.append(said[key][row.metric])
        return np.asarray(_signs(self.rows) * np.log(values)) if values else np.zeros(0)


def _straightened(
    rows: Sequence[Observation], sources: tuple[_Benches, _Replays], at: Latents
) -> tuple[Deviation, ...]:
    """Deviations of measured from predicted times around these latents, one pair per row."""
    parts = np.split(at, [len(sources[0].rows)])
    paired: list[tuple[_Benches | _Replays, Latents]] = list(zip(sources, parts, strict=True))
    here, *moved = (np.concatenate([source.times(part + step) for source, part in paired]) for step in _STEPS)
    slopes = np.stack([(each - here) / STEP for each in moved], axis=1)
    left = _signs(rows) * np.log([row.value for row in rows]) - here + (slopes * at).sum(axis=1)
    return tuple(
        Deviation(
            accelerator=row.accelerator, engine=row.engine, version=row.engine_version, lane=row.lane, model=row.model,
            prompt=row.prompt, output=row.output, decode=float(slope[0]), prefill=float(slope[1]),
            deviation=float(off), noise=_noise(row),
        )
        for row, slope, off in zip(rows, slopes, left, strict=True)
    )  # fmt: skip


_STEPS = (np.zeros(2), np.array([STEP, 0.0]), np.array([0.0, STEP]))


def _signs(rows: Sequence[Observation]) -> Latents:
    return np.array([1.0 if row.metric in TIMES else -1.0 for row in rows])


def _latent(machines: Mapping[tuple[str, str], Machine], row: Observation) -> tuple[float, float]:
    asked = Asked(
        accelerator=row.accelerator, engine=row.engine, version=row.engine_version, lane=row.lane, model=row.model,
        prompt=row.prompt, output=row.output,
    )  # fmt: skip
    found = machines[row.accelerator, row.engine].moved(asked)
    return found.decode, found.prefill


def _noise(row: Observation) -> float:
    """Variance of the logarithm of a median of repeats, or of one run."""
    if row.repeats < 2 or not row.sd:
        return ONE_RUN**2
    return (row.sd / row.value) ** 2 / row.repeats + LEAST**2
