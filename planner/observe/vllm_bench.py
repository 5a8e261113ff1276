"""Results of `vllm bench serve --save-result` (and of benchmark_serving.py before it), one JSON object per run.

Units are in the names (0.32 benchmarks/serve.py): milliseconds, tokens/s, requests/s. TPOT leaves the first token out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from planner.observe.documents import Document, decoded, number, seen, strangers
from planner.observe.reading import Load, Reading, Seen, Unknown, latest

RATES = {
    "request_throughput": "request_req_s", "output_throughput": "output_tok_s",
    "total_token_throughput": "total_tok_s",
}  # fmt: skip
TIMES = {"ttft": "ttft_ms", "tpot": "tpot_ms", "itl": "itl_ms", "e2el": "e2e_ms"}
STATS = {"mean": "mean", "median": "p50", "std": "sd"}
TIME = re.compile(r"(?P<stat>mean|median|std|p\d+(?:\.\d+)?)_(?P<time>ttft|tpot|itl|e2el)_ms")
KNOWN = frozenset(
    {
        "num_prompts", "request_rate", "burstiness", "max_concurrency", "duration", "completed", "failed",
        "total_input_tokens", "total_output_tokens", "request_goodput", "max_output_tokens_per_s",
        "max_concurrent_requests", "rtfx", "ramp_up_start_rps", "ramp_up_end_rps", "best_of", "total_input",
        "total_output",
    }
)  # fmt: skip


def claims(text: str) -> bool:
    """Whether the text is such a result."""
    document = decoded(text)
    return isinstance(document, dict) and "output_throughput" in document and "total_input_tokens" in document


def read(text: str, source: str) -> Reading:
    """Throughput, and every statistic of the four times under the load of the run."""
    document: Document = decoded(text)
    load, numbers, unknown = _load(document), list[Seen](), list[Unknown]()
    for key, metric in RATES.items():
        numbers += seen(document, key, metric, "mean", load)
    for key in document:
        if (match := TIME.fullmatch(key)) is not None:
            stat = STATS.get(match["stat"], match["stat"])
            numbers += seen(document, key, TIMES[match["time"]], stat, load)
    numbers += _counts(document, load)
    unknown += strangers(document, {*KNOWN, *RATES, *(key for key in document if TIME.fullmatch(key))})
    settings = {"model": str(document.get("model_id", "")), "backend": str(document.get("backend", ""))}
    return Reading(
        source=source, format="vllm bench serve", engine="vllm" if document.get("backend") == "vllm" else "",
        settings=settings, numbers=latest(numbers), unknown=tuple(unknown),
    )  # fmt: skip


def _load(document: Document) -> Load:
    """Means per completed request; closed with a limit of requests in flight, saturated without one, open at a rate."""
    done = number(document.get("completed")) or 0.0
    prompt, output = (number(document.get(f"total_{side}_tokens")) or 0.0 for side in ("input", "output"))
    users, rate = number(document.get("max_concurrency")) or 0.0, number(document.get("request_rate"))
    kind = "open" if rate is not None else "closed" if users else "saturated"
    return Load(
        kind=kind, prompt=prompt / done if done else 0.0, output=output / done if done else 0.0, users=users,
        rate=rate or 0.0,
    )  # fmt: skip


def _counts(document: Document, load: Load) -> Iterator[Seen]:
    for key, metric in (("completed", "completed_count"), ("failed", "failed_count"), ("duration", "duration_s")):
        yield from seen(document, key, metric, "", load)
