"""The steps that make weights, for real: llm-compressor one-shots of a small model with random weights, on a CPU."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from catalog.errors import NotFound
from planner.proving import recipe
from planner.proving.asked import Asked
from planner.proving.steps import Program, together
from planner.running.runner import Ran
from tests.tools.environment import tool
from tests.tools.quantizer import quantize
from tests.verify.questions import question
from tests.verify.worlds import ran, states

pytestmark = [pytest.mark.slow, pytest.mark.long]
WORDS = 4000
CASES = [
    ("fp8", "fp8-dynamic", "float-quantized", 8),
    ("fp8", "fp8-static", "float-quantized", 8),
    ("fp8", "fp8-block", "float-quantized", 8),
    ("int8-w8a8", None, "int-quantized", 8),
    ("int8-w8a16", None, "pack-quantized", 8),
    ("awq-int4", None, "pack-quantized", 4),
    ("gptq-int4", None, "pack-quantized", 4),
    ("w4a16", "autoround", "pack-quantized", 4),
    ("nvfp4", None, "nvfp4-pack-quantized", 4),
    ("mxfp4", None, "mxfp4-pack-quantized", 4),
]
"""(lane, recipe, the format that compressed-tensors names in config.json, bits of weights)."""


class Tools:
    """llm-compressor's environment, as the tests keep it."""

    def __init__(self) -> None:
        self._python = tool("llm-compressor").python

    def python(self, tool: str) -> Path:
        if tool != "llm-compressor":
            raise NotFound(f"{tool} is not installed")
        return self._python

    def program(self, tool: str, name: str) -> Path:
        raise NotFound(f"{tool} is not installed")

    def versions(self, tool: str) -> Mapping[str, str]:
        return {"llmcompressor": "0.14.0.1"}


@pytest.fixture(scope="module")
def tools() -> Tools:
    return Tools()


@pytest.fixture(scope="module")
def original(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A 16-bit checkpoint of random weights whose tokenizer knows the words `w0` to `w4095`."""
    folder = tmp_path_factory.mktemp("original")
    quantize(folder, ["dense"], [])
    return folder / "dense"


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Calibration and evaluation text that share no passage."""
    folder = tmp_path_factory.mktemp("texts")
    for name, seed in (("calibration.txt", 1), ("own.txt", 2)):
        chance = random.Random(seed)
        lines = [" ".join(f"w{chance.randrange(4096)}" for _ in range(100)) for _ in range(WORDS // 100)]
        (folder / name).write_text("\n\n".join(lines))
    return folder / "calibration.txt", folder / "own.txt"


def small(asked: Asked) -> Asked:
    """The same question with 8 rows of 64 tokens."""
    make = asked.candidate.make
    assert make is not None
    if make.calibration is None:
        return asked
    few = structs.replace(make, calibration=structs.replace(make.calibration, samples=8, sequence_length=64))
    return replace(asked, candidate=structs.replace(asked.candidate, make=few))


def making(program: Program) -> Program:
    """The steps up to the candidate."""
    kept = program.closure(["candidate"])
    steps = tuple(structs.replace(step, ram_bytes=0.0) for step in program.steps if step.id in kept)
    return structs.replace(program, steps=steps, measures={}, missing=(), expected_s=together(steps))


def made(asked: Asked, folder: Path, tools: Tools) -> Ran:
    found, _ = ran(making(recipe.program(small(asked))), folder, environments=tools)
    return found


@pytest.mark.parametrize(("lane", "by", "form", "bits"), CASES, ids=str)
def test_every_scheme_is_made_as_planned(
    lane: str, by: str | None, form: str, bits: int, given: tuple[Path, tuple[Path, Path], Tools], tmp_path: Path
) -> None:
    original, (calibration, own), tools = given
    asked = question(lane, by, original=str(original), calibration=(str(calibration),), texts=(str(own),))
    found = made(asked, tmp_path / "run", tools)
    assert set(states(found).values()) == {"done"}, [each.because for each in found.results]
    folder = tmp_path / "run" / "candidate"
    config = json.loads((folder / "model" / "config.json").read_text())["quantization_config"]
    assert config["quant_method"] == "compressed-tensors"
    (group,) = config["config_groups"].values()
    assert group["weights"]["num_bits"] == bits
    assert form in (config["format"], group.get("format"))
    said = json.loads((folder / "made.json").read_text())
    assert said["kept_16_bit"] == ["lm_head"]
    make = asked.candidate.make
    assert make is not None
    if make.group_size is not None:
        assert group["weights"]["group_size"] == make.group_size
    assert said["rows"] == (8 if make.calibration else 0)
    manifest = json.loads((tmp_path / "run" / "original" / "manifest.json").read_text())
    assert "model.safetensors" in manifest["files"]


@pytest.fixture
def given(original: Path, texts: tuple[Path, Path], tools: Tools) -> tuple[Path, tuple[Path, Path], Tools]:
    return original, texts, tools


def test_an_fp8_cache_gets_its_scales(given: tuple[Path, tuple[Path, Path], Tools], tmp_path: Path) -> None:
    original, (calibration, own), tools = given
    asked = question("fp8", "fp8-static", original=str(original), calibration=(str(calibration),), texts=(str(own),))
    cached = replace(asked, candidate=structs.replace(asked.candidate, kv_cache_dtype="fp8"))
    found = made(cached, tmp_path / "run", tools)
    assert set(states(found).values()) == {"done"}, [each.because for each in found.results]
    config = json.loads((tmp_path / "run/candidate/model/config.json").read_text())["quantization_config"]
    assert config["kv_cache_scheme"]["num_bits"] == 8


def test_calibration_text_that_is_also_scored_is_refused(
    given: tuple[Path, tuple[Path, Path], Tools], tmp_path: Path
) -> None:
    original, (calibration, _), tools = given
    same = (str(calibration),)
    asked = question("gptq-int4", original=str(original), calibration=same, texts=same)
    found = made(asked, tmp_path / "run", tools)
    assert states(found) == {"original": "done", "calibration": "failed", "candidate": "not run"}
    assert "share a passage of 50 words" in found.results[1].because


def test_a_corrupt_original_is_a_failure_that_says_so(
    given: tuple[Path, tuple[Path, Path], Tools], tmp_path: Path
) -> None:
    original, (calibration, own), tools = given
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in original.iterdir():
        content = file.read_bytes()
        (broken / file.name).write_bytes(content[: len(content) // 2] if file.suffix == ".safetensors" else content)
    asked = question("fp8", "fp8-dynamic", original=str(broken), calibration=(str(calibration),), texts=(str(own),))
    found = made(asked, tmp_path / "run", tools)
    assert states(found) == {"original": "done", "candidate": "failed"}
    assert "SafetensorError" in found.results[1].because
