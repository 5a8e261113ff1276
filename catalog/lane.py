"""Lane ids, and the one table that maps every spelling in the data to them."""

from __future__ import annotations

from msgspec import Struct

SAFETENSORS_LANES = (
    "bf16", "fp16", "fp8", "int8-w8a8", "int8-w8a16", "awq-int4", "gptq-int4", "w4a16", "nvfp4", "mxfp4",
)  # fmt: skip
REFUSED_LANES = ("nf4",)
"""Ids that exist to be refused by name."""
GGUF_TYPES = (
    "F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q5_1", "Q5_0", "Q4_K_M", "Q4_K_S", "Q4_1", "Q4_0", "IQ4_NL",
    "IQ4_XS", "MXFP4", "Q3_K_L", "Q3_K_M", "Q3_K_S", "IQ3_M", "IQ3_S", "IQ3_XS", "IQ3_XXS", "Q2_K", "Q2_K_S",
    "IQ2_M", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ1_M", "IQ1_S", "UD-Q2_K_XL", "UD-Q3_K_XL", "UD-Q4_K_XL", "UD-Q5_K_XL",
    "UD-Q6_K_XL", "UD-Q8_K_XL",
)  # fmt: skip


def is_lane(text: str) -> bool:
    """Whether `text` is a lane id: one of ours, or `gguf:` and a llama.cpp file type."""
    return text in SAFETENSORS_LANES or text in REFUSED_LANES or (text[:5] == "gguf:" and text[5:] in GGUF_TYPES)


class Spelling(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row of lane_spellings.csv: how `table`.`column` writes a lane, and what we call it."""

    table: str
    """evidence, artifacts, models, speed, memory."""
    spelling: str
    lane: str
    """A lane id, `gguf` for a repository of many types, `kv:<format>` for a cache format, or `-` when the method
    is none that we plan (then `why` says so)."""
    recipe: str = ""
    """fp8-dynamic, fp8-block, fp8-static, gptq, awq, autoround, rtn, smoothquant, qat …"""
    training: str = "ptq"
    why: str = ""
