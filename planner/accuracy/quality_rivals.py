"""What the board compares with: quantiles of lanes, and the constants of articles and of a planner in the field."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from planner.accuracy.quality_board import Key, Score

QUANTILES = {"low": 0.1, "likely": 0.25, "predicted": 0.5, "high": 0.9}
"""Of the recoveries that other sources measured in the lane."""


class Constants(Struct, frozen=True, kw_only=True):
    """Recoveries in percent that are said of lanes, whatever the model and the task."""

    name: str
    source: str
    recovery: dict[str, float]
    """By what `named` calls the lane."""


ARTICLES = Constants(
    name="constants of the articles",
    source="article A1: INT8 99, AWQ 98, GPTQ 97, INT2 88 %",
    recovery={"int8": 99.0, "awq": 98.0, "gptq": 97.0, "int2": 88.0},
)
RIVAL = Constants(
    name="three constants of a planner in the field",
    source="llm-d-planner, quality_scoring/variants.py: w8a8 x0.97, w4a16 x0.92, nvfp4 x0.92, fp8 x1.0",
    recovery={"fp8": 100.0, "int8-w8a8": 97.0, "awq": 92.0, "gptq": 92.0, "w4a16": 92.0, "nvfp4": 92.0},
)


Table = dict[str, float]


def lane_quantiles(scores: Sequence[Score], known: Sequence[Score], by: Key) -> list[Score]:
    """Each row by the quantiles of its lane in the other sources of `known`; of all their rows where none has it."""
    tables = {name: _tables([one for one in known if one.source != name], by) for name in {s.source for s in scores}}
    return [_estimated(one, tables[one.source][by(one)]) for one in scores]


def _tables(known: Sequence[Score], by: Key) -> defaultdict[str, Table]:
    lanes: dict[str, list[float]] = defaultdict(list)
    for one in known:
        lanes[by(one)].append(one.measured)
    whole = _quantiles([one.measured for one in known])
    return defaultdict(lambda: whole, {name: _quantiles(values) for name, values in lanes.items()})


def _quantiles(values: Sequence[float]) -> Table:
    found = np.quantile(values, list(QUANTILES.values()))
    return dict(zip(QUANTILES, map(float, found), strict=True))


def _estimated(one: Score, numbers: Table) -> Score:
    return replace(one, **numbers)


def constant(scores: Sequence[Score], said: Constants) -> tuple[list[Score], list[Score]]:
    """Rows of the lanes that are named, as they were estimated and as the constants have them."""
    ours = [one for one in scores if named(one, said) is not None]
    return ours, [_estimated(one, dict.fromkeys(QUANTILES, said.recovery[named(one, said) or ""])) for one in ours]


def named(one: Score, said: Constants) -> str | None:
    """What these constants call the row's lane; None where they name none."""
    words = (one.kind, *(("int8",) if one.kind.startswith("int8") else ()), *_integers(one))
    return next((word for word in words if word in said.recovery), None)


def _integers(one: Score) -> tuple[str, ...]:
    """INT4 by who rounds it, and two bits in any integer format."""
    lowered = one.method.lower()
    if one.kind == "int4":
        return tuple(word for word in ("awq", "gptq") if lowered.startswith(word)) or ("w4a16",)
    return ("int2",) if "int2" in lowered or (one.kind == "gguf" and "q2" in lowered) else ()
