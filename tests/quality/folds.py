"""The shipped evidence with estimates that never saw their source, worked out once."""

from __future__ import annotations

from functools import cache

from planner.accuracy import quality_compare, quality_folds
from planner.accuracy.quality_board import Score
from planner.accuracy.quality_compare import Compared
from tests.plan.asking import catalog


@cache
def left_out() -> list[Score]:
    return quality_folds.left_out(catalog())


@cache
def compared() -> Compared:
    tasks, _ = quality_compare.split(left_out())
    return quality_compare.compare(tasks, tasks)
