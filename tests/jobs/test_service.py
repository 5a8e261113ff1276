"""A server with its worker, as it is started: jobs over REST, events, logs, cancel, crashes."""

from __future__ import annotations

import itertools
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.jobs.scene import PATIENCE_S, Scene, command, wait_for


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    found = Scene(tmp_path, f"sqlite:///{tmp_path / 'data' / 'lanewise.sqlite3'}")
    yield found
    found.end()


Event = tuple[str, int | None, dict[str, Any]]


def events(scene: Scene, job: str, after: int | None = None, most: int | None = None) -> list[Event]:
    """(kind, number, data) of a stream until it ends, or of its first events."""
    found: list[Event] = []
    headers = {} if after is None else {"Last-Event-ID": str(after)}
    with httpx.stream("GET", f"{scene.at}/jobs/{job}/events", headers=headers, timeout=PATIENCE_S) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        fields: dict[str, str] = {}
        for line in answer.iter_lines():
            if line and not line.startswith(":"):
                name, _, value = line.partition(": ")
                fields[name] = value
            elif fields:
                number = int(fields["id"]) if "id" in fields else None
                found.append((fields["event"], number, json.loads(fields["data"])))
                fields = {}
                if len(found) == most:
                    break
    return found


def test_a_job_from_its_question_to_its_receipt(scene: Scene) -> None:
    scene.env["FAKE_STEP_S"] = "1.2"
    scene.serve("--workers", "2")
    job = scene.ask()
    assert scene.ask() == job
    told = events(scene, job)
    numbered = [each for each in told if each[1] is not None]
    assert [number for _, number, _ in numbered] == list(range(1, len(numbered) + 1))
    assert [data["state"] for kind, _, data in told if kind == "job"] == ["queued", "running", "done"]
    steps = [(data["step"], data["state"]) for kind, _, data in told if kind == "step"]
    assert steps == [(step, state) for step in "abc" for state in ("running", "done")]
    assert [data for kind, number, data in told if kind == "progress" and number is None and data["seconds"] >= 1]
    for after in (0, 1, 4, len(numbered) - 1):
        assert [number for _, number, _ in events(scene, job, after)] == list(range(after + 1, len(numbered) + 1))
    assert events(scene, job, len(numbered)) == []
    shown = httpx.get(f"{scene.at}/jobs/{job}").json()
    assert (shown["state"], [each["state"] for each in shown["steps"]]) == ("done", ["done"] * 3)
    assert httpx.get(f"{scene.at}/jobs/{job}/logs/b").text == "step b began\n"
    receipt = httpx.get(f"{scene.at}/receipts/{shown['receipt_id']}").json()
    assert [each["state"] for each in receipt["steps"]] == ["done"] * 3
    assert receipt["reproduce"][:3] == ["lanewise", "verify", shown["plan_id"]]
    assert httpx.get(f"{scene.at}/receipts").json()["total"] == 1
    assert scene.made() == "abc"


@pytest.mark.slow
def test_a_stream_that_breaks_off_is_gone_on_with(scene: Scene) -> None:
    scene.env["FAKE_BLOCK"] = "b"
    scene.serve()
    job = scene.ask()
    first = events(scene, job, most=4)
    seen = max(number for _, number, _ in first if number is not None)
    (scene.traces / "go").touch()
    for each in scene.named("time.sleep(600)"):
        each.kill()
    rest = events(scene, job, seen)
    whole = events(scene, job)
    assert [each for each in first if each[1]] + [each for each in rest if each[1]] == whole


def test_cancel_ends_it_within_seconds_and_leaves_nobody(scene: Scene) -> None:
    scene.env["FAKE_BLOCK"] = "b"
    scene.serve()
    job = scene.ask()
    wait_for((scene.traces / "blocked").exists)
    assert scene.named("child")
    assert httpx.delete(f"{scene.at}/jobs/{job}").status_code == 202
    told = events(scene, job)
    assert told[-1][0] == "job"
    assert told[-1][2]["state"] == "cancelled"
    wait_for(lambda: not scene.named("time.sleep") and not scene.named("child"), "no process of the job is left")
    shown = scene.job(job)
    assert [each.state for each in shown.steps] == ["done", "cancelled", "not run"]
    assert httpx.delete(f"{scene.at}/jobs/{job}").json()["state"] == "cancelled"


@pytest.mark.slow
def test_a_failing_step_is_a_failed_job_with_its_log(scene: Scene) -> None:
    scene.env["FAKE_BLOCK"] = "b"
    scene.serve()
    job = scene.ask()
    wait_for((scene.traces / "blocked").exists)
    (step,) = [each for each in scene.named("b yes") if "guard.py" not in command(each)]
    step.kill()
    shown = scene.until(job, "failed")
    assert "b: ended by signal 9" in shown.because
    assert [each.state for each in shown.steps] == ["done", "failed", "not run"]
    (receipt,) = scene.receipts(job)
    assert receipt["ended"] == "failed"
    assert not scene.named("time.sleep")


@pytest.mark.slow
def test_a_job_that_cannot_be_prepared_says_so(scene: Scene) -> None:
    scene.serve()
    shown = scene.until(scene.ask(texts=[{"file": "none.txt"}]), "failed")
    assert "the worker has no folder of texts" in shown.because


def test_a_server_that_is_told_to_stop_puts_its_job_back_and_the_next_one_keeps_what_is_done(scene: Scene) -> None:
    scene.env["FAKE_BLOCK"] = "b"
    server = scene.serve()
    job = scene.ask()
    wait_for((scene.traces / "blocked").exists)
    server.send_signal(signal.SIGTERM)
    server.wait(PATIENCE_S)
    wait_for(lambda: not scene.alive(), "nobody is left")
    assert (scene.job(job).state, scene.job(job).attempts) == ("queued", 0)
    (scene.traces / "go").touch()
    scene.serve()
    assert [each.state for each in scene.until(job, "done").steps] == ["kept", "done", "done"]
    assert len(scene.receipts(job)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("processes", ["1", "2"])
def test_kill_9_of_a_server_leaves_no_process(scene: Scene, processes: str) -> None:
    scene.env["FAKE_BLOCK"] = "b"
    server = scene.serve("--workers", processes)
    job = scene.ask()
    wait_for((scene.traces / "blocked").exists)
    os.kill(server.pid, signal.SIGKILL)
    server.wait()
    wait_for(lambda: not scene.alive(), "nobody is left")
    assert scene.job(job).state == "queued"


def test_a_worker_that_is_killed_is_started_again_and_goes_on(scene: Scene) -> None:
    scene.env["FAKE_BLOCK"] = "b"
    scene.serve()
    job = scene.ask()
    wait_for((scene.traces / "blocked").exists)
    (scene.traces / "go").touch()
    for each in scene.named("work --until-eof"):
        each.kill()
    shown = scene.until(job, "done")
    assert (shown.attempts, [each.state for each in shown.steps]) == (2, ["kept", "done", "done"])
    assert (scene.traces / "begun").read_text() == "abbc"
    assert not scene.named("time.sleep")


@pytest.mark.slow
def test_a_server_without_a_worker_keeps_jobs_for_another_one(scene: Scene) -> None:
    scene.serve("--no-worker", "--workers", "1")
    job = scene.ask()
    assert not scene.named("work --until-eof")
    assert scene.job(job).state == "queued"
    assert scene.start("work", "--once").wait(PATIENCE_S) == 0
    assert scene.job(job).state == "done"


@pytest.mark.slow
def test_a_server_for_others_starts_no_worker_unasked(scene: Scene) -> None:
    scene.serve("--host", "0.0.0.0", "--workers", "1")
    assert not scene.named("work --until-eof")


@pytest.mark.slow
def test_two_workers_in_one_place_work_one_after_the_other(scene: Scene) -> None:
    scene.env["FAKE_STEP_S"] = "0.3"
    scene.serve("--no-worker", "--workers", "1")
    jobs = [scene.ask(seed=number) for number in range(3)]
    workers = [scene.start("work") for _ in range(2)]
    for job in jobs:
        assert scene.until(job, "done", "failed").state == "done"
        assert len(scene.receipts(job)) == 1
    spans = sorted((scene.job(job).started_at or "", scene.job(job).ended_at or "") for job in jobs)
    assert all(earlier[1] <= later[0] for earlier, later in itertools.pairwise(spans))
    for worker in workers:
        worker.send_signal(signal.SIGINT)
        assert worker.wait(PATIENCE_S) == 0
