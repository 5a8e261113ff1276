"""Checkpoints that were broken on purpose, verified as somebody's published copy: none passes, and each says why."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tests.chain import world
from tests.chain.lanes import CONTEXT, GGUF, Lane, Verified, planned, run
from tests.tools import broken
from tests.tools.scorer import compressor

pytestmark = [pytest.mark.slow, pytest.mark.long]
COPY = Lane("int8-w8a8")
FILE = Lane("gguf:Q8_0", GGUF)
NAMED = {
    "zeroed-layer": "rows are zero", "swapped-scales": "values are not the original's",
    "quantized-head": "lm_head.weight: is quantized and should be in 16 bits", "nan": "not finite",
    "wrong-template": "chat.template", "other-tokens": "other token ids", "gguf-zeroed-layer": "rows are zero",
}  # fmt: skip
"""What the receipt says of each."""
ASKED_TASKS = ("zeroed-layer", "gguf-zeroed-layer")
"""Those that answer items as well."""


@cache
def harmed(kind: str) -> Path:
    """The sound candidate of a lane with one thing broken."""
    name, part = ("gguf-Q8_0", "model.gguf") if kind.startswith("gguf") else ("int8-w8a8", "model")
    target = world.folder() / f"{kind}.gguf" if kind.startswith("gguf") else world.folder() / kind
    shutil.rmtree(target, ignore_errors=True)
    command = [compressor(), broken.__file__, kind, world.verified(name).folder / "candidate" / part, target]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return target


@cache
def verified(kind: str) -> Verified:
    lane = FILE if kind.startswith("gguf") else COPY
    plan = planned(world.folder(), kind, harmed(kind), lane)
    given = world.asked() if kind in ASKED_TASKS else ("--reuse", world.folder() / "runs")
    folder = world.folder() / "broken" / kind
    return run(plan, folder, "--original", original(kind), "--text", world.model().held_out, *given)


def original(kind: str) -> Path:
    if kind.startswith("gguf"):
        return world.verified("gguf-Q8_0").folder / "baseline" / "model.gguf"
    return world.model().model


@pytest.mark.parametrize("kind", NAMED)
def test_a_broken_copy_fails_and_says_why(kind: str) -> None:
    found = verified(kind)
    receipt = found.receipt
    assert receipt.verdict == "fail", [(each.gate, each.verdict, each.because) for each in receipt.gates]
    assert found.code == 3
    assert "smoke" in receipt.because
    (smoke,) = [each for each in receipt.gates if each.gate == "smoke"]
    assert re.search(NAMED[kind], smoke.because), smoke.because


@pytest.mark.parametrize("kind", ASKED_TASKS)
def test_a_layer_of_nothing_breaks_limits_on_both_texts(kind: str) -> None:
    """Items that ask which of three passages goes on hardly see it: one layer of four turns as many answers right as
    wrong."""
    gates = {each.gate: each for each in verified(kind).receipt.gates}
    for statistic in ("kld_mean", "kld_p99", "top1_agreement", "ppl_ratio"):
        found = gates[f"{statistic}@{CONTEXT}"]
        assert [each.verdict for each in found.checks] == ["fail", "fail"], statistic
    assert gates["task:chat"].measured


@pytest.mark.parametrize("kind", ["zeroed-layer", "swapped-scales", "quantized-head"])
def test_statistics_of_tokens_see_what_weights_lost(kind: str) -> None:
    """Whatever else is looked at: window by window, the same tokens tell a broken copy from the sound one. A head in
    eight bits adds a third to the divergence and keeps every limit: that is why files are looked into."""
    lost = (verified(kind).windows().kl - world.verified("int8-w8a8").windows().kl).mean(axis=1)
    assert lost.mean() > 3 * lost.std(ddof=1) / np.sqrt(len(lost))


def test_a_sound_copy_does_not_fail() -> None:
    """The same way of asking, of the folder that the broken ones were made from."""
    sound = world.verified("int8-w8a8").folder / "candidate" / "model"
    plan = planned(world.folder(), "sound", sound, COPY)
    given = ("--text", world.model().held_out, "--reuse", world.folder() / "runs")
    found = run(plan, world.folder() / "broken" / "sound", "--original", world.model().model, *given)
    assert found.code == 0, found.err[-3000:]
    assert found.receipt.verdict != "fail"
    assert found.divergence == pytest.approx(world.verified("int8-w8a8").divergence, rel=1e-9)


def test_a_file_that_ends_early_cannot_be_planned() -> None:
    with pytest.raises(RuntimeError, match=r"damaged GGUF file.*gguf-truncated\.gguf"):
        planned(world.folder(), "gguf-truncated", harmed("gguf-truncated"), FILE)
