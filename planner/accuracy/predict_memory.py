"""Predictions for rows of start-up logs: `lanewise predict memory`.

The answer depends on the describing columns alone; `value` is never read, and of `note` only the listed keys.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from catalog import load as catalogue
from catalog.engine import Part
from catalog.errors import BadInput
from catalog.load import Catalog
from planner import spread, startup
from planner.accuracy import logs, truth
from planner.accuracy.logs import MIB, Described, Refitted, backend, build
from planner.accuracy.truth import Prediction

DIGITS = {"GiB": 0.005, "x": 0.005, "MiB": 0.005, "tokens": 8.0, "bytes": 256.0}
"""Half of the last digit that a log prints, by unit."""


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
        low, high = interval(found, value)
        return Prediction(id=found.row.id, predicted=value, p10=low, p90=high)
    log, off = found.log, pool_off(found)
    pool = max(log.cache, 1.0)
    worst, best = log.concurrency * (1 - off / pool), log.concurrency * (1 + off / pool)
    sure = log.starts and worst >= 1
    possible = log.starts or (log.cache + off > 0 and best >= 1)
    return Prediction(id=found.row.id, predicted=value, p10=float(sure), p90=float(possible))


def interval(found: Described, predicted: float) -> tuple[float, float]:
    """The ends of the 80 % interval, in the unit of the row's metric, with half of the last digit that is printed."""
    row = found.row
    relative = (_vllm if row.engine == "vllm" else _llamacpp)(found, predicted)
    digit = DIGITS.get(row.unit, 0.0)
    low, high = predicted * math.exp(-relative), predicted * math.exp(relative)
    return max(0.0, low - digit), high + digit


def bytes_off(found: Described, part: Part, size: float) -> float:
    """Half of the interval of a part of `size` bytes."""
    version = found.version if found.row.engine == "vllm" else str(build(found.row))
    return spread.half(found.engine, version, part, size, found.tags).bytes


def pool_off(found: Described) -> float:
    """Half of the interval of vLLM's pool, bytes: its parts are subtracted from the claim."""
    log = found.log
    subtracted = log.graphs if log.cache < log.claimed - log.weights - log.activation - log.outside else 0.0
    parts: dict[Part, float] = {
        "weights": log.weights, "activation": log.activation, "outside": log.outside, "claim": log.claimed,
    }  # fmt: skip
    parts |= {"graphs": subtracted} if subtracted else {}
    return math.hypot(*(bytes_off(found, part, size) for part, size in parts.items()))


def _vllm(found: Described, _predicted: float) -> float:
    log, metric = found.log, found.row.metric
    alone: dict[str, tuple[Part, float]] = {
        "weights_gib": ("weights", log.weights), "activation_peak_gib": ("activation", log.activation),
        "non_torch_gib": ("outside", log.outside), "cuda_graph_gib": ("graphs", log.graphs),
    }  # fmt: skip
    if metric in alone:
        part, size = alone[metric]
        return bytes_off(found, part, size) / size
    paged = 0.0 if metric == "kv_cache_gib" else bytes_off(found, "pages", log.cache)
    return min(1.5, math.hypot(pool_off(found), paged) / max(log.cache, 0.02 * log.claimed))


def _llamacpp(found: Described, predicted: float) -> float:
    made, metric = found.buffers, found.row.metric
    if metric.startswith("gguf_file"):
        return bytes_off(found, "file", made.file) / made.file
    alone: dict[str, tuple[Part, float]] = {
        "model_buffer_mib": ("file", made.model), "kv_mib": ("cache", made.cache),
        "compute_buffer_mib": ("compute", made.compute),
    }  # fmt: skip
    if metric in alone:
        part, size = alone[metric]
        return bytes_off(found, part, size) / size
    shared = "shared" in found.tags
    process = startup.process_bytes(found.engine, backend(found.row), fused=found.fused) if shared else 0.0
    parts: dict[Part, float] = {"file": made.model, "cache": made.cache, "compute": made.compute}
    parts |= {"process": process} if shared else {}
    return math.hypot(*(bytes_off(found, part, size) for part, size in parts.items())) / (predicted * MIB)
