"""A GGUF file without weights is read as the file that it stands for, and takes no room."""

from __future__ import annotations

from pathlib import Path

import pytest

from catalog.errors import Unsupported
from planner.lanes import gguf
from planner.oracles import outline
from probes import gguf_file
from tests.plan.asking import catalog


@pytest.mark.parametrize("name", ["HuggingFaceTB/SmolLM2-135M-Instruct", "Qwen/Qwen3-30B-A3B", "google/gemma-3-4b-it"])
def test_an_outline_has_the_geometry_and_the_bytes_of_its_model(name: str, tmp_path: Path) -> None:
    model = catalog().model(name)
    path = outline.write(model, "Q4_K_M", tmp_path / "model.gguf")
    read = gguf_file.read(path, {})
    for field in ("layers", "hidden", "heads", "kv_heads", "head_dim", "vocab", "tied", "moe"):
        assert getattr(read, field) == getattr(model, field), field
    sizes = gguf.part_bytes(model, "Q4_K_M")
    assert read.native_bytes == sum(size for part, size in sizes.items() if part not in gguf.BESIDE)
    assert path.stat().st_blocks * 512 < 2**20 < path.stat().st_size


def test_a_model_without_a_list_of_tensors_has_no_outline(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="no list of the tensors"):
        outline.write(catalog().model("microsoft/phi-4"), "Q4_K_M", tmp_path / "model.gguf")
