"""Predictions for rows of start-up logs: `lanewise predict memory`.

The answer depends on the describing columns alone; `value` is never read, and of `note` only the listed keys.
"""

from __future__ import annotations

from collections.abc import Sequence

from catalog import load as catalogue
from catalog.errors import BadInput
from catalog.load import Catalog
from planner import logs, spread, truth
from planner.logs import Described, Refitted
from planner.truth import Prediction


def memory(lines: Sequence[dict[str, str]]) -> list[Prediction]:
    """Memory predictions with the shipped catalogue, one per line and in their order."""
    return answers(lines, catalogue.load())


def answers(lines: Sequence[dict[str, str]], catalog: Catalog, refitted: Refitted | None = None) -> list[Prediction]:
    """The same with this catalogue, and with constants fitted anew where given."""
    return [_answer(line, catalog, refitted) for line in lines]


def _answer(line: dict[str, str], catalog: Catalog, refitted: Refitted | None) -> Prediction:
    try:
        found = logs.describe(truth.start(line), catalog, refitted)
        return answered(found, logs.value(found))
    except BadInput as error:
        return Prediction(id=line["id"], refused=error.message)


def answered(found: Described, value: float) -> Prediction:
    """A predicted value with its interval; `starts` is 0 or 1, and its ends are what the pool's interval allows."""
    if found.row.metric != "starts":
        low, high = spread.interval(found, value)
        return Prediction(id=found.row.id, predicted=value, p10=low, p90=high)
    log, off = found.log, spread.pool_off(found)
    pool = max(log.cache, 1.0)
    worst, best = log.concurrency * (1 - off / pool), log.concurrency * (1 + off / pool)
    sure = log.starts and worst >= 1
    possible = log.starts or (log.cache + off > 0 and best >= 1)
    return Prediction(id=found.row.id, predicted=value, p10=float(sure), p90=float(possible))
