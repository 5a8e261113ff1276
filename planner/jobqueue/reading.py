"""What the process of a job tells, line by line, as news for the book."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from planner.jobqueue.job import JobStep, Progress
from planner.jobqueue.leases import News
from planner.jobqueue.leases import Told as Event

LOG_BYTES = 2**16
"""Of the end of a step's log that is kept (assumed)."""


class Told:
    """What was told so far, and since the last news."""

    def __init__(self) -> None:
        self.logs: Path | None = None
        """Folder of the run's logs."""
        self.events: list[Event] = []
        self._steps: dict[str, JobStep] = {}
        self._progress: Progress | None = None
        self._read = 0
        self._sizes: dict[str, tuple[int, int]] = {}
        self._touched: set[str] = set()

    def read(self, out: Path) -> None:
        """Take in every whole line that is new."""
        try:
            with out.open("rb") as stream:
                stream.seek(self._read)
                new = stream.read()
        except OSError:
            return
        whole = new[: new.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            try:
                self._take(msgspec.json.decode(line, type=dict[str, Any]))
            except (msgspec.DecodeError, KeyError, TypeError):
                continue  # a line that a library printed

    def _take(self, line: dict[str, Any]) -> None:
        kind = line.pop("kind")
        if kind == "program":
            self._steps = {each["id"]: JobStep(**each) for each in line["steps"]}
        elif kind == "note":
            self.events.append(("note", {"text": line["text"]}))
        elif kind == "running":
            self._progress = Progress(**line)
            self._touched.add(line["step"])
        elif kind == "started":
            self._progress = Progress(step=line["step"], seconds=0.0)
            self._change(line["step"], state="running")
        elif kind == "ended":
            self._progress = None
            self._change(line["step"], **{name: line[name] for name in ("state", "seconds", "because")})

    def _change(self, step: str, **values: Any) -> None:
        self._steps[step] = msgspec.structs.replace(self._steps[step], **values)
        self._touched.add(step)
        self.events.append(("step", {"step": step, **values}))

    def news(self, *, last: bool = False) -> News:
        """What the book does not know yet; at the `last` no step runs or waits any more."""
        if last:
            self._progress = None
            for step in list(self._steps.values()):
                if step.state == "running":
                    self._change(step.id, state="cancelled", because="its process was ended")
                elif step.state == "waiting":
                    self._change(step.id, state="not run", because="the job ended before it")
        events, self.events = self.events, []
        steps = tuple(self._steps.values())
        return News(steps=steps, progress=self._progress, events=events, logs=self._logs())

    def _logs(self) -> dict[str, tuple[bytes, bytes]]:
        touched, self._touched = self._touched, set()
        return {} if self.logs is None else dict(ends_of_logs(self.logs, touched, self._sizes))


def ends_of_logs(
    folder: Path, steps: Iterable[str], sizes: dict[str, tuple[int, int]]
) -> Iterable[tuple[str, tuple[bytes, bytes]]]:
    """Ends of standard error and output of steps whose logs have grown; `sizes` are those that were read last."""
    for step in steps:
        files = (folder / f"{step}.log", folder / f"{step}.out")
        size = tuple(file.stat().st_size if file.is_file() else 0 for file in files)
        if sizes.get(step) != size and any(file.is_file() for file in files):
            sizes[step] = (size[0], size[1])
            yield step, (_end(files[0]), _end(files[1]))


def _end(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - LOG_BYTES))
            return stream.read(LOG_BYTES)
    except OSError:
        return b""
