"""`lanewise serve`: the REST service."""

from __future__ import annotations

import argparse
import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from catalog.errors import BadInput
from planner.cli.common import Commands

if TYPE_CHECKING:
    from planner.settings import Settings

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
MOST_WORKERS = 4
"""That are started unasked; each keeps a catalogue of its own in some 150 MB of memory."""

UNHEALTHY_S = 60
"""After which a worker that does not answer is started again; a busy machine is no reason to."""

FAREWELL_S = 5
"""After which a stopping server ends streams of jobs that still run; their clients go on elsewhere."""


def add_to(commands: Commands) -> None:
    """Declare `serve`."""
    serve = commands.add_parser(
        "serve",
        help="answer over REST",
        description="Serve POST /plan and the stored plans. A server that listens beyond this machine plans models "
        "by id only, never from a folder of its own.",
    )
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    serve.add_argument("--port", type=int, default=8321, help="port to listen on (default: %(default)s)")
    serve.add_argument("--db", metavar="URL", help="plan store, for example sqlite:///plans.sqlite3")
    serve.add_argument(
        "--workers", type=int, metavar="N", help=f"processes that plan (default: one per core, at most {MOST_WORKERS})"
    )
    serve.add_argument(
        "--worker",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="run jobs of POST /plans/{id}/verify on this machine too (default: where only this machine can ask)",
    )
    serve.add_argument("--texts", type=Path, metavar="FOLDER", help="the folder of which jobs may name texts")
    serve.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serve until interrupted."""
    import uvicorn

    from planner import settings
    from planner.jobqueue import embedded
    from planner.store import Store

    if arguments.workers is not None and arguments.workers < 1:
        raise BadInput(f"expected at least one process, got {arguments.workers}", "--workers")
    own = _settings(arguments)
    Store(own.database_url).close()  # one that cannot be opened ends the server here, not worker after worker
    os.environ |= settings.to_environment(own)  # workers are processes of their own and read their settings there
    with embedded.worker() if _works(arguments) else contextlib.nullcontext():
        uvicorn.run(
            "planner.api:app_of_environment",
            factory=True,
            host=arguments.host,
            port=arguments.port,
            workers=arguments.workers or workers(),
            timeout_worker_healthcheck=UNHEALTHY_S,
            timeout_graceful_shutdown=FAREWELL_S,
        )
    return 0


def _settings(arguments: argparse.Namespace) -> Settings:
    """Of the environment, as the arguments change them."""
    from planner import settings

    own = settings.from_environment()
    if arguments.texts is not None:
        if not arguments.texts.is_dir():
            raise BadInput("no such folder", f"--texts {arguments.texts}")
        own = msgspec.structs.replace(own, texts_dir=arguments.texts.resolve())
    local = own.local_models and arguments.host in LOOPBACK
    return msgspec.structs.replace(own, local_models=local, database_url=arguments.db or own.database_url)


def _works(arguments: argparse.Namespace) -> bool:
    """Whether jobs are run here: hours of other people's programs are not started for whoever can reach the port."""
    if arguments.worker is None:
        return arguments.host in LOOPBACK and os.name == "posix"
    return bool(arguments.worker)


def workers() -> int:
    """Processes that are started unasked."""
    return min(cores(), MOST_WORKERS)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
