"""Checkpoints that are broken on purpose, each as a folder or file beside a sound one: what a proof has to notice.

`python broken.py KIND SOUND BROKEN` runs inside llm-compressor's environment. KIND: see KINDS; those of `gguf` take a
file, the others a folder.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

LAYER = "layers.1."


def weights(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the tensors of a folder, its only file of them."""
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    (file,) = folder.glob("*.safetensors")
    with safe_open(file, "pt") as opened:
        facts = opened.metadata()
    tensors = load_file(file)
    change(tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file, metadata=facts)


def zeroed_layer(folder: Path) -> None:
    """Every matrix of one layer is nothing; its scales and norms stay."""

    def change(tensors: dict[str, Any]) -> None:
        for name, tensor in tensors.items():
            if LAYER in name and "norm" not in name and name.endswith("weight"):
                tensors[name] = tensor.new_zeros(tensor.shape)

    weights(folder, change)


def swapped_scales(folder: Path) -> None:
    """Scales of the first and the last layer exchanged: each belongs to the other's weights."""

    def change(tensors: dict[str, Any]) -> None:
        scales = [name for name in tensors if name.endswith("weight_scale")]
        if not scales:
            raise SystemExit("broken.py: the checkpoint has no weight_scale")
        last = max(int(name.split("layers.")[1].split(".")[0]) for name in scales if "layers." in name)
        for name in scales:
            if "layers.0." in name:
                other = name.replace("layers.0.", f"layers.{last}.")
                tensors[name], tensors[other] = tensors[other].flip(0).clone(), tensors[name].flip(0).clone()

    weights(folder, change)


def nan(folder: Path) -> None:
    """One value of one matrix that is no number."""

    def change(tensors: dict[str, Any]) -> None:
        name = next(name for name in sorted(tensors) if LAYER in name and tensors[name].element_size() == 2)
        tensors[name].view(-1)[0] = float("nan")

    weights(folder, change)


def wrong_template(folder: Path) -> None:
    """Another model's chat format."""
    template = "{% for m in messages %}[INST] {{ m['content'] }} [/INST]{% endfor %}"
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    file = folder / "tokenizer_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"chat_template": template}))
    (folder / "chat_template.jinja").write_text(template)


def other_tokens(folder: Path) -> None:
    """A tokenizer whose words have other numbers: the last two hundred in reverse order."""
    file = folder / "tokenizer.json"
    own = json.loads(file.read_text())
    vocabulary = own["model"]["vocab"]
    by_id = {number: word for word, number in vocabulary.items()}
    last = max(by_id)
    for number in range(last - 199, last + 1):
        vocabulary[by_id[number]] = last - (number - (last - 199))
    file.write_text(json.dumps(own))


def quantized_head(folder: Path) -> None:
    """The output matrix in eight bits with one scale, where the plan says 16 bits: rounded, and written as rounded."""

    def change(tensors: dict[str, Any]) -> None:
        import torch

        head = tensors["lm_head.weight"].float()
        scale = head.abs().max() / 127
        tensors["lm_head.weight"] = (head / scale).round().clamp(-128, 127).to(torch.int8)
        tensors["lm_head.weight_scale"] = torch.full((head.shape[0], 1), float(scale), dtype=torch.bfloat16)

    weights(folder, change)
    file = folder / "config.json"
    config = json.loads(file.read_text())
    own = config["quantization_config"]
    own["ignore"] = [name for name in own["ignore"] if name != "lm_head"]
    args = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel", "dynamic": False}
    own["config_groups"]["head"] = {
        "targets": ["re:.*lm_head"], "weights": args, "input_activations": None, "output_activations": None,
        "format": "naive-quantized",
    }  # fmt: skip
    file.write_text(json.dumps(config))


def gguf_zeroed_layer(file: Path) -> None:
    """Every block of one layer's matrices: bytes of nothing are values of nothing in each block format."""
    from gguf import GGUFReader

    reader = GGUFReader(file, "r+")
    for tensor in reader.tensors:
        if tensor.name.startswith("blk.1.") and "norm" not in tensor.name:
            tensor.data[...] = 0
    reader.data.flush()


def gguf_truncated(file: Path) -> None:
    """A download that ended early."""
    with file.open("r+b") as stream:
        stream.truncate(file.stat().st_size * 3 // 4)


KINDS: dict[str, Callable[[Path], None]] = {
    "zeroed-layer": zeroed_layer, "swapped-scales": swapped_scales, "nan": nan, "wrong-template": wrong_template,
    "other-tokens": other_tokens, "quantized-head": quantized_head,
    "gguf-zeroed-layer": gguf_zeroed_layer, "gguf-truncated": gguf_truncated,
}  # fmt: skip


def main(kind: str, sound: str, broken: str) -> None:
    source, target = Path(sound), Path(broken)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=False)
    else:
        shutil.copy2(source, target)
    KINDS[kind](target)


if __name__ == "__main__":
    main(*sys.argv[1:])
