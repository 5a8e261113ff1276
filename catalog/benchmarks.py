"""Benchmarks as tables of measurements name them: how many items one has, and whether it asks for long reasoning."""

from __future__ import annotations

import math

from msgspec import Struct

UNKNOWN_ITEMS = 1000
"""Items of a benchmark that is not listed (assumed)."""


class Benchmark(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of benchmarks.csv."""

    match: str
    """Lower case; the first line whose text the task's name holds describes it."""
    items: int
    hard: bool
    """Long chains of reasoning: quantization shows there first."""
    source: str


def named(task: str, benchmarks: tuple[Benchmark, ...]) -> Benchmark | None:
    """The benchmark that a task's name means."""
    lowered = task.lower()
    return next((each for each in benchmarks if each.match in lowered), None)


def relative_error(task: str, baseline: float, benchmarks: tuple[Benchmark, ...]) -> float:
    """Standard error of one run in percent of the score: binomial over the benchmark's items.

    `baseline` is a share, or percent where it is above 1.5.
    """
    found = named(task, benchmarks)
    share = min(0.98, max(0.02, baseline / 100 if baseline > 1.5 else baseline))
    return 100 * math.sqrt((1 - share) / (share * (found.items if found else UNKNOWN_ITEMS)))
