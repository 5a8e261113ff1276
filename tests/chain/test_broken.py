"""Checkpoints that were broken on purpose, verified as somebody's published copy: none passes, and each says why."""

from __future__ import annotations

import json
import subprocess
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tests.chain import world
from tests.chain.lanes import GGUF, Lane, Verified, lanewise, planned, run
from tests.tools import broken
from tests.tools.scorer import compressor

pytestmark = pytest.mark.slow
COPY = Lane("int8-w8a8")
FILE = Lane("gguf:Q8_0", GGUF)
BY_ANSWERS = ("nan", "wrong-template")
"""What the smoke test finds: values that are no numbers, prompts that become other tokens."""
BY_FILES = ("zeroed-layer", "swapped-scales", "quantized-head", "other-tokens")
"""What a look into the files finds, where the program has that step."""


@cache
def harmed(kind: str) -> Path:
    """The sound candidate of a lane with one thing broken."""
    name, part = ("gguf-Q8_0", "model.gguf") if kind.startswith("gguf") else ("int8-w8a8", "model")
    target = world.folder() / f"{kind}.gguf" if kind.startswith("gguf") else world.folder() / kind
    command = [compressor(), broken.__file__, kind, world.verified(name).folder / "candidate" / part, target]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return target


def verified(kind: str, tmp_path: Path, *more: object) -> Verified:
    lane = FILE if kind.startswith("gguf") else COPY
    plan = planned(tmp_path, kind, harmed(kind), lane)
    given = ("--text", world.model().held_out, "--reuse", world.folder() / "runs", *more)
    return run(plan, tmp_path / "run", "--original", original(kind), *given)


def original(kind: str) -> Path:
    if kind.startswith("gguf"):
        return world.verified("gguf-Q8_0").folder / "baseline" / "model.gguf"
    return world.model().model


def fails(found: Verified) -> None:
    receipt = found.receipt
    assert receipt.verdict == "fail", [(each.gate, each.verdict, each.because) for each in receipt.gates]
    assert found.code in (1, 3)
    assert receipt.because


@pytest.mark.parametrize("kind", BY_ANSWERS)
def test_a_copy_that_speaks_wrongly_fails(kind: str, tmp_path: Path) -> None:
    fails(verified(kind, tmp_path))


@pytest.mark.parametrize("kind", BY_FILES)
def test_a_copy_whose_files_are_wrong_fails(kind: str, tmp_path: Path) -> None:
    plan = planned(tmp_path, kind, harmed(kind), COPY)
    shown = lanewise(
        "verify", plan, "--dry-run", "--json", "--original", original(kind), "--text", world.model().held_out,
        cwd=tmp_path,
    )  # fmt: skip
    if not any("inspect" in step["id"] for step in json.loads(shown.stdout)["steps"]):
        pytest.skip("this version does not look into a candidate's files")
    fails(verified(kind, tmp_path))


@pytest.mark.parametrize("kind", [kind for kind in BY_FILES if kind != "other-tokens"])
def test_statistics_of_tokens_see_what_weights_lost(kind: str, tmp_path: Path) -> None:
    """Whatever else is looked at: window by window, the same tokens tell a broken copy from the sound one. A head in
    eight bits adds a third to the divergence and keeps every limit: that is why files are looked into."""
    found = verified(kind, tmp_path)
    if found.code == 1:
        assert found.receipt.ended == "failed"  # a checkpoint that cannot even be opened
        return
    lost = (found.windows().kl - world.verified("int8-w8a8").windows().kl).mean(axis=1)
    assert lost.mean() > 3 * lost.std(ddof=1) / np.sqrt(len(lost))


def test_a_sound_copy_does_not_fail(tmp_path: Path) -> None:
    """The same way of asking, of the folder that the broken ones were made from."""
    sound = world.verified("int8-w8a8").folder / "candidate" / "model"
    plan = planned(tmp_path, "sound", sound, COPY)
    given = ("--text", world.model().held_out, "--reuse", world.folder() / "runs")
    found = run(plan, tmp_path / "run", "--original", world.model().model, *given)
    assert found.code == 0, found.err[-3000:]
    assert found.receipt.verdict != "fail"
    assert found.divergence == pytest.approx(world.verified("int8-w8a8").divergence, rel=1e-9)


def test_a_file_that_ends_early_is_a_failed_step(tmp_path: Path) -> None:
    found = verified("gguf-truncated", tmp_path)
    assert found.code == 1
    assert found.receipt.ended == "failed"
    assert not any(gate.measured for gate in found.receipt.gates)
    assert all(each.because for each in found.receipt.steps if each.state in ("failed", "not run"))


def test_a_file_with_an_empty_layer_does_not_pass(tmp_path: Path) -> None:
    found = verified("gguf-zeroed-layer", tmp_path)
    assert found.receipt.verdict != "pass"
    assert found.divergence > 10 * world.verified("gguf-Q8_0").divergence
