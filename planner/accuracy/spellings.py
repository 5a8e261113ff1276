"""What a method means that lane_spellings.csv does not list: by its words, its bits and its family of lanes."""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec import Struct

from catalog.lane import GGUF_TYPES, Spelling, is_lane
from planner.severity import CACHE_BITS

WORDS: tuple[tuple[str, str, str], ...] = (
    (r"nvfp4", "nvfp4", "nvfp4"),
    (r"mixed|mxfp8|w4a8|w4a4|w3|int[23](?!\d)|exl\d|aqlm|quip", "-", ""),
    (r"mxfp4", "mxfp4", "mxfp4"),
    (r"nf4|bnb.?4|bitsandbytes.?4", "nf4", "bitsandbytes"),
    (r"fp8", "fp8", ""),
    (r"smoothquant", "int8-w8a8", "smoothquant"),
    (r"w8a8|int8.?dynamic|llm.?int8", "int8-w8a8", ""),
    (r"w8a16|int8.?weight|gptq.?(int)?8", "int8-w8a16", ""),
    (r"int8|w8", "int8", ""),
    (r"awq", "awq-int4", "awq"),
    (r"gptq", "gptq-int4", "gptq"),
    (r"autoround", "w4a16", "autoround"),
    (r"(qat|rtn).*(int4|w4)|w4a16|^int4$|^int4.?g\d+$", "w4a16", ""),
)
"""Pattern of a method in lower case, lane, recipe; the first that is found."""
GROUPS = {
    "FP8": "fp8", "INT8": "int8", "AWQ_INT4": "awq-int4", "GPTQ_INT4": "gptq-int4", "AUTOROUND_INT": "w4a16",
    "RTN_INT": "w4a16", "NF4": "nf4", "FP4": "nvfp4",
}  # fmt: skip
"""Families of lanes, for methods whose words say nothing."""
STARTS: tuple[tuple[str, str], ...] = (
    ("kv", "KV"), ("gguf", "GGUF"), ("fp8", "FP8"), ("mxfp8", "FP8"), ("nvfp4", "FP4"), ("mxfp4", "FP4"),
    ("mixed", "FP4"), ("awq", "AWQ_INT4"), ("gptq_int4", "GPTQ_INT4"), ("gptq_int8", "INT8"), ("int8", "INT8"),
    ("nf4", "NF4"), ("rtn", "RTN_INT"), ("autoround", "AUTOROUND_INT"), ("qat", "QAT"), ("int4", "INT4_OTHER"),
    ("w4a8kv4", "W4A8KV4"), ("w4a8", "W4A8"), ("w4a4kv4", "W4A4KV4"), ("w4a4", "W4A4"), ("exl3", "EXL3"),
    ("gptq/awq", "GPTQ/AWQ"), ("gptq", "GPTQ"),
)  # fmt: skip
"""How a method begins, and the family of lanes that tables put it in."""
GGUF = re.compile(r"(UD-)?I?Q\d(_[01KXSMLNXL]+)*", re.IGNORECASE)


class Words(Struct, frozen=True, kw_only=True):
    """What a row says of its method."""

    method: str
    group: str = ""
    """Family of lanes, where the table has that column."""
    weight_bits: float | None = None
    activation_bits: str = ""
    kv_bits: float | None = None


def group_of(method: str) -> str:
    """The family of lanes that a method belongs to; the method itself where none is known."""
    lowered = method.lower()
    return next((group for start, group in STARTS if lowered.startswith(start)), method)


def meant(said: Words, spellings: Mapping[tuple[str, str], Spelling]) -> Spelling:
    """Lane, recipe and training of a method: as the table says, else as its words do; lane `-` where those are mute."""
    exact = spellings.get(("evidence", said.method))
    if exact is not None:
        return exact
    plain = {_plain(text): found for (table, text), found in spellings.items() if table == "evidence"}
    known = plain.get(_plain(said.method))
    if known is not None or is_lane(said.method):
        return known or Spelling(table="evidence", spelling=said.method, lane=said.method)
    lane, recipe = _cache(said) or _gguf(said) or _words(said)
    lowered = said.method.lower()
    training = next((kind for kind in ("qat", "qad") if kind in lowered), "ptq")
    return Spelling(table="evidence", spelling=said.method, lane=lane, recipe=recipe, training=training)


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9+]", "", text.lower())


def _cache(said: Words) -> tuple[str, str] | None:
    whole = said.weight_bits is None or said.weight_bits >= 16
    alone = whole and said.kv_bits is not None and said.kv_bits < 16
    if not (said.method.lower().startswith("kv") or said.group == "KV" or (alone and not said.group)):
        return None
    formats = {name for name in CACHE_BITS if name in said.method.lower()}
    turned = re.search(r"rot|hadamard", said.method.lower())
    return (f"kv:{formats.pop()}" if len(formats) == 1 else "kv:other"), "rotation" if turned else ""


def _gguf(said: Words) -> tuple[str, str] | None:
    found = GGUF.search(said.method)
    if found is None or not (said.group == "GGUF" or said.method.lower().startswith("gguf") or "_" in found[0]):
        return None
    lowered = re.sub(r"[^a-z]", "", said.method.lower())
    recipe = "no-imatrix" if "noimatrix" in lowered else "imatrix" if "imatrix" in lowered else ""
    return (f"gguf:{found[0].upper()}" if found[0].upper() in GGUF_TYPES else "-"), recipe


def _words(said: Words) -> tuple[str, str]:
    lowered = said.method.lower()
    named = next(((lane, recipe) for pattern, lane, recipe in WORDS if re.search(pattern, lowered)), None)
    lane, recipe = named or (GROUPS.get(said.group, "-"), "")
    if lane == "int8":
        lane = "int8-w8a16" if said.activation_bits.startswith("16") else "int8-w8a8"
    four = said.weight_bits is None or 3.5 < said.weight_bits < 5.5
    if lane in ("awq-int4", "gptq-int4", "w4a16") and not four:
        return ("int8-w8a16" if said.weight_bits == 8 else "-"), recipe
    return lane, recipe
