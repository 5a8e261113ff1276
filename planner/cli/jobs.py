"""`lanewise jobs`: verifications that wait, run and ended, and the worker that runs them."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from catalog.errors import BadInput
from planner.cli.common import Commands, write_document

if TYPE_CHECKING:
    from planner.jobqueue.book import Book
    from planner.jobqueue.job import Job
    from planner.settings import Settings
    from planner.store import Store

EXAMPLES = """examples:
  lanewise jobs                                    what waits, runs and ended
  lanewise jobs show 5f0c2a91d7e84b36 --follow     its steps until it ends
  lanewise jobs work --texts /srv/texts            run jobs of the store on this machine"""
LOOK_S = 0.5
GATE_FAILED, CANCELLED = 3, 130


def add_to(commands: Commands) -> None:
    """Declare `jobs` and what it does."""
    jobs = commands.add_parser(
        "jobs",
        help="verifications that were asked for over REST: list, show, cancel, work",
        description="Jobs of `POST /plans/{id}/verify`, in the store that the server shares with this command. Without "
        "a further word they are listed.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    jobs.set_defaults(run=list_jobs, limit=20, json=False, db=None)
    parts = jobs.add_subparsers(metavar="ACTION")
    listed = _part(parts, "list", "jobs, newest first", list_jobs)
    listed.add_argument("--limit", type=int, default=20, metavar="N", help="jobs at most (default: %(default)s)")
    shown = _part(parts, "show", "one job and its steps", show)
    shown.add_argument("job", metavar="ID", help="as POST /plans/{id}/verify answered it")
    shown.add_argument("--follow", action="store_true", help="look on until it ends; the exit code is that of `verify`")
    shown.add_argument("--log", metavar="STEP", help="print the end of what that step wrote to standard error")
    ended = _part(parts, "cancel", "end a job that waits or runs", cancel)
    ended.add_argument("job", metavar="ID", help="the job")
    _add_work(parts)


def _part(parts: Commands, name: str, does: str, run: object) -> argparse.ArgumentParser:
    part = parts.add_parser(name, help=does, description=f"{does[0].upper()}{does[1:]}.")
    part.add_argument("--json", action="store_true", help="print one JSON document")
    part.add_argument("--db", metavar="URL", help="the store of the server")
    part.set_defaults(run=run)
    return part


def _add_work(parts: Commands) -> None:
    does = "run jobs of the store on this machine, one at a time, until interrupted"
    work = parts.add_parser("work", help=does, description=f"{does[0].upper()}{does[1:]}.")
    work.add_argument("--once", action="store_true", help="end when no job waits")
    work.add_argument("--texts", type=Path, metavar="FOLDER", help="the folder of which jobs may name texts")
    work.add_argument("--db", metavar="URL", help="the store of the server")
    work.add_argument("--until-eof", action="store_true", help="end when standard input does, as a server's own")
    work.set_defaults(run=work_on)


def _settings(arguments: argparse.Namespace) -> Settings:
    from planner import settings

    own = settings.from_environment()
    return msgspec.structs.replace(own, database_url=arguments.db or own.database_url)


@contextlib.contextmanager
def _store(arguments: argparse.Namespace) -> Iterator[Store]:
    from planner.store import Store

    store = Store(_settings(arguments).database_url)
    try:
        yield store
    finally:
        store.close()


def list_jobs(arguments: argparse.Namespace) -> int:
    """One line per job."""
    from planner import jobs_report, service
    from planner.jobqueue.book import Book

    if arguments.limit < 1:
        raise BadInput(f"expected at least one job, got {arguments.limit}", "--limit")
    with _store(arguments) as store:
        page = Book(store).page(arguments.limit)
    if arguments.json:
        write_document(service.encode(page))
    else:
        jobs_report.show_jobs(page)
    return 0


def show(arguments: argparse.Namespace) -> int:
    """One job; with `--follow` until it ends."""
    from planner import jobs_report, service
    from planner.jobqueue.book import Book

    with _store(arguments) as store:
        book = Book(store)
        if arguments.log is not None:
            write_document(book.log(arguments.job, arguments.log))
            return 0
        job = _followed(book, arguments) if arguments.follow else book.get(arguments.job)
    if arguments.json:
        write_document(service.encode(job))
    elif not arguments.follow:
        jobs_report.show_job(job)
    return _code(job) if arguments.follow else 0


def _followed(book: Book, arguments: argparse.Namespace) -> Job:
    """Show a job again and again until it has ended."""
    from planner import jobs_report

    job, events = book.news(arguments.job)
    with jobs_report.Follower(quiet=arguments.json) as screen:
        while True:
            screen.update(job, events)
            if job.ended:
                return job
            time.sleep(LOOK_S)
            job, events = book.news(job.id, screen.last)


def _code(job: Job) -> int:
    if job.state == "done":
        return GATE_FAILED if job.verdict == "fail" else 0
    return CANCELLED if job.state == "cancelled" else 1


def cancel(arguments: argparse.Namespace) -> int:
    """Ask for a job's end."""
    from planner import jobs_report, service
    from planner.jobqueue.book import Book

    with _store(arguments) as store:
        job = Book(store).cancel(arguments.job)
    if arguments.json:
        write_document(service.encode(job))
    else:
        jobs_report.show_job(job)
    return 0


def work_on(arguments: argparse.Namespace) -> int:
    """Be a worker until interrupted; the job that runs then waits for the next one."""
    from planner.jobqueue.place import Place
    from planner.jobqueue.worker import Worker

    own = _settings(arguments)
    if arguments.texts is not None:
        if not arguments.texts.is_dir():
            raise BadInput("no such folder", f"--texts {arguments.texts}")
        own = msgspec.structs.replace(own, texts_dir=arguments.texts.resolve())
    if own.jobs_dir is None:
        raise BadInput("no folder for jobs", "LANEWISE_JOBS_DIR")
    with _store(arguments) as store:
        worker = Worker(store=store, place=Place(own.jobs_dir), settings=own)
        _heed(worker.stop, until_eof=arguments.until_eof)
        begun = worker.work(once=arguments.once)
    if not arguments.until_eof:
        print(f"lanewise: {begun} jobs were begun", file=sys.stderr)
    return 0


def _heed(stop: threading.Event, *, until_eof: bool) -> None:
    """Stop when told to, and with `until_eof` when whoever holds our standard input is gone."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    if until_eof:
        threading.Thread(target=_watch, args=(stop,), daemon=True).start()


def _watch(stop: threading.Event) -> None:
    while os.read(0, 4096):
        pass
    stop.set()
