"""What a checkpoint says of itself, against what the plan asked for and against its own tensors."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable
from typing import Any

from examine_weights import Found
from tensor_files import PLAIN, Checkpoint
from tensor_formats import Layout

PRESETS: dict[str, tuple[int, str, bool, str, tuple[int, str] | None]] = {
    "FP8": (8, "float", True, "tensor", (8, "tensor")), "FP8_DYNAMIC": (8, "float", True, "channel", (8, "token")),
    "FP8_BLOCK": (8, "float", True, "block", (8, "group")), "W8A8": (8, "int", True, "channel", (8, "token")),
    "W8A16": (8, "int", True, "", None), "W4A16": (4, "int", True, "group", None),
    "W4A16_ASYM": (4, "int", False, "group", None), "NVFP4": (4, "float", True, "tensor_group", (4, "tensor_group")),
    "NVFP4A16": (4, "float", True, "tensor_group", None), "MXFP4": (4, "float", True, "group", (4, "group")),
    "MXFP4A16": (4, "float", True, "group", None),
}  # fmt: skip
"""compressed-tensors' presets: bits, type, symmetric, strategy ("" = either), and bits and strategy of activations."""
LINEAR = re.compile(r"layers\.\d+\..*(?:_proj|\.w[123]|\.fc[12]|\.dense(?:_h_to_4h|_4h_to_h)?|query_key_value)$")
"""Modules that every decoder multiplies with."""
GROUPS = {"NVFP4": 16, "NVFP4A16": 16, "MXFP4": 32, "MXFP4A16": 32}


def config_faults(made: Checkpoint, known: dict[str, Layout], given: argparse.Namespace, found: Found) -> None:
    """Words first, then tensors against the words."""
    said = made.quantization
    if not said and known:
        found.fault("weights are quantized, and config.json says nothing of it", "config.json")
    if not said and given.scheme:
        found.fault(f"{given.scheme} was asked for, and config.json has no quantization_config", "config.json")
        return
    if given.scheme in PRESETS and said.get("quant_method") == "compressed-tensors":
        scheme_faults(said, known, given, found)
    ignored_faults(made, known, [*given.ignore, *ignored(said)], given, found)
    cache_faults(made, given, found)
    found.seen["quant_method"] = said.get("quant_method")
    found.seen["ignored"] = ignored(said)


def scheme_faults(said: dict[str, Any], known: dict[str, Layout], given: argparse.Namespace, found: Found) -> None:
    bits, kind, symmetric, strategy, activations = PRESETS[given.scheme]
    groups = [each for each in (said.get("config_groups") or {}).values() if each.get("weights")]
    if not groups:
        found.fault("no group of layers has quantized weights", "config.json")
    for each in groups:
        weights = each["weights"]
        wanted = {"num_bits": bits, "type": kind, "symmetric": symmetric} | ({"strategy": strategy} if strategy else {})
        size = given.group_size or GROUPS.get(given.scheme)
        wanted |= {"group_size": size} if size and weights.get("strategy") in ("group", "tensor_group") else {}
        for name, value in wanted.items():
            if weights.get(name) != value:
                found.fault(f"weights have {name} {weights.get(name)!r}, {value!r} was asked for", "config.json")
        own = each.get("input_activations")
        pair = (own.get("num_bits"), own.get("strategy")) if own else None
        if pair != activations:
            found.fault(f"activations are quantized as {pair}, {activations} was asked for", "config.json")
    wrong = [each.module for each in known.values() if each.bits != bits or each.float_ != (kind == "float")]
    for module in wrong:
        found.fault(f"is not in {bits} bits of type {kind}", module)
    if given.group_size and strategy == "group":
        for each in known.values():
            if each.group != given.group_size:
                found.fault(f"has a scale for {each.group} inputs, {given.group_size} were asked for", each.module)


def ignored(said: dict[str, Any]) -> list[str]:
    """Layers that stay as they are, under each tool's word for them."""
    for word in ("ignore", "modules_to_not_convert", "exclude", "exclude_modules", "ignored_layers"):
        if said.get(word):
            return [str(each) for each in said[word]]
    return []


def matches(module: str, words: Iterable[str]) -> bool:
    """A name, its end, `re:` and a pattern, or a pattern with `*`."""
    for word in words:
        if word.startswith("re:"):
            if re.match(word[3:], module):
                return True
        elif "*" in word:
            if re.fullmatch(re.escape(word).replace(r"\*", ".*"), module):
                return True
        elif module == word or module.endswith(f".{word}") or module.startswith(f"{word}."):
            return True
    return False


def ignored_faults(
    made: Checkpoint, known: dict[str, Layout], words: list[str], given: argparse.Namespace, found: Found
) -> None:
    """What stays 16-bit does, and what every lane quantizes is."""
    if not made.quantization:
        return
    lm_head = "lm_head" in given.ignore or not given.scheme
    for name, each in known.items():
        if matches(each.module, words) or (lm_head and each.module.endswith("lm_head") and not said_of_head(made)):
            found.fault("is quantized and should be in 16 bits", name)
    for name, entry in made.entries.items():
        module = name.removesuffix(".weight")
        whole = module != name and len(entry.shape) == 2 and entry.dtype in PLAIN and name not in known
        if whole and LINEAR.search(module) and not matches(module, words):
            found.fault("is in 16 bits and should be quantized", name)


def said_of_head(made: Checkpoint) -> bool:
    """Whether the checkpoint says itself that its output matrix is quantized."""
    return bool(made.quantization.get("lm_head")) or "lm_head" in json.dumps(
        made.quantization.get("config_groups") or {}
    )


def cache_faults(made: Checkpoint, given: argparse.Namespace, found: Found) -> None:
    """Scales of the cache where they were asked for, in every layer or in none."""
    scheme = made.quantization.get("kv_cache_scheme")
    keys = [name for name in made.entries if name.endswith("k_scale") and "weight" not in name.rpartition(".")[2]]
    if given.cache and not (scheme and scheme.get("num_bits") == 8 and scheme.get("type") == "float"):
        found.fault(f"an FP8 cache was asked for, kv_cache_scheme is {scheme!r}", "config.json")
    if given.cache and not keys:
        found.fault("an FP8 cache was asked for, and no layer has its scales", "config.json")
    layers = made.config.get("num_hidden_layers")
    if keys and isinstance(layers, int) and len(keys) not in (layers, 0) and not made.config.get("layer_types"):
        found.fault(f"{len(keys)} of {layers} layers have scales for the cache", "config.json")
    found.seen["cache_scales"] = len(keys)
