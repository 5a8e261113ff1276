"""The chain of every lane, run once for all tests of this folder: each lane takes from the others what both need."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

from tests.chain import given
from tests.chain.lanes import LANES, Verified, planned, run
from tests.tools.environment import tool
from tests.tools.trained import Trained, trained

ITEMS = 300
"""As many as two points take where few answers turn."""


@cache
def model() -> Trained:
    """The trained model, and the tools that a chain needs, made where they are not there yet."""
    for name in ("llm-compressor", "llama.cpp"):
        tool(name)
    return trained()


@cache
def folder() -> Path:
    """Of this session's plans and runs; removed when Python ends, unless LANEWISE_CHAIN_DIR says where they stay: the
    next session goes on with what has ended well there."""
    named = os.environ.get("LANEWISE_CHAIN_DIR")
    made = Path(named or tempfile.mkdtemp(prefix="lanewise-chain-")).absolute()
    if not named:
        atexit.register(shutil.rmtree, made, ignore_errors=True)
    (made / "runs").mkdir(parents=True, exist_ok=True)
    return made


@cache
def plan(name: str) -> Path:
    return planned(folder(), name, model().model, LANES[name])


@cache
def asked() -> tuple[object, ...]:
    """What every verdict takes beside the text: the neutral one, items of one's own, and what others have finished."""
    neutral = given.comments(folder() / "comments.txt")
    task = given.items(model().held_out, folder() / "items.jsonl", ITEMS)
    return "--neutral", neutral, "--task", task, "--calibration", model().chats, "--reuse", folder() / "runs"


@cache
def verified(name: str) -> Verified:
    """One lane to its receipt."""
    recipe = ("--recipe", LANES[name].recipe) if LANES[name].recipe else ()
    return run(plan(name), folder() / "runs" / name, *recipe, "--text", model().held_out, *asked())
