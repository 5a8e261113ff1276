"""`lanewise probe` as a shell sees it, and its way to a server and back."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import uvicorn

from catalog.inventory import Inventory, decode, identity
from planner import cli, machine_report, service
from planner.api import create_app
from planner.settings import Settings
from tests.probes.worlds import ALL, PICTURES


@pytest.fixture(autouse=True)
def _own_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LANEWISE_DATA_DIR", str(tmp_path / "data"))


def pictured(name: str) -> Inventory:
    return decode((PICTURES / f"{name}.json").read_bytes())


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The real service on a port of its own."""
    settings = Settings(catalog_dir=tmp_path / "catalog", database_url=f"sqlite:///{tmp_path / 'plans.sqlite3'}")
    listening = socket.create_server(("127.0.0.1", 0))
    own = uvicorn.Server(uvicorn.Config(create_app(settings), log_level="error", ws="none"))
    thread = threading.Thread(target=own.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        own.should_exit = True
        thread.join()
        listening.close()


def test_json_is_one_document(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    assert cli.main(["probe", "--json"]) == 0
    printed = capsysbinary.readouterr()
    assert decode(printed.out).host.ram_bytes
    assert printed.err == b""


def test_the_report_says_what_could_not_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["probe"]) == 0
    printed = capsys.readouterr()
    assert "RAM" in printed.out
    assert printed.err == ""


def test_a_sent_inventory_is_kept_and_comes_back(server: str, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    import httpx

    assert cli.main(["probe", "--json", "--send", f"{server}/"]) == 0
    printed = capsysbinary.readouterr()
    key = identity(decode(printed.out))
    assert f"kept as inventory {key} on {server}/" in printed.err.decode()
    assert httpx.get(f"{server}/inventories/{key}").content == printed.out


def test_a_server_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert cli.main(["probe", "--json", "--send", f"http://127.0.0.1:{port}"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"http://127.0.0.1:{port}/inventories cannot be reached" in said


@pytest.mark.parametrize("url", ["localhost:8321", "ftp://somewhere", "", "http://", "http://[1", "http://a:port"])
def test_what_is_no_url_is_bad_input(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["probe", "--send", url]) == 2
    printed = capsys.readouterr()
    assert (printed.out, "--send" in printed.err) == ("", True)


class Stranger(BaseHTTPRequestHandler):
    """Some other server."""

    def do_POST(self) -> None:
        self.send_response(404)
        self.end_headers()
        self.wfile.write(b"<html>nothing here</html>")

    def log_message(self, *_words: object) -> None:
        """Say nothing on stderr."""


def test_a_server_of_another_kind_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with HTTPServer(("127.0.0.1", 0), Stranger) as other:
        thread = threading.Thread(target=other.handle_request)
        thread.start()
        assert cli.main(["probe", "--json", "--send", f"http://127.0.0.1:{other.server_port}"]) == 1
        thread.join()
    assert "answered 404 (no Lanewise server answers there)" in capsys.readouterr().err


@pytest.mark.parametrize("name", ALL)
def test_every_machine_has_a_report_with_all_its_problems(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = pictured(name)
    machine_report.show(found)
    shown = " ".join(capsys.readouterr().out.split())
    problems = [*found.problems, *(said for gpu in found.gpus for said in gpu.problems)]
    assert [said for said in problems if " ".join(said.split()) not in shown] == []
    for gpu in found.gpus:
        assert gpu.name in shown
        assert (gpu.accelerator or "-") in shown


def test_the_report_of_a_busy_machine(capsys: pytest.CaptureFixture[str]) -> None:
    machine_report.show(pictured("rtx4090x2"))
    shown = capsys.readouterr().out
    for words in (
        "python3 4301 (not ours)",
        "CUDA 12.9",
        "PCIe through the host bridge, no peer access: 1 pair",
        "epyc-9654",
    ):
        assert words in shown, words


def test_the_document_on_stdout_is_the_one_that_is_sent() -> None:
    found = pictured("h100x8")
    assert identity(decode(service.encode(found))) == identity(found)
    assert json.loads(service.encode(found))["schema"] == 1
