"""What was served and with which load, so that its numbers can be learnt from wherever the receipt goes.

Tokens, requests/s; medians per repeat in seconds, tokens/s.
"""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from planner.plan import Candidate
from planner.proving.loading import rate_of, users_of
from planner.proving.served import KINDS, Measured
from planner.settle import Load


class Ran(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One replica, its share of the planned load, and the middle of every repeat."""

    model: str
    accelerator: str
    accelerators: int
    tensor: int
    lane: str
    engine: str
    engine_version: str
    """Of the environment that served; the planned one where it does not say."""
    kv_dtype: str
    context: int
    """Tokens of one sequence."""
    slots: int
    batched_tokens: int
    share: float
    drafted: bool = False
    """Speculative decoding, about which no measured load says how many drafts were kept."""
    users: int = 0
    rate: float = 0.0
    prompt: float
    prompt_p95: float
    output: float
    output_p95: float
    burstiness: float
    prefix: int
    medians: dict[str, tuple[float, ...]]
    """ttft_s, tpot_s, e2e_s, output_tokens_per_s: one number per repeat."""


def ran(candidate: Candidate, load: Load, measured: Measured, *, model: str, version: str) -> Ran:
    """As planned; `version` = of the engine that served, "" where nobody knows."""
    pool, settings = candidate.pools[0], candidate.pools[0].settings
    return Ran(
        model=model,
        accelerator=pool.accelerator,
        accelerators=pool.tensor_parallel * pool.pipeline_parallel * pool.data_parallel,
        tensor=pool.tensor_parallel,
        lane=candidate.lane,
        engine=candidate.engine,
        engine_version=version or candidate.engine_version,
        kv_dtype=candidate.kv_cache_dtype,
        context=settings.max_model_len,
        slots=settings.max_num_seqs,
        batched_tokens=settings.max_num_batched_tokens,
        share=settings.gpu_memory_utilization,
        drafted=settings.speculative is not None,
        users=users_of(load, candidate),
        rate=rate_of(load, candidate),
        prompt=load.prompt.mean,
        prompt_p95=load.prompt.p95 or load.prompt.mean,
        output=load.output.mean,
        output_p95=load.output.p95 or load.output.mean,
        burstiness=load.burstiness,
        prefix=load.shared_prefix,
        medians=medians(measured),
    )


def medians(measured: Measured) -> dict[str, tuple[float, ...]]:
    """Of whole answers, repeat by repeat; a repeat without any has none."""
    made: dict[str, tuple[float, ...]] = {}
    for kind in KINDS:
        found = [times for each in measured.repeats if len(times := each.times(kind))]
        if found:
            made[f"{kind}_s"] = tuple(float(np.median(times)) for times in found)
    rates = tuple(
        sum(n for n, error in zip(each.output, each.error, strict=True) if not error) / each.seconds
        for each in measured.repeats
    )
    return made | ({"output_tokens_per_s": rates} if rates else {})
