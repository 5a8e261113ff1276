"""A published checkpoint that was opened carries commit, licence and date; one that is something else is refused."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.models import stored
from tests.models.hub import COMMIT, GATED, serving

BASE = "meta-llama/Llama-3.1-8B-Instruct"
LANES = {"acme/plain": "bf16", "acme/tiny": "bf16", "acme/files": "gguf", "acme/none": "gguf", "acme/gone": "bf16"}
COLUMNS = ("repo", "base", "publisher", "format", "lane", "confidence", "source")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("hub")
    stored.checkpoint(root / "acme" / "plain", stored.LLAMA_8B)
    stored.checkpoint(root / "acme" / "tiny", stored.TINY)
    for name, file in (("files", "model-Q4_K_M.gguf"), ("none", "README.md")):
        (root / "acme" / name).mkdir(parents=True)
        (root / "acme" / name / file).write_bytes(b"x")
    with serving(root) as (url, _):
        yield url


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder whose catalogue knows the checkpoints of the hub."""
    folder = tmp_path / "catalog"
    folder.mkdir()
    with (folder / "artifacts.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for repo, lane in {**LANES, GATED: "bf16"}.items():
            spelled = "GGUF" if lane == "gguf" else lane
            writer.writerow((repo, BASE, repo.partition("/")[0], spelled, lane, "A", "test"))
    return tmp_path


def lanewise(hub: str, data: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "HF_ENDPOINT": hub, "HF_HOME": str(data / "home"), "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1",
        "LANEWISE_DATA_DIR": str(data), "PYTHONPATH": os.getcwd(),
    }  # fmt: skip
    command = [sys.executable, "-m", "planner", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def rows(data: Path) -> dict[str, dict[str, str]]:
    with (data / "catalog" / "artifacts.csv").open() as file:
        return {row["repo"]: row for row in csv.DictReader(file)}


def test_what_was_opened_is_kept(hub: str, data: Path) -> None:
    done = lanewise(hub, data, "catalog", "check", "acme/plain", "acme/files")
    assert (done.returncode, done.stderr) == (0, "")
    kept = rows(data)
    for repo in ("acme/plain", "acme/files"):
        assert (kept[repo]["revision"], kept[repo]["license"]) == (COMMIT, "apache-2.0")
        assert len(kept[repo]["checked"]) == len("2026-11-21")
    assert float(kept["acme/plain"]["weight_bytes"]) == 2 * 8_030_261_248
    shown = lanewise(hub, data, "catalog", "artifacts", "acme/plain", "--json")
    assert kept["acme/plain"]["checked"] in shown.stdout


@pytest.mark.parametrize(
    ("repo", "says"),
    [
        ("acme/tiny", "another model"),
        ("acme/none", "no GGUF file"),
        ("acme/gone", "no such repository"),
        (GATED, "gated"),
    ],
)
def test_what_is_something_else_is_said_and_not_kept(repo: str, says: str, hub: str, data: Path) -> None:
    done = lanewise(hub, data, "catalog", "check", repo)
    assert done.returncode == 1
    assert says in done.stderr
    assert not rows(data)[repo].get("checked")


def test_an_unknown_checkpoint_is_refused_by_name(hub: str, data: Path) -> None:
    done = lanewise(hub, data, "catalog", "check", "acme/unheard-of")
    assert done.returncode == 1
    assert "acme/unheard-of" in done.stderr
