"""Whether predictions put measurements in the measured order: pairs of rows that differ in one choice alone.

A purchase is a comparison. A pair counts where the measured values differ by more than SAME; repeats of one setting are
averaged first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from typing import Literal

import numpy as np
from msgspec import Struct

from planner.accuracy.truth import Row
from planner.trace import Array

Choice = Literal["lane", "accelerator", "layout"]
SAME = math.log(1.08)
"""ln; closer measurements have no order: repeats differ by as much."""
NOTED = ("depth", "fa", "hipblaslt", "backend", "n_requests", "chunk", "expert_parallel")
CHOICES: dict[Choice, Callable[[Row], tuple[object, ...]]] = {
    "lane": lambda row: (row.lane,),
    "accelerator": lambda row: (row.accelerator,),
    "layout": lambda row: (row.accelerators, row.tensor, row.replicas),
}
TABLE_LAB, TABLE_METRIC, BASE = "GSQ", "total_tok_s", "bf16"
"""The lane table of GPUStack: one 8B model, all requests queued, three devices."""


class Order(Struct, frozen=True, kw_only=True):
    """How many pairs that differ only in `choice` are predicted in the measured order."""

    choice: Choice
    engine: str
    pairs: int
    right: int

    @property
    def share(self) -> float:
        return self.right / self.pairs


class Sign(Struct, frozen=True, kw_only=True):
    """A lane against BF16 on one device: factors of throughput, measured and predicted."""

    accelerator: str
    lane: str
    measured: float
    predicted: float

    @property
    def right(self) -> bool:
        return (self.measured > 1) == (self.predicted > 1)


def orders(rows: Sequence[Row], measured: Array, predicted: Array) -> tuple[Order, ...]:
    """Per choice, per engine and for all of them (engine ""). Values are logarithms."""
    return tuple(order for choice in CHOICES for order in _orders(choice, rows, measured, predicted))


def signs(rows: Sequence[Row], measured: Array, predicted: Array) -> tuple[Sign, ...]:
    """The lane table. Values are logarithms; a lane is the mean of its rows."""
    found: dict[tuple[str, str], list[int]] = {}
    for place, row in enumerate(rows):
        if row.id.startswith(TABLE_LAB) and row.metric == TABLE_METRIC and row.kv_dtype == "auto":
            found.setdefault((row.accelerator, row.lane), []).append(place)
    mean = {key: (np.exp(measured[at]).mean(), np.exp(predicted[at]).mean()) for key, at in found.items()}
    return tuple(
        Sign(
            accelerator=device, lane=lane,
            measured=float(values[0] / mean[device, BASE][0]), predicted=float(values[1] / mean[device, BASE][1]),
        )
        for (device, lane), values in sorted(mean.items()) if lane != BASE
    )  # fmt: skip


def text(found: Iterable[Order], table: Iterable[Sign]) -> list[str]:
    """Both as lines for a terminal."""
    lines = ["", "pairs of rows that differ only in one choice, predicted in the measured order:"]
    lines += [
        f"  {one.choice:<12} {one.engine or 'all':<14} {one.right:>6} of {one.pairs:>6}  {one.share:.1%}"
        for one in found
    ]
    lines += ["", "Qwen3-8B, all requests queued (GPUStack): throughput against bf16, measured and predicted:"]
    return lines + [
        f"  {one.accelerator:<14} {one.lane:<12} {one.measured:5.2f} {one.predicted:5.2f}"
        + ("" if one.right else "  wrong")
        for one in table
    ]


def _orders(choice: Choice, rows: Sequence[Row], measured: Array, predicted: Array) -> list[Order]:
    counted: dict[str, list[bool]] = {}
    for engine, apart in _apart(choice, rows, np.stack([measured, predicted])):
        if abs(apart[0]) > SAME:
            for name in (engine, ""):
                counted.setdefault(name, []).append(bool(apart[0] * apart[1] > 0))
    return [
        Order(choice=choice, engine=name, pairs=len(right), right=sum(right)) for name, right in sorted(counted.items())
    ]


def _apart(choice: Choice, rows: Sequence[Row], values: Array) -> Iterable[tuple[str, Array]]:
    """The engine of each pair, and how far apart its two are: measured, predicted."""
    runs: dict[tuple[object, ...], dict[object, list[int]]] = {}
    for place, row in enumerate(rows):
        runs.setdefault(_others(choice, row), {}).setdefault(CHOICES[choice](row), []).append(place)
    for run, places in runs.items():
        means = [values[:, at].mean(axis=1) for at in places.values()]
        yield from ((str(run[0]), one - other) for one, other in combinations(means, 2))


def _others(choice: Choice, row: Row) -> tuple[object, ...]:
    """Everything that describes a row but the choice."""
    same = tuple(part for name, of in CHOICES.items() if name != choice for part in of(row))
    load = (row.kv_dtype, row.prompt, row.output, row.users, row.load, row.metric, row.stat)
    return (row.engine, row.engine_version, row.model, *same, *load, *(row.note.get(key) for key in NOTED))
