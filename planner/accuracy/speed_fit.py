"""Fit the speed parameters to published measurements and write the parameter file: `lanewise fit-speed`.

Nothing is tuned by hand: priors and exclusions below, measurements in the truth file, the rest follows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from catalog import load as catalogue
from catalog.errors import BadInput
from catalog.parameters import Basis, Excluded, Family, Interval, Parameter, Parameters, Seen, from_scale
from planner.accuracy import truth
from planner.accuracy.predict import Described, Resolver, describe, evaluate
from planner.accuracy.regression import NOISE, Measured, Prior, Solution, solve
from planner.accuracy.speed_board import weighted
from planner.trace import Array

Mask = NDArray[np.bool_]

SERVING = (
    Prior(name="weight_efficiency", value=0.85, sd=0.4),
    Prior(name="cache_efficiency", value=0.75, sd=0.4),
    Prior(
        name="matrix_efficiency", value=0.55, sd=0.5,
        levels={"generation": 0.15, "path": 0.25, "unpacking": 0.6, "instructions": 0.4, "accumulation": 0.5},
    ),
    Prior(name="attention_efficiency", value=0.5, sd=0.4),
    Prior(name="link_efficiency", value=0.35, sd=0.4),
    Prior(name="step_s", value=1e-3, sd=0.5),
    Prior(name="layer_s", value=3e-5, sd=0.4, levels={"generation": 0.3}),
    Prior(name="sequence_s", value=8e-6, sd=0.5, levels={"generation": 0.5}),
    Prior(name="exchange_s", value=8e-6, sd=0.4),
    Prior(name="expert_cost", value=1.3, sd=0.15, levels={"experts": 1.0}),
    Prior(name="routing_spread", value=0.7),
    Prior(name="tile_rows", value=16.0, sd=0.3),
    Prior(name="unpack_flops", value=0.0),
    Prior(name="request_s", value=1e-3, sd=0.6, levels={"engine": 0.5}),
    Prior(name="arrival_s", value=0.03, sd=0.5),
    Prior(name="bunching", value=0.6, sd=0.6, levels={"engine": 1.0}),
    Prior(name="pool_share", value=0.9, sd=0.3, levels={"engine": 0.3}),
    Prior(name="reserve_bytes", value=2e9, sd=0.7),
    Prior(name="steady_share", value=0.85, sd=0.5, levels={"engine": 0.4}),
    Prior(name="slo_share", value=0.9, sd=0.4),
    Prior(name="drain", value=1.5, sd=0.5),
    Prior(name="brevity", value=3.0, sd=1.0),
)  # fmt: skip
LLAMA_CPP = (
    Prior(name="weight_efficiency", value=0.83, sd=0.5),
    Prior(name="cache_efficiency", value=0.6, sd=0.5, levels={"attention": 0.5}),
    Prior(
        name="matrix_efficiency", value=0.3, sd=0.5,
        levels={"backend": 0.4, "weights": 0.3, "blas": 0.4, "age": 0.3},
    ),
    Prior(name="attention_efficiency", value=0.12, sd=0.6, levels={"attention": 0.6}),
    Prior(name="link_efficiency", value=0.5),
    Prior(name="step_s", value=5e-4, sd=0.6),
    Prior(name="layer_s", value=5e-5, sd=0.6, levels={"age": 0.3}),
    Prior(name="sequence_s", value=1e-5),
    Prior(name="exchange_s", value=2e-4, sd=0.7),
    Prior(name="expert_cost", value=1.2, sd=0.5),
    Prior(name="routing_spread", value=0.5),
    Prior(name="tile_rows", value=64.0, sd=0.7),
    Prior(name="unpack_flops", value=16.0, sd=0.7, levels={"backend": 0.4, "weights": 0.4}),
    Prior(name="request_s", value=0.0),
    Prior(name="arrival_s", value=0.01),
    Prior(name="bunching", value=0.5),
    Prior(name="pool_share", value=0.9),
    Prior(name="reserve_bytes", value=0.0),
    Prior(name="steady_share", value=0.9),
    Prior(name="slo_share", value=0.9),
    Prior(name="drain", value=1.0),
    Prior(name="brevity", value=2.0),
)  # fmt: skip
PRIORS: dict[Family, tuple[Prior, ...]] = {"serving": SERVING, "llama.cpp": LLAMA_CPP}


def _ids(prefix: str, *numbers: int) -> tuple[str, ...]:
    return tuple(f"{prefix}-{number:05d}" for number in numbers)


EXCLUDED = (
    Excluded(
        ids=_ids("AIC", *range(5737, 5755)),
        because="512 users, yet less time per token than with 64 on the same server",
    ),
    Excluded(
        ids=_ids("GST", *range(385, 433)),
        because="H100 values that repeat the A100 page digit for digit (GST-00295..00342)",
    ),
    Excluded(
        ids=_ids("GST", *range(989, 995)),
        because="one device three times as fast as the same flags elsewhere on the page: the result of two devices",
    ),
    Excluded(
        ids=_ids("AIC", 1005, 1006),
        because="prompts and answers together would need three times the dense FP4 peak",
    ),
    Excluded(
        ids=_ids("ARG", *range(484, 493), 1202, 1206, 1210),
        because="faster than reading all touched experts: identical prompts choose identical experts",
    ),
)

USUAL_NOISE = 0.18
"""Assumed spread (ln) of a measurement around the truth; NOISE holds the exceptions."""
LEAST_GROUPS = 5
LEAST_WIDENING = 1.2
"""An unseen class is never as sure as a seen one (assumed)."""
LEAST_WIDTH = 0.03
"""No interval is narrower than the repeatability of the measurements (assumed)."""
HELD = (0.74, 0.88)
"""Shares of rows without their accelerator that an 80 % interval may hold."""
HELD_OUT: dict[str, Callable[[Described], str]] = {
    "accelerator": lambda one: one.row.accelerator,
    "model": lambda one: one.row.model,
    "architecture": lambda one: next(c for c in one.cases[0].classes if c.startswith("architecture=")),
    "source": lambda one: lab(one.row.id),
}
"""What is left out, one value at a time, to see how well the rest predicts it."""


SAME_LAB = {"GSQ": "GST"}
"""Pages of one lab under several prefixes."""


def lab(row: str) -> str:
    """Who measured a row: the letters of its id's prefix."""
    prefix = row.partition("-")[0].rstrip("0123456789")
    return SAME_LAB.get(prefix, prefix)


@dataclass(frozen=True)
class Table:
    """The measurements that can be described, with their values."""

    rows: list[Described]
    measured: Measured
    groups: list[str]
    fitted: Mask
    """False for rows that are never fitted."""

    @classmethod
    def read(cls, path: Path) -> Table:
        """Raises BadInput where a row has no positive value."""
        lines = truth.read(path)
        rows, _ = describe(lines, catalogue.load())
        picked = [lines[one.index] for one in rows]
        values = np.array([_positive(line) for line in picked])
        excluded = {row for entry in EXCLUDED for row in entry.ids}
        return cls(
            rows=rows,
            measured=Measured(
                log=np.log(values),
                weight=np.array([float(line["weight"]) for line in picked]),
                noise=np.array([NOISE.get(one.row.metric, USUAL_NOISE) for one in rows]),
            ),
            groups=[line["group"] for line in picked],
            fitted=np.array([line["id"] not in excluded for line in picked]),
        )

    def of(self, family: Family) -> Mask:
        """Which rows belong to a family of engines."""
        return np.array([one.cases[0].family == family for one in self.rows])

    def solve(self, family: Family, keep: Mask, start: Solution | None = None) -> Solution:
        """Fit a family to the rows of `keep` that may be fitted."""
        chosen = np.flatnonzero(self.of(family) & keep & self.fitted)
        return solve(PRIORS[family], [self.rows[place] for place in chosen], self.measured.only(chosen), start)

    def groups_where(self, keep: Mask) -> set[str]:
        return {self.groups[place] for place in np.flatnonzero(keep)}

    def take(self, keep: Mask) -> list[Described]:
        return [self.rows[place] for place in np.flatnonzero(keep)]


@dataclass(frozen=True)
class Refit:
    """What a fit found, and how well it predicts what it has and has not seen (logarithms of predictions)."""

    table: Table
    parameters: Parameters
    inside: Array
    left_out: dict[str, Array]


def refit(path: Path) -> Refit:
    """Fit to `path`, then once more without each accelerator, model, architecture and lab; minutes."""
    table = Table.read(path)
    whole = solutions(table)
    out = {kind: left_out(table, whole, kind) for kind in HELD_OUT}
    wider = spread(table, out["architecture"]) / spread(table, out["accelerator"])
    engines = ", ".join(sorted({one.row.engine for one in table.rows}))
    found = Parameters(
        source=f"{path.name}: published measurements of {engines}; each row names its own source",
        rows=int(table.fitted.sum()),
        groups=len(table.groups_where(table.fitted)),
        unseen_widening=float(f"{max(LEAST_WIDENING, wider):.3g}"),
        parameter=tuple(row for family in PRIORS for row in entries(table, family, whole[family])),
        interval=tuple(intervals(table, [out[kind] - table.measured.log for kind in ("accelerator", "model")])),
        excluded=EXCLUDED,
        seen=tuple(Seen(family=family, architectures=architectures(table, family)) for family in PRIORS),
    )
    return Refit(table, found, shipped(table, found), out)


def solutions(table: Table) -> dict[Family, Solution]:
    """The fit of each family to all its rows."""
    everything = np.ones(len(table.rows), dtype=bool)
    return {family: table.solve(family, everything) for family in PRIORS}


def shipped(table: Table, found: Parameters) -> Array:
    """Logarithms of the predictions of all rows by the parameter file, whose numbers are rounded."""
    return np.asarray(np.log(evaluate(table.rows, Resolver(found, {}).values)))


def left_out(table: Table, whole: dict[Family, Solution], kind: str) -> Array:
    """Logarithms of predictions of each row by a fit that has not seen its accelerator, model, architecture or lab."""
    keys = np.array([HELD_OUT[kind](one) for one in table.rows])
    made = np.full(len(table.rows), np.nan)
    for family, start in whole.items():
        for key in sorted(set(keys[table.of(family)])):
            out = table.of(family) & (keys == key)
            made[out] = table.solve(family, keys != key, start).predict(table.take(out))
    return made


def spread(table: Table, log: Array) -> float:
    """Weighted 80 % quantile of the absolute error."""
    return weighted(np.abs(log - table.measured.log), table.measured.weight, 0.8)


def intervals(table: Table, errors: Sequence[Array]) -> Iterator[Interval]:
    """Where measurements lie around predictions of fits that have not seen them, per engine, load and metric.

    `errors` of predictions without the accelerator, then of others. A cell of fewer than LEAST_GROUPS groups borrows
    the engine's other loads.
    """
    cells: dict[tuple[str, str, str], list[int]] = {}
    for place, one in enumerate(table.rows):
        cells.setdefault((one.row.engine, one.row.load, one.row.metric), []).append(place)
    for (engine, load, metric), places in sorted(cells.items()):
        used = places
        if len({table.groups[place] for place in places}) < LEAST_GROUPS:
            used = [place for key, more in cells.items() if (key[0], key[2]) == (engine, metric) for place in more]
        weights = table.measured.weight[used]
        low, high = _band([-error[used] for error in errors], weights)
        yield Interval(
            engine=engine, load=load, metric=metric, rows=len(places),
            groups=len({table.groups[place] for place in places}),
            low_ln=min(low, -LEAST_WIDTH),
            high_ln=max(high, LEAST_WIDTH),
        )  # fmt: skip


def _band(apart: Sequence[Array], weights: Array) -> tuple[float, float]:
    """The middle 80 % of all kinds, or of the first where that band would hold too few or too many of it."""
    many = np.concatenate(apart)
    low, high = _middle(many, np.tile(weights, len(apart)))
    held = weights[(apart[0] >= low) & (apart[0] <= high)].sum() / weights.sum()
    return (low, high) if HELD[0] <= held <= HELD[1] else _middle(apart[0], weights)


def _middle(apart: Array, weights: Array) -> tuple[float, float]:
    """The middle 80 %."""
    return weighted(apart, weights, 0.1), weighted(apart, weights, 0.9)


def entries(table: Table, family: Family, solution: Solution) -> Iterator[Parameter]:
    """The rows of the parameter file: per parameter its global value, the width for unseen classes, each class."""
    found = dict(zip(solution.space.names, zip(solution.theta, solution.sd, strict=True), strict=True))
    spoken = _groups_by_class(table, family)
    for prior in PRIORS[family]:
        theta, sd = found.get(prior.name, (None, 0.0))
        value = prior.value if theta is None else from_scale(prior.name, math.exp(theta))
        yield _entry(family, prior.name, "", value, sd, 0 if theta is None else spoken[""])
        for level, width in prior.levels.items():
            yield _entry(family, prior.name, f"{level}=*", 1.0, width, 0)
            for name in (name for name in found if name.startswith(f"{prior.name}~{level}=")):
                of = name.partition("~")[2]
                yield _entry(family, prior.name, of, math.exp(found[name][0]), found[name][1], spoken[of])


def _entry(family: Family, name: str, of: str, value: float, sd: float, groups: int) -> Parameter:
    basis: Basis = "fitted" if groups else "assumed"
    value, sd = float(f"{value:.4g}"), float(f"{sd:.3g}")
    return Parameter(family=family, name=name, of=of, value=value, sd_ln=sd, groups=groups, basis=basis)


def architectures(table: Table, family: Family) -> tuple[str, ...]:
    """Architecture families with fitted rows."""
    known = table.take(table.of(family) & table.fitted)
    return tuple(sorted({HELD_OUT["architecture"](one).partition("=")[2] for one in known}))


def _groups_by_class(table: Table, family: Family) -> dict[str, int]:
    """How many groups of fitted rows speak to each class; "" for all."""
    found: dict[str, set[str]] = {"": set()}
    for place in np.flatnonzero(table.of(family) & table.fitted):
        for entry in {"", *(entry for case in table.rows[place].cases for entry in case.classes)}:
            found.setdefault(entry, set()).add(table.groups[place])
    return {entry: len(groups) for entry, groups in found.items()}


def _positive(line: dict[str, str]) -> float:
    value = float(line["value"] or 0)
    if value <= 0:
        raise BadInput(f"row {line['id']} has no positive value", "$.truth")
    return value
