"""`quantization_config` of a checkpoint as lane and recipe. Sources: the format documents of compressed-tensors,
AutoAWQ, GPTQModel, ModelOpt and bitsandbytes, and the config files named in data/models."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from catalog.config import Json, section
from catalog.errors import BadInput


class Quantization(Struct, frozen=True, kw_only=True):
    """What a checkpoint's own description says of its weights."""

    lane: str
    recipe: str = ""
    note: str = ""
    group_size: int | None = None
    """Weights that share a scale; None for whole rows, and where the format leaves no choice."""


SIXTEEN_BIT = {"bfloat16": "bf16", "float16": "fp16", "float32": "bf16"}
"""torch dtype to lane; 32-bit originals are served in bf16."""


def read(config: Json, where: str) -> Quantization | None:
    """The quantization that config.json states; None for a plain checkpoint. BadInput for a method we do not know."""
    stated = section(config, "quantization_config") or section(section(config, "text_config"), "quantization_config")
    if not stated:
        return None
    method = str(stated.get("quant_method") or ("modelopt" if stated.get("quant_algo") else "")).lower()
    if method not in METHODS:
        known = ", ".join(sorted(METHODS))
        raise BadInput(f"quantization method {method!r} is not known; known are {known}", _at(where))
    return METHODS[method](stated, where)


def _fp8(stated: Json, _where: str) -> Quantization:
    if stated.get("weight_block_size"):
        return Quantization(lane="fp8", recipe="fp8-block")
    return Quantization(
        lane="fp8", recipe="fp8-static" if stated.get("activation_scheme") == "static" else "fp8-dynamic"
    )


def _mxfp4(_stated: Json, _where: str) -> Quantization:
    return Quantization(lane="mxfp4", recipe="mxfp4-native")


def _awq(stated: Json, where: str) -> Quantization:
    _bits(stated, (4,), where)
    return Quantization(lane="awq-int4", recipe="awq", note=_group(stated), group_size=_group_size(stated))


def _gptq(stated: Json, where: str) -> Quantization:
    bits = _bits(stated, (2, 3, 4, 8), where)
    if bits == 8:
        return Quantization(lane="int8-w8a16", recipe="gptq", note=_group(stated))
    notes = [_group(stated)]
    notes += ["asymmetric"] if stated.get("sym") is False else []
    notes += [f"{bits} bits: fewer kernels than 4 bits"] if bits < 4 else []
    return Quantization(
        lane="gptq-int4", recipe="gptq", note="; ".join(filter(None, notes)), group_size=_group_size(stated)
    )


def _autoround(stated: Json, where: str) -> Quantization:
    _bits(stated, (4,), where)
    return Quantization(lane="w4a16", recipe="autoround", note=_group(stated), group_size=_group_size(stated))


def _bitsandbytes(stated: Json, _where: str) -> Quantization:
    if stated.get("load_in_8bit"):
        return Quantization(lane="nf4", recipe="bitsandbytes", note="LLM.int8, refused with the bitsandbytes lane")
    return Quantization(lane="nf4", recipe="bitsandbytes")


def _modelopt(stated: Json, where: str) -> Quantization:
    algorithm = str(stated.get("quant_algo") or section(stated, "quantization").get("quant_algo") or "").upper()
    lanes = {
        "FP8": Quantization(lane="fp8", recipe="fp8-static"),
        "NVFP4": Quantization(lane="nvfp4", recipe="nvfp4"),
        "W4A16_NVFP4": Quantization(lane="nvfp4", recipe="nvfp4-w4a16"),
        "NVFP4_AWQ": Quantization(lane="nvfp4", recipe="nvfp4"),
    }
    if algorithm not in lanes:
        raise BadInput(f"ModelOpt algorithm {algorithm!r} is no lane; known are {', '.join(lanes)}", where)
    return lanes[algorithm]


def _compressed_tensors(stated: Json, where: str) -> Quantization:
    """The first group of layers decides: bits, type and strategy of weights and activations."""
    groups = [group for group in section(stated, "config_groups").values() if isinstance(group, Mapping)]
    if not groups:
        raise BadInput("compressed-tensors without config_groups", _at(where))
    group: Json = groups[0]
    weights, inputs = section(group, "weights"), section(group, "input_activations")
    form = str(group.get("format") or stated.get("format") or "")
    kind, bits = str(weights.get("type")), weights.get("num_bits")
    if kind == "float" and bits == 8:
        return _float8(weights, inputs)
    if kind == "float" and bits == 4:
        return _float4(form, inputs)
    if kind == "int" and bits == 8:
        return Quantization(lane="int8-w8a8") if inputs.get("num_bits") == 8 else Quantization(lane="int8-w8a16")
    if kind == "int" and bits == 4 and not inputs:
        notes = [_group(weights), "asymmetric" if weights.get("symmetric") is False else ""]
        return Quantization(lane="w4a16", note="; ".join(filter(None, notes)), group_size=_group_size(weights))
    raise BadInput(f"no lane has {bits}-bit {kind} weights with {dict(inputs) or 'no'} activations", where)


def _float8(weights: Json, inputs: Json) -> Quantization:
    if weights.get("strategy") == "block":
        return Quantization(lane="fp8", recipe="fp8-block")
    if not inputs:
        return Quantization(lane="fp8", recipe="fp8-dynamic", note="weight-only")
    return Quantization(lane="fp8", recipe="fp8-dynamic" if inputs.get("dynamic") else "fp8-static")


def _float4(form: str, inputs: Json) -> Quantization:
    if form.startswith("mxfp4"):
        return Quantization(lane="mxfp4", recipe="mxfp4")
    return Quantization(lane="nvfp4", recipe="nvfp4" if inputs else "nvfp4-w4a16")


def _bits(stated: Json, accepted: tuple[int, ...], where: str) -> int:
    bits = stated.get("bits")
    if not isinstance(bits, int) or bits not in accepted:
        raise BadInput(f"expected {' or '.join(map(str, accepted))} bits, got {bits!r}", _at(where))
    return bits


def _at(where: str) -> str:
    return f"{where}:quantization_config"


def _group(stated: Json) -> str:
    size = _group_size(stated)
    return f"groups of {size}" if size else ""


def _group_size(stated: Json) -> int | None:
    size = stated.get("group_size", stated.get("q_group_size"))
    return size if isinstance(size, int) and size > 0 else None


METHODS = {
    "fp8": _fp8,
    "fbgemm_fp8": lambda _stated, _where: Quantization(lane="fp8", recipe="fp8-dynamic", note="FBGEMM"),
    "mxfp4": _mxfp4,
    "awq": _awq,
    "gptq": _gptq,
    "gptq_marlin": _gptq,
    "auto-round": _autoround,
    "bitsandbytes": _bitsandbytes,
    "modelopt": _modelopt,
    "modelopt_fp4": _modelopt,
    "nvfp4": _modelopt,
    "compressed-tensors": _compressed_tensors,
}
