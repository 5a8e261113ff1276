"""kill -9 of everything that takes part in serving, at random moments: the receipt is true, nobody is left, no port is
held, and the next run ends well with answers of one load.

LANEWISE_KILL_SEED repeats a run; every failure names seed and moment.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from planner.proving.judge_speed import Serving
from planner.proving.receipt import Receipt
from planner.running import verify
from planner.workers.serve_process import free_port
from tests.serve.run_served import REPEATS, REQUESTS, WARM_UP
from tests.serve.test_worker import _left, _words
from tests.serve.worlds import environment

ROOT = Path(__file__).parents[2]
FEW, MANY = 6, 50
START_S, LAST_S = 0.5, 3.5
"""Of the fake engine; of a run from its first process to its receipt, on a quiet machine."""
IN_STEP, STEP_S = 0.7, 2.5
"""Share of moments that lie after the server's start began; how long after."""
PATIENCE_S = 120.0
ENDS = {"died at start", "died under load"}


def _of(words: str, script: str, *, guard: bool) -> bool:
    return script in words and ("guard.py" in words) == guard


VICTIMS: dict[str, Callable[[str], bool]] = {
    "runner": lambda words: "tests.serve.run_served" in words,
    "worker": lambda words: _of(words, "serve.py", guard=False),
    "guard of the worker": lambda words: _of(words, "serve.py", guard=True),
    "server": lambda words: _of(words, "serve.sh", guard=False) or _of(words, "fake_openai.py", guard=False),
    "guard of the server": lambda words: _of(words, "serve.sh", guard=True),
}


def living(folder: Path) -> list[psutil.Process]:
    """Processes of this run."""
    return [each for each in psutil.process_iter() if str(folder) in " ".join(_words(each))]


def strike(folder: Path, chance: random.Random) -> str:
    """Kill one of those that live; which."""
    found = [(name, each) for each in living(folder) for name, is_ in VICTIMS.items() if is_(" ".join(_words(each)))]
    names = sorted({name for name, _ in found})
    if not names:
        return "nobody"
    name = chance.choice(names)
    try:
        next(each for own, each in found if own == name).kill()
    except psutil.NoSuchProcess:
        return "nobody"
    return name


def begin(folder: Path, port: int, **fake: object) -> subprocess.Popen[bytes]:
    env = environment(start_s=START_S, **fake) | {"PYTHONPATH": str(ROOT), "SERVE_TEST": str(folder)}
    with (folder / "printed").open("ab") as printed:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.serve.run_served", str(folder), str(port)], env=env, stdout=printed,
            stderr=printed,
        )  # fmt: skip


def receipt(folder: Path) -> tuple[Receipt, Serving]:
    made = verify.read(folder / verify.RECEIPT)
    assert made.served is not None
    return made, made.served


def struck(folder: Path, port: int, chance: random.Random) -> tuple[str, float]:
    """One run that loses somebody; whom, and when: (victim, seconds after the start or after the server's)."""
    process = begin(folder, port)
    started = folder / "run" / "unfinished" / "served" / "server.log"
    delay = chance.uniform(0.0, LAST_S)
    if chance.random() < IN_STEP:
        last = time.monotonic() + PATIENCE_S
        while not started.exists() and process.poll() is None:
            assert time.monotonic() < last
            time.sleep(0.01)
        delay = chance.uniform(0.0, STEP_S)
    time.sleep(delay)
    victim = strike(folder, chance)
    process.wait(timeout=PATIENCE_S)
    return victim, delay


def check(folder: Path, victim: str, where: str) -> str:
    """What the struck run's receipt may say, by who was killed; its outcome, "none" without a receipt."""
    if not (folder / verify.RECEIPT).exists():
        assert victim == "runner", f"{where}: {(folder / 'printed').read_text()[-2000:]}"
        return "none"
    made, served = receipt(folder)
    measured = folder / "run" / "served" / "measured.json"
    assert (served.outcome == "measured") == measured.exists(), f"{where}: {served}"
    if served.outcome == "measured":
        assert made.ended == "finished", where
        return served.outcome
    assert made.ended == "failed", f"{where}: {made}"
    assert served.claims == (), where
    assert served.because, where
    if victim in ("server", "guard of the server"):
        assert served.outcome in ENDS, f"{where}: {served}"
    else:
        assert victim in ("worker", "guard of the worker"), f"{where}: {served}"
        assert "signal 9" in served.because or "exit code -9" in served.because, f"{where}: {served}"
    return served.outcome


def moment(folder: Path, chance: random.Random, where: str) -> tuple[str, str]:
    """One moment: struck, looked at, run again."""
    folder.mkdir()
    port = free_port()
    victim, delay = struck(folder, port, chance)
    where = f"{where}, {victim} after {delay:.2f} s"
    assert _left(folder) == [], f"{where}: somebody is left"
    assert free(port), f"{where}: the port is held"
    outcome = check(folder, victim, where)
    record = folder / "asked.jsonl"
    again = begin(folder, port, record=str(record))
    assert again.wait(timeout=PATIENCE_S) == 0, f"{where}: {(folder / 'printed').read_text()[-2000:]}"
    made, served = receipt(folder)
    assert (made.ended, served.outcome, served.errors) == ("finished", "measured", {}), f"{where}: {served}"
    assert (served.repeats, served.requests) == (REPEATS, REPEATS * REQUESTS), where
    (step,) = made.steps
    asked = len(record.read_text().splitlines()) if record.exists() else 0
    assert asked == (0 if step.state == "kept" else WARM_UP + REPEATS * REQUESTS), f"{where}: {step.state}, {asked}"
    assert (step.state == "kept") <= (outcome in ("measured", "none")), where
    assert _left(folder) == [], f"{where}: somebody is left of the second run"
    return victim, outcome


def free(port: int) -> bool:
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("moments", [FEW, pytest.param(MANY, marks=pytest.mark.long)])
def test_kill_9_at_random_moments(moments: int, tmp_path: Path) -> None:
    seed = int(os.environ.get("LANEWISE_KILL_SEED") or secrets.randbits(32))
    chance = random.Random(seed)
    seen: Counter[tuple[str, str]] = Counter()
    for place in range(moments):
        seen[moment(tmp_path / str(place), chance, f"seed {seed}, moment {place}")] += 1
    print(json.dumps({"seed": seed, "seen": {f"{who}: {came}": count for (who, came), count in sorted(seen.items())}}))
    assert sum(count for (who, _), count in seen.items() if who != "nobody") >= moments // 2
