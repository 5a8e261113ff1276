"""From the plan's own launch file through the runner to the receipt, with a fake engine; and killed on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from planner.proving.receipt import Result
from planner.running import verify, verify_served
from tests.serve import worlds
from tests.serve.run_served import run
from tests.serve.test_worker import _left

ROOT = Path(__file__).parents[2]


def test_a_run_ends_with_its_claims_in_the_receipt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE", json.dumps({"first_s": 0.01}))
    made = run(tmp_path)
    assert made.served is not None
    assert (made.ended, made.served.outcome) == ("finished", "measured"), made.steps
    assert made.served.requests == 40
    assert made.served.errors == {}
    assert {claim.name for claim in made.served.claims} >= {"ready_s", "ttft_p95_s", "tpot_p50_s", "e2e_p99_s"}
    assert made.served.elsewhere.startswith("planned on h100-sxm5-80, served on ")
    assert {claim.verdict for claim in made.served.claims} == {"open"}
    assert "log is in no format" in " ".join(made.served.notes)
    assert set(made.steps[0].made) == {f"served/{name}" for name in ("measured.json", "server.log", "launch")}
    page = verify.page(made).decode()
    assert "## Served" in page
    assert all(claim.name.replace("_", "\\_") in page for claim in made.served.claims)
    launched = tmp_path / "run" / "served" / "launch" / "llamacpp" / "serve.sh"
    assert "exec llama-server" in launched.read_text()


@pytest.mark.parametrize(("wrong", "outcome"), [("die", "died at start"), ("die_under_load", "died under load")])
def test_a_failure_of_the_engine_is_the_receipts_outcome(
    wrong: str, outcome: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE", json.dumps({"wrong": wrong}))
    made = run(tmp_path)
    assert made.served is not None
    assert (made.ended, made.served.outcome) == ("failed", outcome)
    assert made.served.claims == ()
    assert outcome in verify.page(made).decode()


@pytest.mark.parametrize("moment", [1.0, 2.5])
def test_kill_9_of_the_runner_leaves_nobody(moment: float, tmp_path: Path) -> None:
    env = worlds.environment(start_s=2.0) | {"PYTHONPATH": str(ROOT), "SERVE_TEST": str(tmp_path)}
    runner = subprocess.Popen(
        [sys.executable, "-m", "tests.serve.run_served", str(tmp_path)], env=env, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    waiting = tmp_path / "run" / "unfinished" / "served" / "server.log"
    for _ in range(600):
        if waiting.exists() or runner.poll() is not None:
            break
        time.sleep(0.1)
    assert runner.poll() is None
    time.sleep(moment)
    os.kill(runner.pid, signal.SIGKILL)
    runner.wait()
    assert _left(tmp_path) == []


def test_a_worker_that_was_killed_after_its_last_word_has_failed() -> None:
    said = {"outcome": "measured"}
    made = verify_served._unserved(Result(id="served", state="failed", because="exit code -9", said=said))
    assert (made.outcome, made.because) == ("failed", "exit code -9")
