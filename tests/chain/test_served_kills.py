"""kill -9 while llama-server itself serves: nobody is left, the receipt is true, the next run ends well.

LANEWISE_KILL_SEED repeats a run; every failure names seed and moment.
"""

from __future__ import annotations

import os
import random
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from planner.proving.judge_speed import Serving
from planner.running import verify
from tests.chain import serving, world
from tests.chain.lanes import Verified, environment
from tests.chain.test_survival import alive, gone

pytestmark = [pytest.mark.slow, pytest.mark.long]
LANE = "gguf-Q8_0"
SECONDS = 12.0
"""From the server's start to the end of its load, on a quiet machine."""
PATIENCE_S = 600.0
VICTIMS: dict[str, Callable[[str], bool]] = {
    "server": lambda words: "llama-server" in words and "serve.py" not in words and "guard.py" not in words,
    "worker": lambda words: "serve.py" in words and "guard.py" not in words,
    "guard of the server": lambda words: "serve.sh" in words and "guard.py" in words,
}


def begin(folder: Path) -> subprocess.Popen[bytes]:
    own = environment(LANEWISE_CATALOG_DIR=str(serving.catalogue()))
    command = [sys.executable, "-m", "planner", "verify", *map(str, serving.words(LANE, folder))]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, cwd=world.folder(), env=own, stdout=quiet, stderr=quiet)


def served(folder: Path) -> Serving:
    found = Verified(0, "", "", folder).receipt.served
    assert found is not None
    return found


def words_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@pytest.mark.parametrize("victim", ["runner", *VICTIMS])
def test_kill_9_while_llama_server_serves(victim: str, tmp_path: Path) -> None:
    seed = int(os.environ.get("LANEWISE_KILL_SEED") or secrets.randbits(32))
    delay = random.Random(f"{seed} {victim}").uniform(0.0, SECONDS)
    folder, where = tmp_path / "run", f"seed {seed}, {victim} after {delay:.2f} s"
    process = begin(folder)
    try:
        last = time.monotonic() + PATIENCE_S
        while not (folder / "unfinished" / "served" / "server.log").exists():
            assert process.poll() is None, where
            assert time.monotonic() < last, where
            time.sleep(0.02)
        time.sleep(delay)
        if victim == "runner":
            process.kill()
        for each in alive(folder) if victim != "runner" else ():
            if VICTIMS[victim](words_of(each)):
                each.kill()
        process.wait(timeout=PATIENCE_S)
    finally:
        process.kill()
        process.wait()
    assert gone(folder), f"{where}: {[words_of(each) for each in alive(folder)]}"
    if victim == "runner":
        assert not (folder / verify.RECEIPT).exists(), where
    else:
        told = {"worker": ("failed",)}.get(victim, ("died at start", "died under load"))
        assert served(folder).outcome in told, f"{where}: {served(folder)}"
        assert served(folder).claims == (), where
    assert begin(folder).wait(timeout=PATIENCE_S) == 0, where
    again = served(folder)
    assert (again.outcome, again.repeats, again.errors) == ("measured", 3, {}), f"{where}: {again}"
    assert gone(folder), where
