"""What the planner's own formulas predict of an observation, and which term is off."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from catalog.load import Catalog
from catalog.observation import Observation
from planner import replayed
from planner.accuracy import predict, predict_memory
from planner.accuracy.truth import Prediction
from planner.observe import replays
from planner.observe.observed import MEMORY, RATES, TIMES


class Compared(Struct, frozen=True, kw_only=True):
    """A measured number beside its prediction, in the unit of the row."""

    row: Observation
    predicted: float | None = None
    low: float | None = None
    high: float | None = None
    """Ends of the 80 % interval."""
    ratio: float | None = None
    """Measured over predicted."""
    inside: bool | None = None
    off: bool = False
    """Whether this is the term that lies farthest outside its interval, among memory or among speed."""
    because: str = ""
    """Why nothing is predicted."""


def compared(rows: Sequence[Observation], catalog: Catalog) -> tuple[Compared, ...]:
    """Every row, in order."""
    memory = [row for row in rows if row.metric in MEMORY]
    timed = [row for row in rows if row.metric in (*RATES, *TIMES) and row.accelerator]
    speed = [row for row in timed if row.load != replayed.LOAD]
    made = {one.id: one for one in predict_memory.answers([memory_line(row) for row in memory], catalog)}
    made |= {one.id: one for one in predicted_speed([speed_line(row) for row in speed], catalog)}
    made |= {one.id: one for one in replays.predictions([row for row in timed if row.load == replayed.LOAD], catalog)}
    found = [_compared(row, made.get(row.id)) for row in rows]
    worst = {_farthest(found, group) for group in (MEMORY, (*RATES, *TIMES))}
    return tuple(replace(one, off=one.row.id in worst) for one in found)


def memory_line(row: Observation) -> dict[str, str]:
    """The row as a line of the memory table. llama.cpp's `flash_attention` is a key of the note there."""
    note = f"fa={row.flash_attention}" if row.flash_attention else ""
    return {
        "id": row.id, "engine": row.engine, "engine_version": row.engine_version, "model": row.model,
        "accelerator": row.accelerator, "accelerators": str(row.accelerators), "tp": str(row.tensor), "lane": row.lane,
        "kv_dtype": row.kv_dtype, "max_model_len": str(row.context), "gpu_memory_utilization": str(row.share),
        "max_num_seqs": str(row.sequences), "max_num_batched_tokens": str(row.batched_tokens), "metric": row.metric,
        "unit": row.unit, "note": note,
    }  # fmt: skip


def speed_line(row: Observation) -> dict[str, str]:
    """The row as a line of the speed table."""
    note = " ".join(
        [f"depth={row.depth:g}"] * bool(row.depth) + [f"fa={row.flash_attention}"] * bool(row.flash_attention)
    )
    cache = "auto" if row.engine == "llama.cpp" and row.kv_dtype == "f16" else row.kv_dtype
    return {
        "id": row.id, "engine": row.engine, "engine_version": row.engine_version, "model": row.model,
        "accelerator": row.accelerator, "accelerators": str(row.accelerators), "dp": "1",
        "tp": str(row.tensor or row.accelerators), "lane": row.lane, "kv_dtype": cache, "isl": str(row.prompt),
        "osl": str(row.output), "concurrency": str(row.users), "load": row.load,
        "metric": row.metric, "stat": row.stat, "note": note,
    }  # fmt: skip


def predicted_speed(lines: Sequence[dict[str, str]], catalog: Catalog) -> list[Prediction]:
    """Means and medians at the loads that formulas know; percentiles of single runs are not predicted."""
    known = [line for line in lines if line["stat"] in ("mean", "p50", "")]
    described, refused = predict.describe(known, catalog)
    resolver = predict.Resolver(catalog.speed, {})
    values = predict.evaluate(described, resolver.values) if described else np.zeros(0)
    made = list(refused.values())
    for one, value in zip(described, values, strict=True):
        band = resolver.fitted.band(one.row.engine, one.row.load, one.row.metric, assumed=resolver.assumes(one.cases))
        made.append(Prediction(id=one.row.id, predicted=float(value), p10=value * band[0], p90=value * band[1]))
    tails = [line for line in lines if line["stat"] not in ("mean", "p50", "")]
    because = "the tail of one run depends on its order of requests: `lanewise plan` simulates it"
    return made + [Prediction(id=line["id"], refused=because) for line in tails]


def _compared(row: Observation, made: Prediction | None) -> Compared:
    if made is None or made.predicted is None or made.p10 is None or made.p90 is None:
        placeless = row.metric in (*RATES, *TIMES) and not row.accelerator
        unsaid = "how fast depends on the device: say --accelerator" if placeless else "no formula"
        return Compared(row=row, because=made.refused if made else unsaid)
    return Compared(
        row=row, predicted=made.predicted, low=float(made.p10), high=float(made.p90),
        ratio=row.value / made.predicted, inside=bool(made.p10 <= row.value <= made.p90),
    )  # fmt: skip


def _farthest(found: Sequence[Compared], group: Sequence[str]) -> str:
    """The id of the row of a group that lies farthest outside its interval, in half widths; "" where all are inside."""
    outside = [one for one in found if one.inside is False and one.row.metric in group]
    return max(outside, key=_distance).row.id if outside else ""


def _distance(one: Compared) -> float:
    assert one.predicted is not None
    assert one.low is not None
    assert one.high is not None
    end = one.high if one.row.value > one.high else max(one.low, 1e-9)
    width = abs(math.log(end / one.predicted)) or 1e-9
    return abs(math.log(one.row.value / one.predicted)) / width
