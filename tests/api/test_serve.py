"""`lanewise serve` as it is started: processes of its own, settings handed on, an end when it is told so."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from planner import cli
from planner.api.schema import EXAMPLE, MEASUREMENT
from planner.cli import serve
from planner.settings import Settings, from_environment, to_environment

PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A server with two workers that listens beyond loopback, on any free port."""
    folder = tmp_path_factory.mktemp("served")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        chosen = int(free.getsockname()[1])
    command = [sys.executable, "-m", "planner", "serve", "--host", "0.0.0.0", "--port", str(chosen), "--workers", "2"]
    environment = os.environ | {"LANEWISE_DATA_DIR": str(folder), "PYTHONPATH": str(Path(cli.__file__).parents[2])}
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, env=environment, stdout=quiet, stderr=quiet, start_new_session=True) as server:
        try:
            wait(chosen)
            yield chosen
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            assert server.wait(PATIENCE_S) is not None
    assert (folder / "lanewise.sqlite3").is_file()


def wait(port: int) -> None:
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            assert asked(port, "GET", "/health")[0] == 200
            return
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.1)


def asked(port: int, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    connection.request(method, path, None if body is None else json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    status, content = answer.status, answer.read()
    connection.close()
    return status, content


def test_every_worker_gives_the_same_bytes_and_knows_every_plan(port: int) -> None:
    """The first requests of all come at once: nothing may be laid out or read in two threads."""
    with ThreadPoolExecutor(8) as clients:
        answers = set(clients.map(lambda _: asked(port, "POST", "/plan", EXAMPLE), range(8)))
    assert len(answers) == 1
    status, document = answers.pop()
    assert status == 200
    name = json.loads(document)["id"]
    assert {asked(port, "GET", f"/plans/{name}") for _ in range(8)} == {(200, document)}


def test_workers_of_a_server_that_others_reach_read_no_folder_of_its_own(port: int) -> None:
    for _ in range(8):
        status, document = asked(port, "POST", "/plan", EXAMPLE | {"model": "/etc"})
        assert status == 400
        assert "by id only" in json.loads(document)["detail"]


def test_every_worker_plans_with_what_was_measured_through_another(port: int) -> None:
    before = asked(port, "POST", "/plan", EXAMPLE)
    status, document = asked(port, "POST", "/measurements", [MEASUREMENT])
    assert status == 200
    (key,) = json.loads(document)["added"]
    with ThreadPoolExecutor(8) as clients:
        answers = set(clients.map(lambda _: asked(port, "POST", "/plan", EXAMPLE), range(8)))
    assert len(answers) == 1
    assert answers != {before}
    assert {asked(port, "POST", "/plan?measurements=false", EXAMPLE) for _ in range(4)} == {before}
    assert asked(port, "DELETE", f"/measurements/{key}") == (204, b"")
    assert {asked(port, "POST", "/plan", EXAMPLE) for _ in range(4)} == {before}


def test_a_store_that_cannot_be_opened_ends_the_server_at_once(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("no folder")
    command = [sys.executable, "-m", "planner", "serve", "--port", "0", "--db", f"sqlite:///{tmp_path}/taken/x.sqlite3"]
    environment = os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[2])}
    assert subprocess.run(command, env=environment, capture_output=True, timeout=PATIENCE_S, check=False).returncode


@pytest.mark.parametrize("local", [True, False])
def test_settings_survive_the_way_through_the_environment(tmp_path: Path, local: bool) -> None:
    own = Settings(
        catalog_dir=tmp_path / "c", database_url="sqlite:///x", local_models=local, tools_dir=tmp_path / "tools",
        jobs_dir=tmp_path / "jobs", texts_dir=tmp_path / "texts" if local else None,
    )  # fmt: skip
    assert from_environment(to_environment(own)) == own


def test_a_worker_per_core_unless_asked_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "cores", lambda: 2)
    assert serve.workers() == 2
    monkeypatch.setattr(serve, "cores", lambda: 64)
    assert serve.workers() == serve.MOST_WORKERS


def test_a_server_without_processes_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve", "--workers", "0"]) == cli.BAD_INPUT
    assert "--workers" in capsys.readouterr().err
