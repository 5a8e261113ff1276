"""Tokenizer, chat template, end of text and shape of the model: the candidate's files against the original's."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from examine_weights import Found
from tensor_files import Broken, read_json

SHAPE = (
    "model_type", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "rms_norm_eps", "hidden_act", "num_experts", "num_local_experts",
    "num_experts_per_tok", "moe_intermediate_size", "sliding_window", "max_position_embeddings", "rope_theta",
    "rope_scaling", "partial_rotary_factor", "bos_token_id", "eos_token_id", "scale_emb", "logits_scaling",
)  # fmt: skip
"""Of config.json: where both sides say one, they say the same."""
TOKENS = ("model", "normalizer", "pre_tokenizer", "post_processor", "decoder")
"""Of tokenizer.json: everything that changes tokens; padding and truncation do not."""
FLAGS = ("add_bos_token", "add_eos_token", "add_prefix_space")
SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token")


def word_faults(made: Path, original: Path, found: Found) -> None:
    """Every difference that changes what the model reads or where it stops."""
    for check in (config_words, tokenizer_words, template_words, stop_words):
        try:
            check(made, original, found)
        except Broken as fault:
            found.fault(str(fault), made.name)


def config_words(made: Path, original: Path, found: Found) -> None:
    one, other = read_json(made / "config.json"), read_json(original / "config.json")
    for name in SHAPE:
        if one.get(name) is not None and other.get(name) is not None and one[name] != other[name]:
            found.fault(f"{name} is {one[name]!r}, the original's {other[name]!r}", "config.json")


def tokenizer_words(made: Path, original: Path, found: Found) -> None:
    one, other = read_json(made / "tokenizer.json"), read_json(original / "tokenizer.json")
    pieces = [file_hash(folder / "tokenizer.model") for folder in (made, original)]
    if all(pieces) and pieces[0] != pieces[1]:
        found.fault("differs from the original's", "tokenizer.model")
    if other and not one and not pieces[0]:
        found.fault("the checkpoint has no tokenizer, the original has one", "tokenizer.json")
    if one and other:
        for part in TOKENS:
            if plain(one.get(part)) != plain(other.get(part)):
                found.fault(f"{part} differs from the original's", "tokenizer.json")
        if added(one) != added(other):
            found.fault("added tokens differ from the original's", "tokenizer.json")
    found.seen["tokenizer"] = (
        "the same" if one and other else "compared by its sentence pieces" if all(pieces) else "not compared"
    )
    left, right = (read_json(folder / "tokenizer_config.json") for folder in (made, original))
    for name in (*FLAGS, *SPECIAL):
        if left.get(name) is not None and right.get(name) is not None and token(left[name]) != token(right[name]):
            found.fault(
                f"{name} is {token(left[name])!r}, the original's {token(right[name])!r}", "tokenizer_config.json"
            )


def plain(part: Any) -> Any:
    """A part of tokenizer.json without what is written in two ways: merges as pairs or as words."""
    if not isinstance(part, dict):
        return part
    merges = [each.split(" ", 1) if isinstance(each, str) else each for each in part.get("merges") or []]
    return {name: value for name, value in part.items() if value is not None} | {"merges": merges}


def added(tokenizer: dict[str, Any]) -> dict[int, str]:
    return {int(each["id"]): str(each["content"]) for each in tokenizer.get("added_tokens") or []}


def token(value: Any) -> Any:
    """A token's text; a flag as it is."""
    return value.get("content") if isinstance(value, dict) else value


def template_words(made: Path, original: Path, found: Found) -> None:
    one, other = template(made), template(original)
    if other and not one:
        found.fault("the original has a chat template, the checkpoint has none", "chat_template")
    elif one != other and other:
        found.fault("differs from the original's", "chat_template")
    found.seen["chat_template"] = "the original's" if one and one == other else "none" if not one else "its own"


def template(folder: Path) -> dict[str, str]:
    """Chat templates by name."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return {"default": file.read_text(encoding="utf-8")}
    own = read_json(folder / "chat_template.json").get("chat_template")
    said = own or read_json(folder / "tokenizer_config.json").get("chat_template")
    if isinstance(said, list):
        return {str(each["name"]): str(each["template"]) for each in said}
    return {"default": said} if said else {}


def stop_words(made: Path, original: Path, found: Found) -> None:
    """Where a server stops: generation_config.json names more ends than config.json may."""
    one, other = read_json(made / "generation_config.json"), read_json(original / "generation_config.json")
    ends = [each.get("eos_token_id") for each in (one, other)]
    if ends[1] is not None and as_set(ends[0]) != as_set(ends[1]):
        found.fault(f"eos_token_id is {ends[0]!r}, the original's {ends[1]!r}", "generation_config.json")


def as_set(value: Any) -> set[Any]:
    return set(value) if isinstance(value, list) else {value}


def file_hash(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""
