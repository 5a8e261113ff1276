"""The worker beside a server: a process of its own that is started again when it dies and ends when the server does."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

WORKER = (sys.executable, "-m", "planner", "jobs", "work", "--until-eof")
AGAIN_S = 1.0
"""Before a worker that died is started again (assumed)."""
FAREWELL_S = 15.0
"""That a worker has to end its job before it is ended itself (assumed)."""


@contextmanager
def worker() -> Iterator[None]:
    """A worker for as long as the block lasts. It reads its settings from the environment."""
    stop = threading.Event()
    keeper = threading.Thread(target=_keep, args=(stop,), daemon=True)
    keeper.start()
    try:
        yield
    finally:
        stop.set()
        keeper.join()


def _keep(stop: threading.Event) -> None:
    """Start it, and start it again. It ends by itself at the end of its standard input, however we end."""
    while not stop.is_set():
        process = subprocess.Popen(WORKER, stdin=subprocess.PIPE, start_new_session=True)
        while process.poll() is None and not stop.wait(0.1):
            pass
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(FAREWELL_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        stop.wait(AGAIN_S)
