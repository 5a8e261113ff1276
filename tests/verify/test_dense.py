"""Published layouts as plain weights: exactly what their tools unpack, and refusals of what is not read."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from planner.proving import opening, recipe
from tests.tools import layouts
from tests.tools.layouts import LAYOUTS
from tests.tools.tamper import Tensors, read, tampered, write
from tests.verify.questions import question
from tests.verify.test_score import WORKERS

GOLDEN = Path(__file__).parents[1] / "golden" / "unpacked"
COMPRESSED = ("fp8-rows", "int8-rows", "packed", "nvfp4", "mxfp4")
"""Layouts of compressed-tensors: transformers runs them as they are."""


def dense(source: Path, out: Path) -> tuple[dict[str, Any], str]:
    out.mkdir()
    command = [sys.executable, str(WORKERS / "dense.py"), "--model", str(source), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode != 0:
        return {}, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    assert json.loads((out / "dense.json").read_text()) == said
    return said, ""


def stored(folder: Path) -> Tensors:
    return {name: value for file in folder.glob("*.safetensors") for name, value in read(file).items()}


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name not in COMPRESSED])
def test_a_published_layout_becomes_the_weights_that_it_stands_for(layout: str, tmp_path: Path) -> None:
    source, stands = layouts.copy(tmp_path / "source", layout)
    said, _ = dense(source, tmp_path / "out")
    made = stored(tmp_path / "out" / "model")
    assert {name for name, (dtype, _) in made.items() if dtype == "BF16"} == set(made)
    for name, value in stands.items():
        assert np.allclose(layouts.wide(made[f"{name}.weight"][1]), value, rtol=2.0**-8, atol=1e-7)
    kept = layouts.common()
    assert all(np.array_equal(made[name][1], kept[name][1]) for name in kept)
    assert made.keys() == kept.keys() | {f"{name}.weight" for name in stands}
    assert 0 <= said["rounding"] < 2.0**-8
    assert (said["activations"] != "16 bits") == (layout == "modelopt-fp8")
    config = json.loads((tmp_path / "out" / "model" / "config.json").read_text())
    assert config == layouts.CONFIG
    index = json.loads((tmp_path / "out" / "model" / "model.safetensors.index.json").read_text())
    assert index["weight_map"].keys() == made.keys()


@pytest.mark.parametrize("layout", COMPRESSED)
def test_what_transformers_runs_is_linked_as_it_is(layout: str, tmp_path: Path) -> None:
    source, _ = layouts.copy(tmp_path / "source", layout)
    said, _ = dense(source, tmp_path / "out")
    assert said["as_it_is"]
    for file in source.iterdir():
        assert (tmp_path / "out" / "model" / file.name).resolve() == file.resolve()


@pytest.fixture(scope="module")
def formats() -> Iterator[ModuleType]:
    sys.path.insert(0, str(WORKERS))
    yield importlib.import_module("tensor_formats")
    sys.path.remove(str(WORKERS))


@pytest.mark.parametrize("tool", ["awq", "gptq"])
def test_values_are_those_of_gptqmodels_own_unpackers(formats: ModuleType, tool: str, tmp_path: Path) -> None:
    """AWQ: dequantize_gemm of random words. GPTQ: TorchLinear of a layer that gptqmodel 7.5.0 made, with an order of
    inputs. Both compute in 16-bit floats."""
    types = {"qweight": "I32", "qzeros": "I32", "scales": "F16", "g_idx": "I32"}
    with np.load(GOLDEN / f"{tool}.npz", allow_pickle=False) as golden:
        tensors = {f"a.{name}": (types[name], golden[name]) for name in types if name in golden.files}
        truth = golden["dense"].astype(np.float32)
    write(tmp_path / "model.safetensors", tensors)
    said = {"quant_method": tool, "bits": 4, "checkpoint_format": "gptq"}
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": said}))
    checkpoint = formats.Checkpoint(tmp_path)
    (of,) = formats.layouts(checkpoint)
    found = formats.values(checkpoint, of, np.arange(of.shape[0]))
    truth = truth.T if tool == "awq" else truth
    assert found == pytest.approx(truth, abs=2.0**-10 * float(np.abs(truth).max()))
    rows = np.array([3, 8, 9, 40])
    assert np.array_equal(formats.values(checkpoint, of, rows), found[rows])


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "AutoRound": ({"quant_method": "auto-round", "bits": 4}, "packed columns of 'auto-round' are not read here"),
    "eight bits": ({"quant_method": "gptq", "bits": 8}, "GPTQ of 8 bits is not read here"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_layouts_that_are_not_read_are_refused_by_name(name: str, tmp_path: Path) -> None:
    config, what = REFUSED[name]
    source, _ = layouts.copy(tmp_path / "source", "gptq")
    (source / "config.json").write_text(json.dumps(layouts.CONFIG | {"quantization_config": config}))
    said, refusal = dense(source, tmp_path / "out")
    assert said == {}
    assert refusal.startswith("dense.py: ")
    assert what in refusal
    assert not (tmp_path / "out" / "model").exists()


def test_tensors_of_no_layout_are_refused_and_never_dropped(tmp_path: Path) -> None:
    source, _ = layouts.copy(tmp_path / "source", "awq")
    blocks = {"model.layers.0.mlp.experts.gate_up_proj_blocks": ("U8", np.zeros((2, 4, 2, 16), "u1"))}
    changed = tampered(source, tmp_path / "changed", lambda tensors: tensors.update(blocks))
    said, refusal = dense(changed, tmp_path / "out")
    assert said == {}
    assert "1 tensors belong to no layout that is read here" in refusal


@pytest.mark.parametrize("name", ["AWQ-INT4", "GPTQ-INT4", "FP8", "NVFP4", "FP4 (ModelOpt)"])
def test_published_formats_are_opened_before_they_are_scored(name: str) -> None:
    program = recipe.program(published(name))
    made = {step.id: step for step in program.steps}
    assert made["dense"].needs == ("candidate",)
    assert "{run}/dense/model" in made["compare-own-512"].command
    assert "dense" in made["compare-own-512"].needs
    assert any("plain 16 bits" in note for note in program.notes)


def test_a_format_that_is_named_compressed_tensors_needs_no_opening() -> None:
    program = recipe.program(published("FP8-dynamic (CT)"))
    made = {step.id: step for step in program.steps}
    assert "dense" not in made
    assert "{run}/candidate/model" in made["compare-own-512"].command


@pytest.mark.parametrize("name", opening.UNREADABLE)
def test_formats_that_are_not_read_are_left_out_by_name(name: str) -> None:
    program = recipe.program(published(name))
    assert "dense" not in {step.id for step in program.steps}
    assert all(name in each.because for each in program.left_out if each.gate.startswith("kld_mean"))
    assert "inspect" in {step.id for step in program.steps}


def published(name: str) -> recipe.Asked:
    """A plan's published FP8 checkpoint, as if its format were another."""
    asked = question("fp8", model="meta-llama/Llama-3.1-8B-Instruct")
    artifact = asked.candidate.artifact
    assert artifact is not None
    return replace(asked, candidate=structs.replace(asked.candidate, artifact=structs.replace(artifact, format=name)))
