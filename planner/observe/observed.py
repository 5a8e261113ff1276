"""From readings of one deployment to rows to keep: repeats as a median with a spread, devices as one number."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from catalog.observation import Observation, named
from planner import startup
from planner.observe.deployment import Deployment
from planner.observe.reading import Load, Reading, Seen

PER_DEVICE = ("weights_gib", "activation_peak_gib", "non_torch_gib", "cuda_graph_gib", "kv_cache_gib")
"""Of the first rank: every rank prints its own."""
WHOLE = ("kv_cache_tokens", "max_concurrency")
SUMMED = ("model_buffer_mib", "kv_mib", "compute_buffer_mib")
"""Over the devices; what llama.cpp keeps on the host beside devices is left out."""
MEMORY = (*PER_DEVICE, *WHOLE, *SUMMED)
START = ("ready_s", "engine_init_s")
RATES = ("output_tok_s", "total_tok_s", "prefill_tok_s", "decode_tok_s", "request_req_s")
TIMES = ("ttft_ms", "tpot_ms", "e2e_ms")
ENOUGH, NORMAL = 5, 1.4826
"""Repeats, and the standard deviation over the middle distance from the median of a normal distribution."""
STATS = ("mean", "p50", "p95", "p99")


def observations(readings: Sequence[Reading], about: Deployment) -> tuple[Observation, ...]:
    """Memory, start and speed of one deployment. Nothing of a page of totals whose load is not known."""
    repeated: dict[tuple[str, str, Load], list[Seen]] = {}
    for reading in readings:
        for seen in _kept(reading):
            repeated.setdefault((seen.metric, seen.stat, _rounded(seen.load)), []).append(seen)
    source = ", ".join(dict.fromkeys(reading.source for reading in readings))
    rows = [_row(seen, load, about, source) for (_, _, load), seen in repeated.items()]
    return named(row for row in rows if row.value > 0)


def _kept(reading: Reading) -> Iterable[Seen]:
    for metric in (*PER_DEVICE, *WHOLE, *START):
        ranks = sorted(reading.values(metric), key=lambda seen: seen.of)
        yield from ranks[:1]
    for metric in SUMMED:
        if found := reading.values(metric):
            file = sum(seen.value for seen in reading.values("file_mib")) if metric == "model_buffer_mib" else 0.0
            size = startup.held([(seen.of, seen.value) for seen in found], file)
            yield Seen(metric=metric, value=size, place=found[0].place)
    for seen in reading.numbers:
        if seen.load.kind and seen.metric in (*RATES, *TIMES) and seen.stat in STATS and seen.low is None:
            yield seen


def _rounded(load: Load) -> Load:
    """Lengths to whole tokens: repeats of one load differ by parts of a token."""
    return replace(load, prompt=round(load.prompt), output=round(load.output))


def _row(seen: Sequence[Seen], load: Load, about: Deployment, source: str) -> Observation:
    """The median of repeats; of one file, its own mean with its own spread."""
    values, first = [each.value for each in seen], seen[0]
    spread = _spread(values) if len(values) > 1 else first.sd or 0.0
    return Observation(
        id="", run="", metric=first.metric, stat=first.stat, value=_digits(statistics.median(values)), unit=first.unit,
        repeats=max(len(values), first.repeats), sd=_digits(spread), machine=about.machine, engine=about.engine,
        engine_version=about.engine_version, model=about.model, accelerator=about.accelerator,
        accelerators=about.accelerators, tensor=about.tensor, lane=about.lane, kv_dtype=about.kv_dtype,
        context=about.context, share=about.share, sequences=about.sequences, batched_tokens=about.batched_tokens,
        load=load.kind, prompt=load.prompt, output=load.output, users=load.users, rate=load.rate, depth=load.depth,
        prompt_p95=load.prompt_p95, output_p95=load.output_p95, burstiness=load.burstiness, prefix=load.prefix,
        flash_attention=about.flash_attention, source=source,
    )  # fmt: skip


def _spread(values: Sequence[float]) -> float:
    """Standard deviation between repeats. From ENOUGH of them on by the middle distance from their median, as the
    median itself is taken: a stall of a machine that others share is one repeat of many."""
    if len(values) < ENOUGH:
        return statistics.stdev(values)
    middle = statistics.median(values)
    return NORMAL * statistics.median(abs(each - middle) for each in values)


def _digits(value: float) -> float:
    """Eight digits: more than any clock here knows, and the same text on every machine."""
    return float(f"{value:.8g}")
