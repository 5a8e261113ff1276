"""`POST /plan` as clients meet it: a server as `lanewise serve` starts it, and clients outside its processes."""

from __future__ import annotations

import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from planner.cli.serve import workers

PATIENCE_S = 60.0
"""For the server to start, and for one answer."""
WARM_UP_S = 3.0
"""After which every process of the server has read its catalogue."""


@dataclass(frozen=True)
class Load:
    """What the clients saw."""

    p50_s: float
    p99_s: float
    requests: int
    """Behind these two."""
    requests_per_s: float
    workers: int


class Question:
    """One request after the other, no two of them the same: nothing can be answered from what was said before."""

    def __init__(self, body: dict[str, Any]) -> None:
        self._body, self._numbers = body, count()

    def next(self) -> bytes:
        """The body of the next request: the load grows by ten thousandths."""
        load = self._body["workload"]
        qps = load["qps"] * (1 + next(self._numbers) / 10_000)
        return json.dumps({**self._body, "workload": {**load, "qps": qps}}).encode()


@contextmanager
def server() -> Iterator[int]:
    """The port of a server with an empty data folder; it ends with the block."""
    with tempfile.TemporaryDirectory() as empty:
        port, environment = _free_port(), {name: value for name, value in os.environ.items() if "LANEWISE" not in name}
        running = subprocess.Popen(
            [sys.executable, "-m", "planner", "serve", "--port", str(port)],
            env={**environment, "LANEWISE_DATA_DIR": empty},
            cwd=Path(__file__).parent.parent,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait(port)
            yield port
        finally:
            running.terminate()
            running.wait()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _wait(port: int) -> None:
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            _ask(port, "GET", "/health")
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def _ask(port: int, method: str, path: str, body: bytes | None = None) -> float:
    """Seconds of one request on a connection of its own, up to the last byte of the answer."""
    start = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    connection.request(method, path, body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    if answer.status != 200:
        raise RuntimeError(f"{path} answered {answer.status}")
    return time.perf_counter() - start


def measure(question: Question, clients: int, seconds: float) -> Load:
    """Latencies of one client that asks alone, then requests/s of `clients` that ask at once."""
    with server() as port:
        _together(port, question, clients, WARM_UP_S)
        alone = _together(port, question, 1, seconds)
        start = time.perf_counter()
        many = _together(port, question, clients, seconds)
        rate = len(many) / (time.perf_counter() - start)
    return Load(
        p50_s=statistics.median(alone),
        p99_s=statistics.quantiles(alone, n=100, method="inclusive")[98],
        requests=len(alone),
        requests_per_s=rate,
        workers=workers(),
    )


def _together(port: int, question: Question, clients: int, seconds: float) -> list[float]:
    end = time.perf_counter() + seconds

    def client() -> list[float]:
        taken = []
        while time.perf_counter() < end:
            taken.append(_ask(port, "POST", "/plan", question.next()))
        return taken

    with ThreadPoolExecutor(clients) as pool:
        return [each for found in [pool.submit(client) for _ in range(clients)] for each in found.result()]
