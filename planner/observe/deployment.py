"""Which deployment a reading speaks of: what the file says, and what only its user can say. Nothing is guessed."""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec import Struct

from catalog.errors import BadInput
from catalog.lane import GGUF_TYPES, is_lane
from catalog.load import Catalog
from planner.observe.reading import Reading
from probes import known

VLLM_LANES = {
    "fp8": "fp8", "modelopt": "fp8", "awq": "awq-int4", "awq_marlin": "awq-int4", "modelopt_fp4": "nvfp4",
    "mxfp4": "mxfp4", "gpt_oss_mxfp4": "mxfp4", "bitsandbytes": "nf4",
}  # fmt: skip
"""By vLLM's `quantization`. Left out are methods of several lanes: compressed-tensors, gptq (4 or 8 bits), quark."""
PLAIN = {"bfloat16": "bf16", "float16": "fp16", "half": "fp16"}
SUFFIXES = {" - Medium": "_M", " - Small": "_S", " - Large": "_L"}
"""llama.cpp prints `Q4_K - Medium` for Q4_K_M."""
FLASH = {
    "1": "1",
    "enabled": "1",
    "0": "0",
    "disabled": "0",
    "Flash Attention enabled": "1",
    "Flash Attention disabled": "0",
}


class Said(Struct, frozen=True, kw_only=True):
    """What the user says; empty where they leave it to the file."""

    model: str = ""
    accelerator: str = ""
    accelerators: int = 0
    lane: str = ""
    engine: str = ""
    engine_version: str = ""
    machine: str = ""


class Deployment(Struct, frozen=True, kw_only=True):
    """One deployment; "" and 0 where neither file nor user says."""

    machine: str
    engine: str
    engine_version: str
    model: str
    accelerator: str
    accelerators: int
    tensor: int
    lane: str
    kv_dtype: str
    context: float
    share: float
    sequences: float
    batched_tokens: float
    flash_attention: str

    @property
    def missing(self) -> tuple[str, ...]:
        """Flags without which nothing can be compared or kept."""
        wanted = {
            "--engine": self.engine,
            "--model": self.model,
            "--lane": self.lane,
            "--accelerator": self.accelerator,
        }
        return tuple(flag for flag, value in wanted.items() if not value)


def deployment(reading: Reading, said: Said, catalog: Catalog) -> Deployment:
    """What file and user say together; where both say something, the user is believed. Raises BadInput."""
    if said.accelerator:
        catalog.accelerator(said.accelerator)
    if said.lane and not is_lane(said.lane):
        raise BadInput(f"no lane {said.lane!r}: for example fp8, awq-int4 or gguf:Q4_K_M", "--lane")
    engine = said.engine or reading.engine
    device, count = (said.accelerator, 1) if said.accelerator else _served(reading) or _devices(reading, catalog)
    tensor = int(reading.number("tensor_parallel_size"))
    ranks = tensor * int(reading.number("pipeline_parallel_size") or 1) * int(reading.number("data_parallel_size") or 1)
    numbers = {name: _number(reading, name) for name in ("context_tokens", "share", "batched_tokens")}
    return Deployment(
        machine=said.machine,
        engine=engine,
        engine_version=said.engine_version or reading.version,
        model=said.model or _model(reading, catalog),
        accelerator=device,
        accelerators=said.accelerators or ranks or count,
        tensor=tensor,
        lane=said.lane or reading.setting("served lane") or _lane(reading, engine),
        kv_dtype=_cache_type(reading),
        context=reading.number("max_model_len", "n_ctx", "max_seq_len") or numbers["context_tokens"],
        share=reading.number("gpu_memory_utilization") or numbers["share"],
        sequences=reading.number("max_num_seqs", "n_seq_max", "n_slots"),
        batched_tokens=reading.number("max_num_batched_tokens", "n_ubatch") or numbers["batched_tokens"],
        flash_attention=_flash(reading),
    )


def _number(reading: Reading, metric: str) -> float:
    found = reading.values(metric)
    return found[-1].value if found else 0.0


def _model(reading: Reading, catalog: Catalog) -> str:
    """A name that the catalogue knows; paths and served names are for the user to explain."""
    name = reading.setting("served model")
    if name:
        return name
    name = reading.setting("model")
    return name if name in catalog.models else ""


def _vllm_lane(reading: Reading) -> str:
    method = reading.setting("quantization")
    return PLAIN.get(reading.setting("dtype"), "") if method == "None" else VLLM_LANES.get(method, "")


def _lane(reading: Reading, engine: str) -> str:
    return _gguf_lane(reading) if engine == "llama.cpp" else _vllm_lane(reading)


def _gguf_lane(reading: Reading) -> str:
    """The file type of a log; of llama-bench the end of its model type: `llama 8B Q4_K - Medium`."""
    text = reading.setting("file type", "model ftype", "model_type")
    for printed, short in SUFFIXES.items():
        text = text.replace(printed, short)
    name = re.split(r"\s", text.strip())[-1] if text.strip() else ""
    return f"gguf:{name}" if name in GGUF_TYPES else ""


def _cache_type(reading: Reading) -> str:
    keys, values = reading.setting("type_k"), reading.setting("type_v")
    if keys or values:
        return keys if keys == values else f"{keys}/{values}"
    return reading.setting("kv_cache_dtype", "cache_dtype") or "auto"


def _flash(reading: Reading) -> str:
    chosen = [FLASH.get(each.name, "") for each in reading.chosen if each.what == "attention"]
    return FLASH.get(reading.setting("flash_attn"), "") or next((each for each in chosen if each), "")


def _served(reading: Reading) -> tuple[str, int] | None:
    """What a receipt says that it was served on."""
    name, _, count = reading.setting("served accelerator").rpartition(":")
    return (name, int(count)) if name else None


def _devices(reading: Reading, catalog: Catalog) -> tuple[str, int]:
    """The catalogue's entry where every device that is named is the same one, and their number."""
    names = [value for name, value in sorted(reading.settings.items()) if name.startswith("device ")]
    names += [name.strip() for name in reading.setting("gpu_info").split(",") if name.strip()]
    found = {entry for name in names for entry in _entries(name, catalog)}
    return (found.pop(), len(names)) if len(found) == 1 else ("", len(names) or 1)


def _entries(name: str, catalog: Catalog) -> Sequence[str]:
    return [entry.id for entry in known.entries_named(name, catalog.accelerators)] or [""]
