"""Jobs in SQLite and in PostgreSQL: claimed by one worker, kept by a token, put right when that worker is gone."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, inspect

from catalog.errors import NotFound
from planner import resources, service
from planner.jobqueue import book as books
from planner.jobqueue import leases
from planner.jobqueue.ask import GivenText, VerifyAsk
from planner.jobqueue.book import ATTEMPTS, MOST_QUEUED, Book, Full
from planner.jobqueue.job import JobStep, Progress
from planner.jobqueue.leases import Holder, News
from planner.jobqueue.tables import EVENTS, JOBS, LOGS, RECEIPTS
from planner.proving.receipt import Receipt
from planner.running import verify
from planner.running.runner import Ran
from planner.store import CHANGES, METADATA, Store
from tests.jobs.fake import program
from tests.verify.questions import question

HERE = Holder(machine="here", place="a" * 32, lease_s=60.0)
THERE = Holder(machine="there", place="b" * 32, lease_s=60.0)
ASK = VerifyAsk(lane="fp8", texts=(GivenText(name="a.txt", content="one"),))
STEPS = (JobStep(id="a", does="makes", state="done", expected_s=1.0), JobStep(id="b", does="x", expected_s=2.0))
TABLES = {"jobs", "job_events", "job_logs", "receipts"}
HOSTILE = ["", "none", "'; DROP TABLE jobs; --", "\0", "a" * 5000, "%", "ＡＡ", "../..", "0123456789abcdeg", "\ud800"]


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without jobs, before and after."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'plans.sqlite3'}"
        return
    found: str = request.getfixturevalue("postgres")
    yield found
    store = Store(found)
    with store.writing() as connection:
        for table in (RECEIPTS, LOGS, EVENTS, JOBS):
            connection.execute(table.delete())
    store.close()


@pytest.fixture
def book(url: str) -> Iterator[Book]:
    store = Store(url)
    yield Book(store)
    store.close()


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """The database's clock, which the test moves on by seconds."""
    real, moved = books.clock, {"by": 0.0}
    monkeypatch.setattr(books, "clock", lambda connection: real(connection) + moved["by"])
    return moved


def asked(book: Book, number: int = 0) -> str:
    """A new job's id; another number is another question."""
    return book.add("plan", "fp8", msgspec.structs.replace(ASK, seed=number)).id


def claimed(book: Book, holder: Holder = HERE) -> leases.Lease:
    found = leases.claim(book, holder)
    assert found is not None
    return found


def receipt(folder: Path) -> tuple[Receipt, bytes]:
    """Of a run in which nothing was run."""
    about = verify.Run(question=question("gptq-int4"), inventory=verify.Inventory(probed_at="x"), reproduce=())
    made = verify.receipt_of(program(folder), about, (Ran(results=()), folder), about.clock())
    return made, service.encode(made)


def story(book: Book, job: str) -> list[str]:
    """States in the order of events."""
    return [each.data["state"] for each in book.news(job)[1] if each.kind == "job"]


def test_a_job_waits_runs_and_ends_with_its_receipt(book: Book, tmp_path: Path) -> None:
    job = asked(book)
    assert (book.get(job).state, book.get(job).attempts) == ("queued", 0)
    lease = claimed(book)
    assert (lease.job, lease.plan_id, lease.ask, lease.attempt) == (job, "plan", ASK, 1)
    news = News(
        steps=STEPS, progress=Progress(step="b", seconds=1.0), events=[("step", {"step": "a", "state": "done"})],
        logs={"a": (b"err\xff\0", b"out")},
    )  # fmt: skip
    assert leases.beat(book, lease, 60.0, news) == "go on"
    running = book.get(job)
    assert (running.state, running.steps, running.worker) == ("running", STEPS, "here")
    assert running.progress == Progress(step="b", seconds=1.0)
    assert (book.log(job, "a"), book.log(job, "a", "stdout")) == (b"err\xff\0", b"out")
    made, document = receipt(tmp_path)
    assert leases.finish(book, lease, ("done", "well"), News(steps=STEPS), (made, document))
    ended = book.get(job)
    assert (ended.state, ended.because, ended.verdict, ended.progress) == ("done", "well", made.verdict, None)
    assert ended.receipt_id is not None
    assert book.receipt(ended.receipt_id) == document
    (line,) = book.receipts().receipts
    assert (line.id, line.job, line.plan_id, line.verdict) == (ended.receipt_id, job, "plan", made.verdict)
    assert [each.number for each in book.news(job)[1]] == [1, 2, 3, 4]
    assert story(book, job) == ["queued", "running", "done"]
    assert [each.number for each in book.news(job, after=2)[1]] == [3, 4]


def test_jobs_are_taken_in_the_order_in_which_they_came(book: Book) -> None:
    jobs = [asked(book, number) for number in range(3)]
    holders = [msgspec.structs.replace(HERE, place=str(number) * 32) for number in range(4)]
    assert [claimed(book, holder).job for holder in holders[:3]] == jobs
    assert leases.claim(book, holders[3]) is None
    assert [each.id for each in book.page().jobs] == jobs[::-1]
    assert [each.id for each in book.page(limit=1, offset=1).jobs] == jobs[1:2]
    assert book.page(plan_id="other").total == 0


def test_the_same_question_is_one_job_while_it_lives(book: Book) -> None:
    job = asked(book)
    assert asked(book) == job
    lease = claimed(book)
    assert asked(book) == job
    leases.finish(book, lease, ("failed", "no"), News())
    assert asked(book) != job


def test_workers_that_race_share_the_jobs(url: str) -> None:
    """Sixteen jobs, eight workers in places of their own: every job once, nobody twice."""
    stores = [Store(url) for _ in range(4)]
    jobs = {asked(Book(stores[0]), number) for number in range(16)}

    def work(number: int) -> list[str]:
        holder, own, found = msgspec.structs.replace(HERE, place=f"{number:032x}"), Book(stores[number % 4]), []
        while (lease := leases.claim(own, holder)) is not None:
            found.append(lease.job)
            assert leases.finish(own, lease, ("done", ""), News())
        return found

    with ThreadPoolExecutor(8) as workers:
        taken = [job for found in workers.map(work, range(8)) for job in found]
    assert sorted(taken) == sorted(jobs)
    for store in stores:
        store.close()


def test_questions_that_race_are_one_job(url: str) -> None:
    stores = [Store(url) for _ in range(4)]
    with ThreadPoolExecutor(8) as callers:
        found = set(callers.map(lambda number: asked(Book(stores[number % 4])), range(16)))
    assert len(found) == 1
    for store in stores:
        store.close()


def test_a_silent_worker_loses_its_job_and_writes_nothing_more(
    book: Book, late: dict[str, float], tmp_path: Path
) -> None:
    job = asked(book)
    first = claimed(book)
    leases.beat(book, first, 60.0, News(steps=(msgspec.structs.replace(STEPS[0], state="running"),)))
    late["by"] = 61.0
    waiting = book.get(job)
    assert (waiting.state, waiting.steps[0].state, waiting.progress) == ("queued", "waiting", None)
    assert leases.beat(book, first, 60.0, News()) == "gone"
    second = claimed(book, THERE)
    assert (second.job, second.attempt) == (job, 2)
    assert leases.beat(book, first, 60.0, News(events=[("note", {"text": "late"})])) == "gone"
    assert not leases.finish(book, first, ("failed", "late"), News(), receipt(tmp_path))
    leases.release(book, first, counts=True)
    assert (book.get(job).state, book.get(job).worker) == ("running", "there")
    assert leases.finish(book, second, ("done", ""), News(), receipt(tmp_path))
    assert not leases.finish(book, second, ("done", ""), News(), receipt(tmp_path))
    assert book.receipts().total == 1
    assert story(book, job) == ["queued", "running", "queued", "running", "done"]


def test_a_sign_of_life_prolongs_the_lease(book: Book, late: dict[str, float]) -> None:
    job = asked(book)
    lease = claimed(book)
    for _ in range(4):
        late["by"] += 50.0
        assert leases.beat(book, lease, 60.0, News()) == "go on"
    assert book.get(job).state == "running"


def test_whoever_has_the_place_takes_what_its_dead_worker_held_at_once(book: Book) -> None:
    job = asked(book)
    claimed(book)
    assert leases.claim(book, THERE) is None
    again = claimed(book)
    assert (again.job, again.attempt) == (job, 2)


def test_a_job_whose_workers_die_is_lost(book: Book, late: dict[str, float]) -> None:
    job = asked(book)
    for attempt in range(1, ATTEMPTS + 1):
        lease = claimed(book)
        assert lease.attempt == attempt
        steps = (STEPS[0], *(msgspec.structs.replace(STEPS[1], id=name) for name in "bc"))
        running = msgspec.structs.replace(steps[1], state="running")
        assert leases.beat(book, lease, 60.0, News(steps=(steps[0], running, steps[2]))) == "go on"
        late["by"] += 61.0
    lost = book.get(job)
    assert [each.state for each in lost.steps] == ["done", "cancelled", "not run"]
    assert (lost.state, lost.ended) == ("lost", True)
    assert f"{ATTEMPTS} times" in lost.because
    assert leases.claim(book, HERE) is None
    assert book.cancel(job).state == "lost"


def test_a_worker_that_is_told_to_stop_uses_up_no_attempt(book: Book) -> None:
    job = asked(book)
    for _ in range(ATTEMPTS + 2):
        lease = claimed(book)
        assert lease.attempt == 1
        leases.release(book, lease, counts=False)
    assert book.get(job).state == "queued"


def test_cancel(book: Book, late: dict[str, float]) -> None:
    waiting = asked(book, 1)
    assert (book.cancel(waiting).state, leases.claim(book, HERE)) == ("cancelled", None)
    running = asked(book, 2)
    lease = claimed(book)
    asked_for = book.cancel(running)
    assert (asked_for.state, asked_for.cancelling) == ("running", True)
    assert book.cancel(running) == asked_for
    assert leases.beat(book, lease, 60.0, News()) == "cancel"
    assert asked(book, 2) != running
    assert leases.finish(book, lease, ("cancelled", "it was asked for"), News())
    assert (book.cancel(running).state, book.get(running).cancelling) == ("cancelled", False)
    assert story(book, running) == ["queued", "running", "running", "cancelled"]


def test_cancel_of_a_job_whose_worker_is_gone(book: Book, late: dict[str, float]) -> None:
    first, second = asked(book, 1), asked(book, 2)
    claimed(book)
    late["by"] = 61.0
    assert book.cancel(first).state == "cancelled"
    claimed(book)
    assert book.cancel(second).cancelling
    late["by"] = 130.0
    assert book.get(second).state == "cancelled"


def test_a_release_of_a_job_that_is_being_cancelled_cancels_it(book: Book) -> None:
    job = asked(book)
    lease = claimed(book)
    book.cancel(job)
    leases.release(book, lease, counts=False)
    assert book.get(job).state == "cancelled"


def test_only_so_many_may_wait(book: Book) -> None:
    for number in range(MOST_QUEUED):
        asked(book, number)
    with pytest.raises(Full, match=str(MOST_QUEUED)):
        asked(book, MOST_QUEUED)
    book.cancel(asked(book, 0))
    asked(book, MOST_QUEUED)


@pytest.mark.parametrize("key", HOSTILE)
def test_hostile_ids_are_not_found(book: Book, key: str) -> None:
    job = asked(book)
    for call in (book.get, book.cancel, book.news, book.receipt, lambda each: book.log(each, "a")):
        with pytest.raises(NotFound):
            call(key)  # type: ignore[operator]
    with pytest.raises(NotFound):
        book.log(job, key)
    assert book.page().total == 1


def test_migrations_go_up_and_down(url: str) -> None:
    Store(url).close()
    engine = create_engine(url)
    with engine.begin() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(resources.migrations()))
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
        command.downgrade(config, "0003")
        assert TABLES & set(inspect(connection).get_table_names()) == set()
        names = connection.scalars(CHANGES.select().with_only_columns(CHANGES.c.name)).all()
        assert names == ["measurements"]
        command.upgrade(config, "head")
        assert set(inspect(connection).get_table_names()) >= TABLES
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
    engine.dispose()
    store = Store(url)
    assert Book(store).get(asked(Book(store))).state == "queued"
    store.close()
