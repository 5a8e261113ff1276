"""The formats that `lanewise observe` reads, asked in this order. A new one is a module with `claims` and `read`, and a
line here."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from catalog.errors import BadInput
from planner.observe import guidellm, llama_bench, llamacpp_log, metrics, receipts, vllm_bench, vllm_log
from planner.observe.reading import Reading, bounded


class Format(Struct, frozen=True):
    """How one kind of text is told and read."""

    name: str
    claims: Callable[[str], bool]
    read: Callable[[str, str], Reading]


FORMATS = (
    Format(receipts.FORMAT, receipts.claims, receipts.read),
    Format("guidellm report", guidellm.claims, guidellm.read),
    Format("vllm bench serve result", vllm_bench.claims, vllm_bench.read),
    Format("llama-bench result", llama_bench.claims, llama_bench.read),
    Format("/metrics of vLLM or llama-server", metrics.claims, metrics.read),
    Format("vLLM start-up log", vllm_log.claims, vllm_log.read),
    Format("llama.cpp start-up log", llamacpp_log.claims, llamacpp_log.read),
)


def read(data: bytes, source: str) -> Reading:
    """What a file says, in the first format that claims it. Raises BadInput naming the formats where none does."""
    text = data.decode("utf-8-sig", errors="replace")
    for one in FORMATS:
        try:
            if one.claims(text):
                return bounded(one.read(text, source))
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as fault:
            raise BadInput(
                f"looks like a {one.name}, but is damaged ({type(fault).__name__}: {fault})", source
            ) from None
    known = ", ".join(one.name for one in FORMATS)
    raise BadInput(f"in no format that is read here; those are: {known}", source)
