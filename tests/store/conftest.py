"""Databases to keep things in: SQLite, and a PostgreSQL server of our own where its programs are installed."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest


def _unprivileged() -> str | None:
    """Whom to run the server as: it refuses root. None for ourselves."""
    return None if os.geteuid() else next((name for name in ("postgres", "nobody") if _exists(name)), "nobody")


def _exists(user: str) -> bool:
    return user in {entry.pw_name for entry in pwd.getpwall()}


def _must(command: Sequence[str], user: str | None) -> None:
    ended = subprocess.run(command, user=user, cwd="/", capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a new server's database; the server ends with the session."""
    pytest.importorskip("psycopg", reason="no psycopg here: PostgreSQL is not tried")
    if shutil.which("initdb") is None or shutil.which("pg_ctl") is None:
        pytest.skip("no PostgreSQL server programs (initdb, pg_ctl) on the search path: it is not tried")
    user = _unprivileged()
    folder = Path(tempfile.mkdtemp(prefix="lanewise-pg-", dir="/tmp"))
    if user is not None:
        shutil.chown(folder, user)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data, log = str(folder / "data"), str(folder / "log")
    _must(("initdb", "-D", data, "-U", "lanewise", "--auth=trust", "--no-sync"), user)
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    _must(("pg_ctl", "-D", data, "-l", log, "-o", options, "-w", "start"), user)
    try:
        yield f"postgresql+psycopg://lanewise@127.0.0.1:{port}/postgres"
    finally:
        _must(("pg_ctl", "-D", data, "-m", "immediate", "stop"), user)
        shutil.rmtree(folder, ignore_errors=True)
