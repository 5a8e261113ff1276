"""A page of `/metrics` of vLLM or llama-server: totals since the server started.

A histogram tells its mean exactly (sum over count) and a percentile only up to a bucket: both bounds are kept, no value
between them is made up. The text is read by prometheus_client, whose parser follows the exposition format.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from planner.observe.reading import Reading, Seen, Unknown

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

HISTOGRAMS = {
    "vllm:time_to_first_token_seconds": "ttft_ms", "vllm:time_per_output_token_seconds": "itl_ms",
    "vllm:inter_token_latency_seconds": "itl_ms", "vllm:request_time_per_output_token_seconds": "tpot_ms",
    "vllm:e2e_request_latency_seconds": "e2e_ms", "vllm:request_queue_time_seconds": "queue_ms",
    "vllm:request_prefill_time_seconds": "prefill_ms", "vllm:request_decode_time_seconds": "decode_ms",
}  # fmt: skip
"""Seconds there, milliseconds here. Between 0.5 and 0.10 vLLM called the time between two tokens the time per token."""
LENGTHS = {"vllm:request_prompt_tokens": "prompt_tokens", "vllm:request_generation_tokens": "output_tokens"}
VALUES = {
    "vllm:prompt_tokens": "prompt_total_tokens", "vllm:generation_tokens": "output_total_tokens",
    "vllm:num_preemptions": "preemptions_count", "vllm:num_requests_running": "running_count",
    "vllm:num_requests_waiting": "waiting_count", "llamacpp:prompt_tokens": "prompt_total_tokens",
    "llamacpp:tokens_predicted": "output_total_tokens", "llamacpp:prompt_seconds": "prompt_s",
    "llamacpp:tokens_predicted_seconds": "output_s", "llamacpp:prompt_tokens_seconds": "prompt_mean_tok_s",
    "llamacpp:predicted_tokens_seconds": "output_mean_tok_s", "llamacpp:n_busy_slots_per_decode": "busy_slots_count",
    "llamacpp:requests_processing": "running_count", "llamacpp:requests_deferred": "waiting_count",
    "llamacpp:n_decode": "decode_calls_count", "llamacpp:n_tokens_max": "longest_tokens",
}  # fmt: skip
"""By family: the parser takes `_total` off a counter. llama-server's rates are averages over single requests."""
CONFIG = "vllm:cache_config_info"
SETTINGS = (
    "block_size",
    "num_gpu_blocks",
    "gpu_memory_utilization",
    "cache_dtype",
    "enable_prefix_caching",
    "kv_cache_memory_bytes",
)
PASSED = (
    "vllm:estimated_", "vllm:num_requests_waiting_by_reason", "vllm:engine_sleep_state", "vllm:kv_cache_usage_perc",
    "vllm:gpu_cache_usage_perc", "vllm:cpu_cache_usage_perc", "vllm:prefix_cache_", "vllm:external_prefix_cache_",
    "vllm:gpu_prefix_cache_", "vllm:cpu_prefix_cache_", "vllm:mm_cache_", "vllm:prompt_tokens_", "vllm:request_success",
    "vllm:admission_", "vllm:iteration_tokens_total", "vllm:request_max_num_generation_tokens", "vllm:request_params_",
    "vllm:request_inference_time_seconds", "vllm:request_num_preemptions", "vllm:request_prefill_kv_computed_tokens",
    "vllm:spec_decode_", "vllm:lora_requests_info", "llamacpp:prompt_tokens_cached", "llamacpp:spec_decode_",
    "llamacpp:kv_cache_",
)  # fmt: skip
"""Families that are known and say nothing of speed or memory at a load: states, shares, causes."""
QUANTILES = (0.5, 0.95, 0.99)
PREFIXES = {"vllm:": "vllm", "llamacpp:": "llama.cpp"}


def claims(text: str) -> bool:
    """Whether the text is such a page."""
    return "# TYPE vllm:" in text or "# TYPE llamacpp:" in text


def read(text: str, source: str) -> Reading:
    """Means, bounds of percentiles, totals, and the settings of vLLM's cache."""
    from prometheus_client.parser import text_string_to_metric_families

    try:
        families = list(text_string_to_metric_families(text))
    except ValueError as fault:
        return Reading(
            source=source,
            format="/metrics",
            engine="",
            unknown=(Unknown(place="text", text=str(fault)),),
            unknown_count=1,
        )
    numbers, unknown = list[Seen](), list[Unknown]()
    settings: dict[str, str] = {}
    for family in families:
        if family.name == CONFIG or family.name == CONFIG.removesuffix("_info"):
            settings |= _config(family)
        elif family.name in HISTOGRAMS or family.name in LENGTHS:
            numbers += _histogram(family)
        elif family.name in VALUES:
            numbers.append(_value(family))
        elif family.name.startswith(tuple(PREFIXES)) and not family.name.startswith(PASSED):
            unknown.append(Unknown(place=family.name, text=_briefly(family)))
    engine = next(
        (name for prefix, name in PREFIXES.items() if any(one.name.startswith(prefix) for one in families)), ""
    )
    models = {
        sample.labels["model_name"] for one in families for sample in one.samples if "model_name" in sample.labels
    }
    settings |= {"model": models.pop()} if len(models) == 1 else {}
    return Reading(
        source=source, format="/metrics", engine=engine, settings=settings, numbers=tuple(numbers),
        unknown=tuple(unknown),
    )  # fmt: skip


def _config(family: Metric) -> dict[str, str]:
    labels = family.samples[0].labels if family.samples else {}
    return {name: labels[name] for name in SETTINGS if labels.get(name) not in (None, "None", "")}


def _value(family: Metric) -> Seen:
    """The sum over engines and labels."""
    values = [sample.value for sample in family.samples if not sample.name.endswith("_created")]
    return Seen(metric=VALUES[family.name], value=math.fsum(values), place=family.name)


def _histogram(family: Metric) -> Iterator[Seen]:
    """Mean and bounds of percentiles over all engines; nothing while no request was counted."""
    scale = 1e3 if family.name in HISTOGRAMS else 1.0
    metric = (HISTOGRAMS | LENGTHS)[family.name]
    count = math.fsum(sample.value for sample in family.samples if sample.name.endswith("_count"))
    total = math.fsum(sample.value for sample in family.samples if sample.name.endswith("_sum"))
    if not count:
        return
    yield Seen(metric=metric, value=scale * total / count, place=f"{family.name}_sum / _count", stat="mean")
    for quantile in QUANTILES:
        low, high = _bounds(_buckets(family.samples), quantile * count)
        if math.isfinite(high):
            name = f"p{100 * quantile:.0f}"
            yield Seen(
                metric=metric,
                value=scale * high,
                low=scale * low,
                high=scale * high,
                place=f"{family.name}_bucket",
                stat=name,
            )


def _buckets(samples: Iterable[object]) -> list[tuple[float, float]]:
    """(upper bound, requests up to it) over all engines."""
    sums: dict[float, float] = {}
    for sample in samples:
        name, labels, value = sample.name, sample.labels, sample.value  # type: ignore[attr-defined]
        if name.endswith("_bucket"):
            sums[float(labels["le"])] = sums.get(float(labels["le"]), 0.0) + value
    return sorted(sums.items())


def _bounds(buckets: list[tuple[float, float]], rank: float) -> tuple[float, float]:
    """The bucket that holds the request of this rank."""
    low = 0.0
    for high, count in buckets:
        if count >= rank:
            return low, high
        low = high
    return low, math.inf


def _briefly(family: Metric) -> str:
    values = [sample for sample in family.samples if not sample.name.endswith(("_created", "_bucket"))]
    return ", ".join(f"{sample.name} = {sample.value:g}" for sample in values[:3]) or f"{family.type} without samples"
