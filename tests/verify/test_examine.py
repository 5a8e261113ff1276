"""What a look into a checkpoint finds: nothing in whole ones of every layout, and what was broken by name."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from planner.running import runner, runstate
from tests.tools import layouts
from tests.tools.layouts import LAYOUTS, MODULES
from tests.tools.tamper import Tensors, read, swapped, tampered, zeroed

WORKER = Path(__file__).parents[2] / "planner" / "workers" / "examine.py"
GATE, UP = "model.layers.0.mlp.gate_proj", "model.layers.0.mlp.up_proj"
Faults = list[dict[str, str]]


def examine(folder: Path, candidate: Path, *words: str, original: Path | None = None) -> tuple[Faults, dict[str, Any]]:
    out = folder / "faults.json"
    against = ("--original", str(original)) if original else ()
    command = [sys.executable, str(WORKER), "--candidate", str(candidate), *against, *words, "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    said = json.loads(out.read_text())
    assert (said["schema"], set(said)) == (1, {"schema", "faults", "seen"})
    assert json.loads(done.stdout)["faults"] == len(said["faults"])
    return said["faults"], said["seen"]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return layouts.original(tmp_path_factory.mktemp("original") / "model")


@pytest.fixture(scope="module", params=LAYOUTS)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return layouts.copy(tmp_path_factory.mktemp("whole") / request.param, request.param)[0]


def test_a_whole_checkpoint_has_no_faults(whole: Path, original: Path, tmp_path: Path) -> None:
    faults, seen = examine(tmp_path, whole, original=original)
    assert faults == []
    assert (seen["compared_weights"], seen["quantized_weights"]) == (len(MODULES), len(MODULES))
    assert (seen["tokenizer"], seen["chat_template"]) == ("the same", "the original's")


def test_scales_of_another_tensor_are_found(whole: Path, original: Path, tmp_path: Path) -> None:
    stored = read(whole / "model.safetensors")
    pairs = [(name, name.replace(GATE, UP)) for name in layouts.scale_names(stored, GATE)]
    broken = tampered(whole, tmp_path / "broken", swapped(*pairs[0]))
    faults, _ = examine(tmp_path, broken, original=original)
    if whole.name == "modelopt-fp8":
        assert {each["where"] for each in faults} <= {f"{GATE}.weight", f"{UP}.weight"}, "alike in one number"
    else:
        assert {each["where"] for each in faults} == {f"{GATE}.weight", f"{UP}.weight"}
        assert all("its values are not the original's" in each["what"] for each in faults)


def test_a_zeroed_layer_is_found(whole: Path, original: Path, tmp_path: Path) -> None:
    stored = read(whole / "model.safetensors")
    scales = list(layouts.scale_names(stored, UP))
    broken = tampered(whole, tmp_path / "broken", zeroed(*scales))
    faults, _ = examine(tmp_path, broken, original=original)
    assert any(f"{UP}." in each["where"] for each in faults)


def test_without_an_original_its_own_words_are_held(whole: Path, tmp_path: Path) -> None:
    faults, seen = examine(tmp_path, whole)
    assert faults == []
    assert "compared_weights" not in seen


Change = Callable[[Tensors], None]


def put(name: str, dtype: str, place: Any, value: Any) -> Change:
    def change(tensors: Tensors) -> None:
        tensors[name][1].reshape(-1)[place] = value
        tensors[name] = dtype, tensors[name][1]

    return change


def removed(name: str) -> Change:
    return lambda tensors: tensors.pop(name) and None


def head_quantized(tensors: Tensors) -> None:
    made, _ = layouts.fp8_rows(layouts.wide(tensors["lm_head.weight"][1]))
    tensors |= {f"lm_head.{last}": tensor for last, tensor in made.items()}


def dequantized(tensors: Tensors) -> None:
    tensors[f"{UP}.weight"] = "BF16", layouts.bf16(layouts.weights()[UP])
    del tensors[f"{UP}.weight_scale"]


SCALE, WEIGHT, NORM = f"{UP}.weight_scale", f"{UP}.weight", "model.layers.1.input_layernorm.weight"
BROKEN: dict[str, tuple[Change, str, str]] = {
    "no number": (put("model.norm.weight", "BF16", 3, 0x7FC0), "1 values are not finite", "model.norm.weight"),
    "an infinite scale": (put(SCALE, "BF16", 5, 0x7F80), "1 values are not finite", SCALE),
    "a negative scale": (put(SCALE, "BF16", 5, 0xBC00), "1 of 256 scales are negative", SCALE),
    "codes that are no number": (put(WEIGHT, "F8_E4M3", 7, 0x7F), "1 values are not finite", WEIGHT),
    "a zero row": (put(WEIGHT, "F8_E4M3", slice(128), 0), "1 of 256 rows are zero", WEIGHT),
    "no scale": (removed(SCALE), "F8_E4M3 without a scale", WEIGHT),
    "a quantized output": (head_quantized, "is quantized and should be in 16 bits", "lm_head.weight"),
    "a layer left out": (dequantized, "is in 16 bits and should be quantized", WEIGHT),
    "a norm of another": (put(NORM, "BF16", slice(64), 0x4000), "no weight carries the ratio", NORM),
    "an output of another": (put("lm_head.weight", "BF16", 11, 0x4100), "16 bits and differs", "lm_head.weight"),
    "a missing norm": (removed("model.norm.weight"), "not in the checkpoint", "model.norm.weight"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_named(name: str, original: Path, tmp_path: Path) -> None:
    change, what, where = BROKEN[name]
    whole, _ = layouts.copy(tmp_path / "whole", "fp8-rows")
    faults, _ = examine(tmp_path, tampered(whole, tmp_path / "broken", change), original=original)
    assert any(what in each["what"] and each["where"] == where for each in faults), faults


def test_a_truncated_file_is_a_fault_and_no_crash(original: Path, tmp_path: Path) -> None:
    whole, _ = layouts.copy(tmp_path / "whole", "packed")
    file = whole / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    faults, _ = examine(tmp_path, whole, original=original)
    assert faults[0]["where"] == "model.safetensors"
    assert "not a whole safetensors file" in faults[0]["what"]


WORDS: dict[str, tuple[str, dict[str, Any], str]] = {
    "another template": ("tokenizer_config.json", {"chat_template": "{{ other }}"}, "chat_template"),
    "no template": ("tokenizer_config.json", {"chat_template": None}, "chat_template"),
    "no BOS": ("tokenizer_config.json", {"add_bos_token": False}, "tokenizer_config.json"),
    "another end": ("generation_config.json", {"eos_token_id": 2}, "generation_config.json"),
    "another vocabulary": ("tokenizer.json", {"model": {"type": "WordLevel", "vocab": {"a": 0}}}, "tokenizer.json"),
    "an added token": ("tokenizer.json", {"added_tokens": [{"id": 64, "content": "<x>"}]}, "tokenizer.json"),
    "another shape": ("config.json", {"rms_norm_eps": 1e-3}, "config.json"),
}


@pytest.mark.parametrize("name", WORDS)
def test_words_that_change_what_is_read_are_faults(name: str, original: Path, tmp_path: Path) -> None:
    file, change, where = WORDS[name]
    whole, _ = layouts.copy(tmp_path / "whole", "packed")
    said = json.loads((whole / file).read_text()) | change
    (whole / file).write_text(json.dumps(said))
    faults, _ = examine(tmp_path, whole, original=original)
    assert [each["where"] for each in faults] == [where], faults


def test_fields_that_change_no_token_are_none(original: Path, tmp_path: Path) -> None:
    whole, _ = layouts.copy(tmp_path / "whole", "packed")
    said = json.loads((whole / "tokenizer.json").read_text())
    (whole / "tokenizer.json").write_text(
        json.dumps(said | {"padding": {"strategy": "BatchLongest"}, "truncation": None})
    )
    said = json.loads((whole / "tokenizer_config.json").read_text())
    template = said.pop("chat_template")
    (whole / "chat_template.jinja").write_text(template)
    (whole / "tokenizer_config.json").write_text(
        json.dumps(said | {"bos_token": {"content": "w1"}, "padding_side": "left"})
    )
    assert examine(tmp_path, whole, original=original)[0] == []


PLANNED: dict[str, tuple[tuple[str, ...], str]] = {
    "bits": (("--scheme", "W8A16"), "num_bits 4, 8 was asked for"),
    "symmetry": (("--scheme", "W4A16_ASYM"), "symmetric True, False was asked for"),
    "group": (("--scheme", "W4A16", "--group-size", "64"), "group_size 32, 64 was asked for"),
    "activations": (("--scheme", "NVFP4"), "activations are quantized as None, (4, 'tensor_group') was asked for"),
    "cache": (("--scheme", "W4A16", "--cache", "fp8"), "no layer has its scales"),
    "ignored": (("--scheme", "W4A16", "--ignore", "re:.*down_proj$"), "is quantized and should be in 16 bits"),
}


@pytest.mark.parametrize("name", PLANNED)
def test_what_the_plan_asked_for_is_held(name: str, tmp_path: Path) -> None:
    words, what = PLANNED[name]
    whole, _ = layouts.copy(tmp_path / "whole", "packed")
    faults, _ = examine(tmp_path, whole, *words)
    assert any(what in each["what"] for each in faults), faults
    assert examine(tmp_path, whole, "--scheme", "W4A16", "--group-size", "32", "--ignore", "lm_head")[0] == []


def test_factors_moved_into_norms_and_rows_are_followed_and_others_are_not(original: Path, tmp_path: Path) -> None:
    """SmoothQuant: a norm divided by what columns are multiplied with, up's rows by what down's columns are."""
    rng = np.random.default_rng(3)
    factor, rows = rng.uniform(0.2, 5, layouts.WIDE), rng.uniform(0.2, 5, layouts.HIGH)

    def smoothed(tensors: Tensors) -> None:
        own = layouts.weights()
        norm = "model.layers.0.post_attention_layernorm.weight"
        base = layouts.wide(tensors[norm][1])
        tensors[norm] = "BF16", layouts.bf16(base / factor)
        given = base / layouts.wide(tensors[norm][1])
        made = {GATE: own[GATE] * given, UP: own[UP] * given / rows[:, None]}
        made["model.layers.0.mlp.down_proj"] = own["model.layers.0.mlp.down_proj"] * rows
        for name, value in made.items():
            tensors |= {f"{name}.{last}": tensor for last, tensor in layouts.int8_rows(value)[0].items()}

    whole, _ = layouts.copy(tmp_path / "whole", "int8-rows")
    moved = tampered(whole, tmp_path / "moved", smoothed)
    faults, seen = examine(tmp_path, moved, original=original)
    assert (faults, seen["smoothed_weights"]) == ([], 3)
    down = "model.layers.0.mlp.down_proj.weight"
    broken = tampered(
        moved, tmp_path / "broken", lambda tensors: tensors.update({down: ("I8", tensors[down][1][:, ::-1])})
    )
    faults, _ = examine(tmp_path, broken, original=original)
    assert down in {each["where"] for each in faults}


def test_what_cannot_be_read_at_all_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "none"):
        command = [sys.executable, str(WORKER), "--candidate", str(path), "--out", str(tmp_path / "f.json")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 1
        assert done.stderr.startswith("examine.py: ")
        assert str(path) in done.stderr


def test_a_change_of_any_module_that_a_worker_imports_runs_its_step_again() -> None:
    """What a script's hashes cover: `examine.py` imports modules of three names, some of them inside functions."""
    folder = WORKER.parent
    names = ("examine", "examine_config", "examine_gguf", "examine_tensors", "examine_weights", "examine_words")
    files = {folder / f"{name}.py" for name in (*names, "gguf_words", "tensor_files", "tensor_formats")}
    assert sorted(runner.script(WORKER)) == sorted(runstate.sha256(file) for file in files)
    scorer = {folder / "score.py", *folder.glob("score_*.py")}
    assert sorted(runner.script(folder / "score.py")) == sorted(runstate.sha256(file) for file in scorer)
