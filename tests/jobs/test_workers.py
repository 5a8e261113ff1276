"""Workers of several places over one database, one that sleeps too long, one whose database is gone; the command."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, get_args

import pytest
from msgspec import structs
from sqlalchemy.exc import OperationalError

from planner import cli, settings
from planner.jobqueue.ask import GivenText, VerifyAsk
from planner.jobqueue.book import Book
from planner.jobqueue.job import ENDED
from planner.jobqueue.place import Place
from planner.jobqueue.worker import CHILD, STATES, Worker
from planner.proving import receipt
from planner.store import Store
from tests.jobs.scene import FAKE, PATIENCE_S, Scene, wait_for

GIVEN = VerifyAsk(texts=(GivenText(name="a.txt", content="one"),))


def scene_of(folder: Path, url: str = "", **env: str) -> Scene:
    return Scene(folder, url or f"sqlite:///{folder / 'data' / 'lanewise.sqlite3'}", env=env)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    found = scene_of(tmp_path)
    yield found
    found.end()


def asked(scene: Scene, number: int = 0) -> str:
    """A new job, without a server."""
    plan = scene.plan()
    with scene.store() as store:
        return Book(store).add(plan, "gptq-int4", VerifyAsk(texts=GIVEN.texts, seed=number)).id


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_workers_in_places_of_their_own_share_the_jobs(
    tmp_path: Path, database: str, request: pytest.FixtureRequest
) -> None:
    scene = scene_of(tmp_path, request.getfixturevalue("postgres") if database == "postgres" else "", FAKE_STEP_S="0.5")
    try:
        jobs = [asked(scene, number) for number in range(6)]
        for place in ("one", "two"):
            scene.env["LANEWISE_JOBS_DIR"] = str(tmp_path / place)
            scene.start("work")
        for job in jobs:
            assert scene.until(job, "done", "failed", "lost").state == "done"
            assert scene.job(job).attempts == 1
            assert len(scene.receipts(job)) == 1
        letters = (scene.traces / "begun").read_text()
        assert {letter: letters.count(letter) for letter in "abc"} == {"a": 6, "b": 6, "c": 6}
        for place in ("one", "two"):
            assert any((tmp_path / place / "runs").rglob("c/made"))
    finally:
        scene.end()


@pytest.mark.slow
def test_a_worker_that_slept_through_its_lease_writes_nothing_when_it_wakes(scene: Scene, tmp_path: Path) -> None:
    scene.env |= {"FAKE_BLOCK": "b", "FAKE_LEASE_S": "3", "LANEWISE_JOBS_DIR": str(tmp_path / "one")}
    job = asked(scene)
    sleeper = scene.start("work")
    wait_for((scene.traces / "blocked").exists)
    asleep(sleeper.pid, tmp_path / "data" / "lanewise.sqlite3")
    try:
        (scene.traces / "go").touch()
        scene.env["LANEWISE_JOBS_DIR"] = str(tmp_path / "two")
        scene.start("work")
        assert scene.until(job, "done").attempts == 2
    finally:
        os.kill(sleeper.pid, signal.SIGCONT)
    wait_for(lambda: not scene.named("time.sleep") and not scene.named("child"), "the first job's process is ended")
    (receipt,) = scene.receipts(job)
    assert [each["state"] for each in receipt["steps"]] == ["done"] * 3
    assert scene.job(job).state == "done"
    assert sleeper.poll() is None


def asleep(worker: int, database: Path) -> None:
    """Stopped between its writes: with SQLite's lock in its hands it would hold up everybody."""
    for _ in range(100):
        os.kill(worker, signal.SIGSTOP)
        try:
            with closing(sqlite3.connect(database, timeout=1, isolation_level=None)) as seen:
                seen.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError:
            os.kill(worker, signal.SIGCONT)
            time.sleep(0.05)
    raise AssertionError("it holds the lock whenever it is stopped")


@pytest.fixture
def worker(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """A worker in this process, whose jobs are processes of the small program."""
    scene.traces.mkdir()
    for name, value in scene.environment().items():
        monkeypatch.setenv(name, value)
    own, store = settings.from_environment(), Store(scene.url)
    assert own.jobs_dir is not None
    child = (sys.executable, FAKE, "child")
    yield Worker(store=store, place=Place(own.jobs_dir), settings=own, child=child, lease_s=3.0, beat_s=0.1)
    store.close()


@pytest.mark.slow
def test_a_worker_without_its_database_ends_the_job_before_the_lease_does(
    scene: Scene, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_BLOCK", "b")
    job, turn, silent = asked(scene), Book.turn, []

    def gone(book: Book) -> Any:
        if (scene.traces / "blocked").exists():
            silent.append(len(scene.named("child")))
            raise OperationalError("nothing", None, Exception("no answer"))
        return turn(book)

    monkeypatch.setattr(Book, "turn", gone)
    assert worker.work(once=True) == 1
    assert silent[0] > 0
    assert len(silent) > 2
    assert scene.named("child") == []
    assert scene.named("time.sleep") == []
    (scene.traces / "blocked").unlink()
    (scene.traces / "go").touch()
    assert worker.work(once=True) == 1
    assert (scene.job(job).state, scene.job(job).attempts) == ("done", 1)
    assert [each.state for each in scene.job(job).steps] == ["kept", "done", "done"]


def test_a_job_whose_process_prints_no_receipt_has_failed(scene: Scene, worker: Worker) -> None:
    job = asked(scene)
    worker.child = (sys.executable, "-c", "print('library chatter'); print('{\"kind\": 3}')")
    worker.work(once=True)
    assert (scene.job(job).state, scene.job(job).because) == ("failed", "it ended well without a receipt")


def test_a_job_whose_process_crashes_says_its_last_line(scene: Scene, worker: Worker) -> None:
    job = asked(scene)
    worker.child = (sys.executable, "-c", "raise ValueError('no such tensor')")
    worker.work(once=True)
    assert (scene.job(job).state, scene.job(job).because) == ("failed", "ValueError: no such tensor")


def test_the_real_process_of_a_job_says_which_tool_is_missing(
    scene: Scene, worker: Worker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plan = scene.plan()
    given = VerifyAsk(texts=GIVEN.texts, calibration=(GivenText(name="c.txt", content="other"),))
    job = Book(worker.store).add(plan, "gptq-int4", given).id
    worker.settings = structs.replace(worker.settings, tools_dir=tmp_path / "none")
    worker.child = CHILD
    worker.work(once=True)
    found = scene.job(job)
    assert found.state == "failed"
    assert "llm-compressor is not installed" in found.because
    assert [each.state for each in found.steps] == ["not run"] * len(found.steps) != []


def test_a_job_that_kills_its_process_again_and_again_is_lost(scene: Scene, worker: Worker) -> None:
    job = asked(scene)
    worker.child = (sys.executable, "-c", "import os; os.kill(os.getpid(), 9)")
    assert worker.work(once=True) == 3
    assert (scene.job(job).state, scene.receipts(job)) == ("lost", [])


def test_a_place_is_made_marked_and_kept_to_one(tmp_path: Path) -> None:
    place = Place(tmp_path / "jobs")
    with place.taken() as first:
        assert first is not None
        with Place(tmp_path / "jobs").taken() as second:
            assert second is None
    with place.taken() as again:
        assert again == first
    (tmp_path / "jobs" / "place").write_text("../../etc")
    with pytest.raises(Exception, match="not what a worker writes"), place.taken():
        pass


def test_the_command_lists_shows_follows_and_cancels(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in scene.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("COLUMNS", "200")
    first, second = asked(scene, 1), asked(scene, 2)
    assert cli.main(["jobs"]) == 0
    shown = capsys.readouterr().out
    assert shown.index(second) < shown.index(first)
    assert cli.main(["jobs", "list", "--json", "--limit", "1"]) == 0
    page = json.loads(capsys.readouterr().out)
    assert ([each["id"] for each in page["jobs"]], page["total"]) == ([second], 2)
    assert cli.main(["jobs", "cancel", second]) == 0
    assert "cancelled" in capsys.readouterr().out
    assert cli.main(["jobs", "show", second, "--follow"]) == 130
    scene.start("work", "--once")
    assert cli.main(["jobs", "show", first, "--follow", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "done"
    assert cli.main(["jobs", "show", first, "--follow"]) == 0
    told = capsys.readouterr().err
    assert "step: b done" in told
    assert told.splitlines()[-1].split("job: ")[1].startswith("done")
    assert cli.main(["jobs", "show", first]) == 0
    assert "inconclusive" in capsys.readouterr().out
    assert cli.main(["jobs", "show", first, "--log", "c"]) == 0
    assert capsys.readouterr().out == "step c began\n"
    scene.started[0].wait(PATIENCE_S)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["show", "0123456789abcdef"], 1, "no job '0123456789abcdef'"),
        (["show", "'; --"], 1, "no job"),
        (["cancel", "\0"], 1, "no job"),
        (["list", "--limit", "0"], 2, "at least one job"),
        (["work", "--once", "--texts", "/nowhere"], 2, "no such folder"),
    ],
)
def test_the_command_says_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], code: int,
    says: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("LANEWISE_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("LANEWISE_DATABASE_URL", raising=False)
    assert cli.main(["jobs", *words]) == code
    assert says in capsys.readouterr().err


def test_however_a_run_ends_its_job_ends() -> None:
    assert set(STATES) == set(get_args(receipt.Ended))
    assert set(STATES.values()) <= set(ENDED)
