"""Reports of guidellm (`--output kind=json`), several benchmarks in one file.

What other tools call TPOT, the time between tokens without the first, is guidellm's `inter_token_latency_ms`; its
`time_per_output_token_ms` divides the whole latency by all tokens (measured: 536 ms against 305 ms for 8 tokens whose
first took 2148 ms) and is therefore kept under a name of its own. Request latency is in seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from planner.observe.documents import Document, decoded, number, strangers
from planner.observe.reading import Load, Reading, Seen, Unknown

METRICS = {
    "time_to_first_token_ms": ("ttft_ms", 1.0), "inter_token_latency_ms": ("tpot_ms", 1.0),
    "time_per_output_token_ms": ("latency_per_token_ms", 1.0), "request_latency": ("e2e_ms", 1e3),
}  # fmt: skip
RATES = {
    "output_tokens_per_second": "output_tok_s", "tokens_per_second": "total_tok_s",
    "requests_per_second": "request_req_s",
}  # fmt: skip
"""Only their means: the other statistics are of a rate from moment to moment."""
STATS = ("p50", "p90", "p95", "p99")
BESIDE = frozenset({"slo_determined_requests"})


def claims(text: str) -> bool:
    """Whether the text is such a report."""
    document = decoded(text)
    if not isinstance(document, dict) or not isinstance(document.get("benchmarks"), list):
        return False
    return "guidellm" in str(document.get("metadata", "")) or any("metrics" in each for each in document["benchmarks"])


def read(text: str, source: str) -> Reading:
    """Means and percentiles of successful requests, per benchmark."""
    document: Document = decoded(text)
    numbers: list[Seen] = []
    unknown: list[Unknown] = []
    for index, one in enumerate(document["benchmarks"]):
        at = f"$.benchmarks[{index}]"
        strategy = (one.get("config") or one.get("args") or {}).get("strategy")
        if not isinstance(strategy, dict):
            unknown.append(
                Unknown(place=f"{at}.config.strategy", text="missing: the load of this benchmark is not known")
            )
        numbers += _benchmark(one.get("metrics", {}), _load(one.get("metrics", {}), strategy or {}), at)
        unknown += strangers(one.get("metrics", {}), {*METRICS, *RATES, *BESIDE}, f"{at}.metrics")
    meta = document.get("metadata") or {}
    return Reading(
        source=source, format=f"guidellm {meta.get('guidellm_version', '')}".strip(), engine="",
        settings=_settings(document), numbers=tuple(numbers), unknown=tuple(unknown),
    )  # fmt: skip


def _settings(document: Document) -> dict[str, str]:
    spec = ((document.get("config") or {}).get("spec") or {}).get("backend") or {}
    found = {"model": spec.get("model"), "target": spec.get("target")}
    return {name: str(value) for name, value in found.items() if value}


def _benchmark(metrics: Document, load: Load, at: str) -> Iterator[Seen]:
    for name, (metric, scale) in METRICS.items():
        of = _successful(metrics, name)
        place = f"{at}.metrics.{name}.successful"
        wanted = [("mean", of.get("mean"), "mean"), ("sd", of.get("std_dev"), "std_dev")]
        wanted += [(stat, (of.get("percentiles") or {}).get(stat), f"percentiles.{stat}") for stat in STATS]
        for stat, value, key in wanted:
            if (found := number(value)) is not None:
                yield Seen(metric=metric, value=scale * found, place=f"{place}.{key}", stat=stat, load=load)
    for name, metric in RATES.items():
        if (found := number(_successful(metrics, name).get("mean"))) is not None:
            yield Seen(metric=metric, value=found, place=f"{at}.metrics.{name}.successful.mean", stat="mean", load=load)
    totals = metrics.get("request_totals") or {}
    for key, metric in (("successful", "completed_count"), ("errored", "failed_count")):
        if (found := number(totals.get(key))) is not None:
            yield Seen(metric=metric, value=found, place=f"{at}.metrics.request_totals.{key}", load=load)


def _load(metrics: Document, strategy: Document) -> Load:
    kind = str(strategy.get("type_", ""))
    users = number(strategy.get("streams")) or number(strategy.get("max_concurrency")) or 0.0
    known = {
        "concurrent": "closed",
        "synchronous": "closed",
        "throughput": "saturated",
        "constant": "open",
        "poisson": "open",
    }
    found = known.get(kind, "")
    return Load(
        kind=found, prompt=number(_successful(metrics, "prompt_token_count").get("mean")) or 0.0,
        output=number(_successful(metrics, "output_token_count").get("mean")) or 0.0,
        users=1.0 if kind == "synchronous" else users if found == "closed" else 0.0,
        rate=(number(strategy.get("rate")) or 0.0) if found == "open" else 0.0,
    )  # fmt: skip


def _successful(metrics: Document, name: str) -> dict[str, Any]:
    """Statistics over the requests that succeeded; empty where the report has none."""
    found = (metrics.get(name) or {}).get("successful")
    return found if isinstance(found, dict) else {}
