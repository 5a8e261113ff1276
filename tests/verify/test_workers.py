"""The scripts that need no tool environment: fetching what is here, calibration text."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

WORKERS = Path(__file__).parents[2] / "planner" / "workers"


def run(script: str, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(WORKERS / script), *map(str, words)]
    env = os.environ | {"HF_HUB_OFFLINE": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with weights, configuration, code and a pickle."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("model.safetensors", "config.json", "tokenizer.json", "modeling_x.py", "pytorch_model.bin"):
        (folder / name).write_text(name)
    return folder


def test_a_folder_is_linked_and_hashed_without_code_and_pickles(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("obtain.py", "folder", "--path", model, "--out", out)
    assert done.returncode == 0, done.stderr
    manifest = json.loads((out / "manifest.json").read_text())
    assert set(manifest["files"]) == {"model.safetensors", "config.json", "tokenizer.json"}
    assert manifest["files"]["config.json"]["sha256"] == hashlib.sha256(b"config.json").hexdigest()
    assert sorted(path.name for path in (out / "model").iterdir()) == sorted(manifest["files"])
    assert (out / "model" / "config.json").resolve() == model / "config.json"
    assert json.loads(done.stdout)["sha256"] == manifest["sha256"]


def test_one_gguf_file_is_linked(tmp_path: Path) -> None:
    file = tmp_path / "x-f16.gguf"
    file.write_bytes(b"GGUF")
    assert run("obtain.py", "folder", "--path", file, "--out", tmp_path / "out").returncode == 0
    assert (tmp_path / "out" / "model.gguf").resolve() == file


@pytest.mark.parametrize(
    ("lacking", "says"), [("model.safetensors", "holds no safetensors"), ("config.json", "holds no config.json")]
)
def test_folders_that_hold_no_model_are_named(model: Path, tmp_path: Path, lacking: str, says: str) -> None:
    (model / lacking).unlink()
    done = run("obtain.py", "folder", "--path", model, "--out", tmp_path / "out")
    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_a_repository_without_a_network_is_one_sentence(tmp_path: Path) -> None:
    env = {"HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(WORKERS / "obtain.py"), "hub", "--repo", "a/b", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | env)
    assert done.returncode == 1
    assert "a/b cannot be fetched" in done.stderr
    assert "Traceback" not in done.stderr


def prose(words: int, start: int = 0) -> str:
    return " ".join(f"word{number}" for number in range(start, start + words))


def calibrate(tmp_path: Path, *words: object) -> subprocess.CompletedProcess[str]:
    return run("calibrate.py", *words, "--samples", 4, "--length", 8, "--out", tmp_path / "out")


def test_text_is_reported_by_file_and_script(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("first document\n\nвторой документ")
    (tmp_path / "b.jsonl").write_text('{"text": "third"}\n\n{"text": "fourth"}\n')
    done = calibrate(tmp_path, "--text", tmp_path / "a.txt", tmp_path / "b.jsonl")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["documents"] == 4
    assert report["characters_by_file"] == {"a.txt": 29, "b.jsonl": 11}
    assert report["share_by_script"].keys() == {"LATIN", "CYRILLIC"}
    text = (tmp_path / "out" / "calibration.txt").read_bytes()
    assert report["sha256"] == hashlib.sha256(text).hexdigest()


def test_the_same_seed_takes_the_same_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n\n".join(prose(5, start) for start in range(0, 500, 5)))
    taken = []
    for seed in (1, 1, 2):
        assert calibrate(tmp_path, "--text", tmp_path / "a.txt", "--seed", seed).returncode == 0
        taken.append((tmp_path / "out" / "calibration.txt").read_text())
    assert taken[0] == taken[1] != taken[2]


@pytest.mark.parametrize(("shared", "refused"), [(49, False), (50, True)])
def test_a_passage_of_the_evaluation_text_is_refused(tmp_path: Path, shared: int, refused: bool) -> None:
    (tmp_path / "a.txt").write_text(f"{prose(shared)} and more of its own")
    (tmp_path / "e.jsonl").write_text(json.dumps({"messages": [{"content": f"before {prose(shared)} after"}]}))
    done = calibrate(tmp_path, "--text", tmp_path / "a.txt", "--evaluation", tmp_path / "e.jsonl")
    assert (done.returncode == 1) == refused
    assert ("share a passage of 50 words" in done.stderr) == refused


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.jsonl", b"{", "x.jsonl line 1 is not JSON"),
        ("x.jsonl", b'{"text": "a"}\n{"words": 1}', "x.jsonl line 2 has neither `text` nor `messages`"),
        ("x.jsonl", b'{"messages": [{"role": "user", "content": "a"}]}', "no chat template"),
        ("x.txt", b"\xff\xfe\x00", "can't decode"),
        ("x.txt", b" \n", "hold no text"),
    ],
)
def test_text_that_cannot_be_used_is_one_sentence(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    done = calibrate(tmp_path, "--text", tmp_path / name)
    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_workers_import_nothing_of_ours() -> None:
    for path in WORKERS.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "import catalog" not in text
        assert "from catalog" not in text
