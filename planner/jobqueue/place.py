"""A worker's folder: who works in it, texts that were sent along, folders of runs, and the process of one job.

place      its id, which the processes of its jobs carry as their mark
lock       held by the one worker that works here
current    the run's folder of the job that was begun last
texts/HASH/NAME     runs/PLAN/LANE     job/{job.json,out,log}
"""

from __future__ import annotations

import contextlib
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from catalog.errors import LanewiseError, Unsupported
from planner.running import processes
from planner.running.runstate import MARKER, write

MARK = re.compile(r"[0-9a-f]{32}")


class Place:
    """One worker's folder, made where it is not there. Raises LanewiseError for one that cannot be used."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().resolve()
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)  # texts that were sent along are nobody else's
            for folder in (self.uploads, self.runs, self.job):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as fault:
            raise LanewiseError(f"the folder of jobs cannot be used: {fault}") from fault

    @property
    def uploads(self) -> Path:
        return self.path / "texts"

    @property
    def runs(self) -> Path:
        return self.path / "runs"

    @property
    def job(self) -> Path:
        return self.path / "job"

    @contextmanager
    def taken(self) -> Iterator[str | None]:
        """The id of the place while we have it to ourselves; None where another worker does."""
        try:
            import fcntl
        except ImportError:
            raise Unsupported("jobs are worked on under Linux and macOS", "jobs") from None
        with (self.path / "lock").open("a+b") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                yield None
                return
            yield self._id()

    def _id(self) -> str:
        file = self.path / "place"
        if not file.is_file():
            write(file, uuid.uuid4().hex.encode())
        found = file.read_text(encoding="ascii", errors="replace").strip()
        if not MARK.fullmatch(found):
            raise LanewiseError(f"{file} is not what a worker writes: move the folder away")
        return found

    def begin(self, run: Path) -> None:
        """Write down which run is begun, before it is."""
        write(self.path / "current", str(run).encode())

    def sweep(self, mark: str) -> int:
        """End what is left of the job that was begun last: its process, and what its run started; how many."""
        ended = processes.sweep(mark)
        with contextlib.suppress(OSError, UnicodeDecodeError):
            run = Path((self.path / "current").read_text(encoding="utf-8"))
            of_run = (run / MARKER).read_text(encoding="ascii").strip()
            ended += processes.sweep(of_run) if MARK.fullmatch(of_run) else 0
        return ended
