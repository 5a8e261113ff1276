"""Why everything else left: every lane, engine and device without a feasible candidate, with the deciding finding.

The candidate that came furthest speaks for its family: measured numbers before single layouts and caches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner import jobs
from planner.pairing import Option, Options
from planner.plan import Finding, Refused
from planner.rank import Name, name_of
from planner.rows import Mask
from planner.rules import MEASURED
from planner.rules.rule import Measured, Pairing, Placed
from planner.settle import Settled
from planner.sweep import Swept
from planner.trace import Array

ABOUT_THE_MODEL = ("H301", "H302")
"""Layout refusals that hold on every device."""


def refused(
    options: Options, unplaced: Sequence[tuple[Pairing, Finding]], swept: Sequence[Swept], settled: Settled
) -> tuple[Refused, ...]:
    """Every family that cannot be chosen, once, in the order in which it left."""
    feasible = {name_of(option.pairing) for block in swept for option in _served(block)}
    told: dict[Name, tuple[int, Finding]] = {
        name: (size, _deciding(block, index, settled))
        for name, (block, index, size) in _furthest(swept).items()
        if name not in feasible
    }
    for case, finding in (*options.refused, *unplaced):
        name = name_of(case)
        if name not in feasible:
            before = told.get(name, (0, finding))
            told[name] = (before[0] + 1, before[1])
    return tuple(
        Refused(lane=lane, engine=engine, accelerator=device, candidates=size, finding=finding)
        for (lane, engine, device), (size, finding) in told.items()
    )


def around(chosen: Option | None, unplaced: Sequence[tuple[Pairing, Finding]]) -> tuple[Finding, ...]:
    """What was found about the choice and which layouts the model itself rules out; without a choice, all layouts."""
    near = [said for _, said in unplaced if chosen is None or said.rule in ABOUT_THE_MODEL]
    said = {(finding.rule, finding.because): finding for finding in near}
    for finding in chosen.findings if chosen else ():
        said[finding.rule, finding.because] = finding
    return tuple(said.values())


def _served(block: Swept) -> Iterable[Option]:
    """Options with a feasible row within the budget."""
    index = np.flatnonzero(block.feasible & block.affordable)
    return (block.rows.options[option] for option in np.flatnonzero(np.bincount(block.rows.option[index])).tolist())


def _furthest(swept: Sequence[Swept]) -> dict[Name, tuple[Swept, int, int]]:
    """Per family: the row that came furthest of its first option without a feasible one, and how many rows all have."""
    made: dict[Name, tuple[Swept, int, int]] = {}
    for block in swept:
        for option, size, index in _left(block):
            name = name_of(option.pairing)
            first, row, before = made.get(name, (block, index, 0))
            made[name] = (first, row, before + size)
    return made


def _left(block: Swept) -> Iterator[tuple[Option, int, int]]:
    """Every option without a feasible row: how many rows it had, and the one that came furthest."""
    stays = block.feasible & block.affordable
    stage = block.starts * 1.0 + block.holds + block.served + block.feasible + stays
    with np.errstate(divide="ignore", invalid="ignore"):  # devices on which nothing at all may be claimed
        lacking = np.nan_to_num(block.room.cache_bytes / block.room.claimed_bytes, nan=-np.inf)
    closeness = np.where(block.starts, -block.devices, lacking)
    if not stage.size:
        return
    first = np.flatnonzero(np.diff(block.rows.option, prepend=-1))  # the rows of an option lie together
    sizes = np.diff(first, append=stage.size)
    near = _highest(stage, first, sizes)
    far = near & _highest(np.where(near, closeness, -np.inf), first, sizes)
    last = np.maximum.reduceat(np.where(far, np.arange(stage.size), -1), first)
    lost = ~stays[last]
    options = block.rows.option[first[lost]].tolist()
    for option, size, index in zip(options, sizes[lost].tolist(), last[lost].tolist(), strict=True):
        yield block.rows.options[option], size, index


def _highest(column: NDArray[np.floating[Any]], first: NDArray[np.intp], sizes: NDArray[np.intp]) -> Mask:
    """Which rows have the highest value of their option; `first` row and number of rows of each."""
    highest: Mask = column == np.repeat(np.maximum.reduceat(column, first), sizes)
    return highest


def _deciding(block: Swept, index: int, settled: Settled) -> Finding:
    """The first thing that the rules hold against a row; the array pass let it go for one of these reasons."""
    case = measured(block, index, settled)
    return next(said for rule in MEASURED if (said := rule(case)) is not None)


def measured(block: Swept, index: int, settled: Settled) -> Measured:
    """One row's deciding numbers, for the rules."""
    rows, cost = block.rows, float(block.usd_per_month[index])
    option = rows.options[int(rows.option[index])]
    missed = ((name, float(column[index])) for name, column in block.misses.items())
    broken, ratio = max(missed, key=itemgetter(1), default=("", 0.0))
    limit = settled.objectives.slo_s.get(broken) or jobs.limit_s(settled.request.workload.batch, broken)
    return Measured(
        placed=Placed(
            pairing=option.pairing,
            tensor=int(rows.tensor[index]),
            pipeline=int(rows.pipeline[index]),
            expert=bool(rows.expert[index]),
            data=int(rows.data[index]),
        ),
        cache=option.cached.dtype,
        weight_bytes=at(block.room.weight_bytes, index),
        claimed_bytes=at(block.room.claimed_bytes, index),
        cache_bytes=at(block.room.cache_bytes, index),
        longest_bytes=max(at(block.room.longest_bytes, index), at(block.room.running_bytes, index)),
        served=bool(block.served[index]),
        broken=broken,
        value_s=ratio * limit,
        limit_s=limit,
        rate=float(block.rate[index]),
        devices=float(block.devices[index]),
        usd_per_month=None if np.isnan(cost) else cost,
    )


def at(column: Array, index: int) -> float:
    """One row's number; a column of one number holds for every row."""
    return float(column if column.ndim == 0 else column[index])
