"""Receipts of `lanewise verify --serve`: the engine's log as it was read, and what the planned load took.

Numbers of a load that lost answers, or that drafted tokens, are left out: no formula is beside them. On another machine
than planned the accelerator is for the user to say.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from planner import replayed
from planner.observe.documents import decoded
from planner.observe.reading import Load, Reading, Seen
from planner.proving.judge_speed import Serving
from planner.proving.ran import Ran
from planner.proving.receipt import Receipt

TIMES = {"ttft_s": "ttft_ms", "tpot_s": "tpot_ms", "e2e_s": "e2e_ms"}
FORMAT = "receipt of lanewise verify"


def claims(text: str) -> bool:
    """Whether the text is a receipt."""
    document = decoded(text)
    return isinstance(document, dict) and {"plan_id", "baseline", "lane", "gates"} <= document.keys()


def read(text: str, source: str) -> Reading:
    """What was served and measured; nothing where nothing was. Raises ValueError for another version's receipt."""
    return reading(msgspec.json.decode(text, type=Receipt), source)


def reading(made: Receipt, source: str) -> Reading:
    """The same of a receipt that is at hand."""
    found = made.served
    if found is None or found.ran is None:
        return Reading(source=source, format=FORMAT, engine=made.engine)
    return Reading(
        source=source, format=FORMAT, engine=found.ran.engine, version=found.ran.engine_version,
        settings=_settings(found.ran, found.elsewhere), numbers=(*_printed(found), *_loaded(found, found.ran)),
    )  # fmt: skip


def _settings(ran: Ran, elsewhere: str) -> dict[str, str]:
    """By the names that logs give them; llama.cpp counts the context of all its slots."""
    lanes = {"served model": ran.model, "served lane": ran.lane}
    lanes |= {} if elsewhere else {"served accelerator": f"{ran.accelerator}:{ran.accelerators}"}
    if ran.engine == "llama.cpp":
        own = {"n_ctx": str(ran.context * ran.slots), "n_seq_max": str(ran.slots), "type_k": ran.kv_dtype,
               "type_v": ran.kv_dtype, "flash_attn": "1"}  # fmt: skip
    else:
        own = {"max_model_len": str(ran.context), "max_num_seqs": str(ran.slots), "kv_cache_dtype": ran.kv_dtype,
               "gpu_memory_utilization": f"{ran.share:g}", "tensor_parallel_size": str(ran.tensor)}  # fmt: skip
    return lanes | own | {"max_num_batched_tokens": str(ran.batched_tokens)}


def _printed(found: Serving) -> Iterator[Seen]:
    for each in found.printed:
        yield Seen(metric=each.metric, value=each.value, place=each.place, of=each.of)


def _loaded(found: Serving, ran: Ran) -> Iterator[Seen]:
    """A median per repeat, under the load of the plan."""
    if found.errors or ran.drafted:
        return
    load = Load(
        kind=replayed.LOAD, prompt=ran.prompt, output=ran.output, users=ran.users, rate=ran.rate,
        prompt_p95=ran.prompt_p95, output_p95=ran.output_p95, burstiness=ran.burstiness, prefix=ran.prefix,
    )  # fmt: skip
    for name, metric in TIMES.items():
        for number, value in enumerate(ran.medians.get(name, ()), start=1):
            yield Seen(metric=metric, value=1e3 * value, place=f"repeat {number}", stat="p50", load=load)
    for number, value in enumerate(ran.medians.get("output_tokens_per_s", ()) if ran.users else (), start=1):
        yield Seen(metric=replayed.RATE, value=value, place=f"repeat {number}", stat="mean", load=load)
