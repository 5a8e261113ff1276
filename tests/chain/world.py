"""The chain of every lane, run once for all tests of this folder, in whichever process asks first: each lane takes from
the others what both need."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from tests.chain import given
from tests.chain.lanes import LANES, Verified, planned, run
from tests.tools.environment import tool
from tests.tools.trained import Trained, trained

SESSION = os.environ.get("PYTEST_XDIST_TESTRUNUID") or str(os.getpid())
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
    """Of the plans and runs of this session (tests/conftest.py)."""
    made = Path(os.environ["LANEWISE_CHAIN_DIR"]).absolute()
    for each in ("runs", "once"):
        (made / each).mkdir(parents=True, exist_ok=True)
    return made


def once(name: str, make: Callable[[], object]) -> Any:
    """What the first process of this session that asked made of it, as JSON; the others wait."""
    kept = folder() / "once" / f"{name}-{SESSION}.json"
    with kept.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            kept.write_text(json.dumps(make()))
        return json.loads(kept.read_text())


@cache
def plan(name: str) -> Path:
    return Path(once(f"plan-{name}", lambda: str(planned(folder(), name, model().model, LANES[name]))))


@cache
def asked() -> tuple[object, ...]:
    """What every verdict takes beside the text: the neutral one, items of one's own, and what others have finished."""
    neutral, task = folder() / "comments.txt", folder() / "items.jsonl"
    once("texts", lambda: [str(given.comments(neutral)), str(given.items(model().held_out, task, ITEMS))])
    return "--neutral", neutral, "--task", task, "--calibration", model().chats, "--reuse", folder() / "runs"


@cache
def verified(name: str) -> Verified:
    """One lane to its receipt."""
    recipe = ("--recipe", LANES[name].recipe) if LANES[name].recipe else ()
    place, words = folder() / "runs" / name, (*recipe, "--text", model().held_out, *asked())
    return Verified(*once(f"run-{name}", lambda: run(plan(name), place, *words).printed), place)
