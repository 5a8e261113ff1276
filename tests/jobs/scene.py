"""Real servers and workers over a small program, and what is left of them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from planner import service
from planner.jobqueue.book import Book
from planner.jobqueue.job import Job
from planner.store import Store
from tests.verify.questions import plan_of

ROOT = Path(__file__).parents[2]
FAKE = str(ROOT / "tests" / "jobs" / "fake.py")
PATIENCE_S = 90.0
BODY = {
    "texts": [{"name": "own.txt", "content": "a text"}],
    "calibration": [{"name": "chats.jsonl", "content": '{"text": "hello"}'}],
}


def wait_for(holds: Callable[[], object], what: str = "") -> None:
    last = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < last, what
        time.sleep(0.05)


@dataclass
class Scene:
    """One database, one folder of jobs, one folder in which steps of the small program leave traces."""

    folder: Path
    url: str
    env: dict[str, str] = field(default_factory=dict)
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)
    port: int = 0

    @property
    def traces(self) -> Path:
        return self.folder / "traces"

    def environment(self) -> dict[str, str]:
        own = {
            "PYTHONPATH": str(ROOT), "LANEWISE_DATA_DIR": str(self.folder / "data"),
            "LANEWISE_DATABASE_URL": self.url, "FAKE_FOLDER": str(self.traces),
        }  # fmt: skip
        return os.environ | own | self.env

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """`fake.py WORDS` in a session of its own."""
        self.traces.mkdir(parents=True, exist_ok=True)
        log = (self.folder / f"log-{len(self.started)}").open("wb")
        process = subprocess.Popen(
            [sys.executable, FAKE, *words], env=self.environment(), stdout=log, stderr=log, start_new_session=True
        )
        log.close()
        self.started.append(process)
        return process

    def serve(self, *words: str) -> subprocess.Popen[bytes]:
        """A server with its worker, on a free port, that answers."""
        if not self.port:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.port = int(free.getsockname()[1])
        server = self.start("serve", "--port", str(self.port), *(words or ("--workers", "1")))
        wait_for(lambda: server.poll() is not None or self.answers(), "the server answers")
        assert server.poll() is None, self.logs()
        return server

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.at}/health", timeout=PATIENCE_S).status_code == 200
        except httpx.HTTPError:
            return False

    @property
    def at(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def plan(self) -> str:
        """The id of a stored plan."""
        plan = plan_of("gptq-int4")
        with self.store() as store:
            store.save(plan, service.encode(plan))
        return plan.id

    @contextmanager
    def store(self) -> Iterator[Store]:
        store = Store(self.url)
        yield store
        store.close()

    def ask(self, **more: Any) -> str:
        """A new job over REST."""
        answer = httpx.post(f"{self.at}/plans/{self.plan()}/verify", json=BODY | more, timeout=PATIENCE_S)
        assert answer.status_code == 202, answer.text
        found: str = answer.json()["id"]
        return found

    def job(self, key: str) -> Job:
        with self.store() as store:
            return Book(store).get(key)

    def until(self, key: str, *states: str) -> Job:
        wait_for(lambda: self.job(key).state in states, f"{key} is one of {states}: {self.logs()}")
        return self.job(key)

    def receipts(self, key: str) -> list[dict[str, Any]]:
        with self.store() as store:
            book = Book(store)
            return [json.loads(book.receipt(each.id)) for each in book.receipts(200).receipts if each.job == key]

    def made(self) -> str:
        """What the last step left."""
        (found,) = (self.folder / "data" / "jobs" / "runs").rglob("c/made")
        return found.read_text()

    def alive(self) -> list[psutil.Process]:
        """Every process of this scene: each carries its folder in its environment."""
        found = []
        for process in psutil.process_iter():
            try:
                mine = process.environ().get("FAKE_FOLDER") == str(self.traces)
                if mine and process.status() != psutil.STATUS_ZOMBIE and process.pid != os.getpid():
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found

    def named(self, word: str) -> list[psutil.Process]:
        """Those whose command holds a word."""
        return [each for each in self.alive() if word in command(each)]

    def logs(self) -> str:
        return "\n".join(file.read_text(errors="replace")[-2000:] for file in sorted(self.folder.glob("log-*")))

    def end(self) -> None:
        """Tell everything to end, and see that it does."""
        for process in self.started:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        try:
            for process in self.started:
                process.wait(PATIENCE_S)
            wait_for(lambda: not self.alive(), "nobody is left")
        finally:
            for each in self.alive():
                each.kill()


def command(process: psutil.Process) -> str:
    """Its words; none of a process that ended since it was listed."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
