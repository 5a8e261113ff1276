"""Runs a program in a folder: every step once, whatever interrupts it.

A step writes below `unfinished/` and is renamed into place when it ended well; then the state is written. A later run
keeps it while its command, environment, versions, scripts and the contents of all that it reads and makes are the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgspec

from catalog.errors import BadInput, NotFound
from catalog.units import GIB
from planner.proving.receipt import Result
from planner.proving.steps import MISSING, OUT, RUN, WORKERS, Program, Step
from planner.running import processes
from planner.running.commands import Environments, resolved
from planner.running.reuse import Shelf
from planner.running.runstate import Done, Folder, opened, sha256
from planner.version import VERSION
from probes import cgroup, world

TAIL_BYTES = 1200
"""Of a log that is shown with a failure."""
MARGIN_BYTES = 64 * 2.0**20
"""Disk that stays free beside what a step says it takes (assumed)."""
TICK_S = 0.1
LATE = "the budget ran out before it"
NAMED = re.compile(r"\{(?:python|tool):([^}]+)\}")
"""A tool environment in a word of a command."""
IMPORTED = re.compile(r"^\s*(?:from (\w+) import|import (\w+)$)", re.MULTILINE)


def ram_free() -> float:
    """Bytes of memory that a new process may use: of the machine, and of this container."""
    free = world.ram().available
    left = cgroup.read(world.World()).memory_left
    return free if left is None else min(free, left)


@dataclass(frozen=True)
class Machine:
    """What is asked of this machine before a step starts, in bytes."""

    disk_free: Callable[[Path], float | None] = world.disk_free
    ram_free: Callable[[], float] = ram_free


class Watch(Protocol):
    """Who looks on."""

    def note(self, text: str) -> None: ...

    def started(self, step: Step, place: int, steps: int) -> None: ...

    def running(self, step: Step, seconds: float, tail: str) -> None: ...

    def ended(self, step: Step, result: Result) -> None: ...


class Ran(msgspec.Struct, frozen=True, kw_only=True):
    """A run's results, in the program's order; `cancelled` by a signal, `late` where the budget ran out,
    `decided` where nothing left could change the verdict."""

    results: tuple[Result, ...]
    cancelled: bool = False
    late: bool = False
    decided: bool = False


@dataclass(frozen=True, kw_only=True)
class Until:
    """When no further step is started: after so many seconds, or once the results say why none is needed."""

    budget_s: float | None = None
    decided: Callable[[tuple[Result, ...]], str] | None = None
    """Asked after each step that gives a gate's numbers; "" = go on."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run under way."""

    program: Program
    folder: Folder
    environments: Environments
    watch: Watch
    machine: Machine
    shelf: Shelf
    stop: threading.Event
    results: dict[str, Result] = field(default_factory=dict)


def run(
    program: Program,
    path: Path,
    environments: Environments,
    watch: Watch,
    machine: Machine | None = None,
    until: Until | None = None,
    reuse: tuple[Path, ...] = (),
) -> Ran:
    """Every step that is not kept, in order. Raises what makes the whole program impossible, before anything starts.

    What ended well in another run below the folders `reuse` is taken from there. A step that fails takes those with it
    that need it; the others go on.
    """
    check(program, environments)
    began, limits, late, decided = time.monotonic(), until or Until(), "", ""
    with opened(path) as folder, stopping() as stop:
        under_way = Run(
            program=program, folder=folder, environments=environments, watch=watch,
            machine=machine or Machine(), shelf=Shelf(reuse, folder), stop=stop,
        )  # fmt: skip
        _tidy(under_way)
        for place, step in enumerate(program.steps, 1):
            if limits.budget_s is not None and time.monotonic() - began >= limits.budget_s:
                late = LATE
            result = _step(under_way, step, place, decided or late)
            under_way.results[step.id] = result
            watch.ended(step, result)
            if step.gate and result.well and not decided and limits.decided is not None:
                decided = limits.decided(tuple(under_way.results.values()))
        results = tuple(under_way.results.values())
        return Ran(results=results, cancelled=stop.is_set(), late=bool(late), decided=bool(decided))


def check(program: Program, environments: Environments) -> None:
    """Refuse by name what could never run: files not named, tools not installed. Raises BadInput and NotFound."""
    if not program.steps:
        raise BadInput("no step is left: the budget has room for no gate", "--budget")
    if program.missing:
        raise BadInput("; ".join(program.missing), "verify")
    words = {word for step in program.steps for word in step.command}
    if words & set(MISSING):
        raise BadInput(f"a file is not named: {', '.join(sorted(words & set(MISSING)))}", "verify")
    absent: dict[str, str] = {}
    for step in program.steps:
        try:
            first, *rest = resolved(step.command, environments, {RUN: "/", OUT: "/"})
        except NotFound as fault:
            absent.setdefault(str(fault), step.id)
            continue
        for word in (first, *(each for each, raw in zip(rest, step.command[1:], strict=True) if is_script(raw))):
            if not Path(word).is_file():
                absent.setdefault(f"{word} is not there", step.id)
    if absent:
        raise NotFound("; ".join(f"{fault} (needed by {step})" for fault, step in absent.items()))


def is_script(word: str) -> bool:
    """Whether a word of a command is a program or a script of ours or of a tool's."""
    return word.startswith((f"{WORKERS}/", "{tool:"))


@contextmanager
def stopping() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set; outside the main thread nobody sets it."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def asked(*_: object) -> None:
        if stop.is_set():  # twice: whatever is being hashed or written is not worth waiting for
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, asked) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tidy(under_way: Run) -> None:
    """What an earlier run left: processes, and a state that cannot be read."""
    left = processes.sweep(under_way.folder.mark)
    if left:
        under_way.watch.note(f"ended {left} processes that an earlier run left behind")
    if under_way.folder.broken:
        under_way.watch.note(under_way.folder.broken)


def _step(under_way: Run, step: Step, place: int, over: str) -> Result:
    """Keep, refuse or run one step; `over` = why none is started any more."""
    if under_way.stop.is_set():
        return Result(id=step.id, state="not run", because="the run was cancelled before it")
    unmet = [name for name in step.needs if not under_way.results[name].well]
    if unmet:
        return Result(id=step.id, state="not run", because=f"it needs {', '.join(unmet)}")
    try:
        versions = tool_versions(step, under_way.environments)
        read = {path: under_way.folder.content(Path(path)) for path in step.reads}
        key = _key(under_way, step, versions, read)
    except OSError as fault:
        return Result(id=step.id, state="refused", because=f"unreadable: {fault.filename}: {fault.strerror}")
    kept = _kept(under_way, step, key) or _taken(under_way, step, key)
    if kept is not None:
        return kept
    refusal = over or refused(step, under_way.folder.path, under_way.machine)
    if refusal:
        return Result(id=step.id, state="not run" if over else "refused", because=refusal)
    under_way.watch.started(step, place, len(under_way.program.steps))
    return _executed(under_way, step, (key, versions, read))


def tool_versions(step: Step, environments: Environments) -> dict[str, str]:
    """What runs a step, as versions."""
    if step.tool:
        others = {name: environments.versions(name) for name in _other_tools(step)}
        more = {f"{name}: {package}": made for name, found in others.items() for package, made in found.items()}
        return {**environments.versions(step.tool), **more}
    return {"lanewise": VERSION, "python": platform.python_version()}


def _other_tools(step: Step) -> list[str]:
    """Environments whose interpreters or programs a step names beside its own."""
    named = (found[1] for word in step.command if (found := NAMED.match(word)))
    return sorted({*named} - {step.tool})


def _key(under_way: Run, step: Step, versions: Mapping[str, str], read: Mapping[str, str]) -> str:
    """Everything that a step's result depends on, as one hash."""
    places = {RUN: ".", OUT: ""}
    words = resolved(step.command, under_way.environments, places)
    scripts = {raw: script(Path(word)) for raw, word in zip(step.command, words, strict=True) if is_script(raw)}
    needs = {name: under_way.results[name].made for name in step.needs}
    parts = [step.command, step.env, versions, scripts, needs, read, step.makes]
    parts += [step.files] if step.files else []
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()


def script(path: Path) -> list[str]:
    """Hashes of a script and of the modules beside it that it imports, and they in turn."""
    found, open_ = {path}, [path]
    while open_:
        for name in _imports(open_.pop()):
            beside = path.with_name(f"{name}.py")
            if beside not in found and beside.is_file():
                found.add(beside)
                open_.append(beside)
    return [sha256(each) for each in sorted(found)]


def _imports(path: Path) -> list[str]:
    """Modules that a Python file names; a program that was compiled names none."""
    found = IMPORTED.findall(path.read_text(encoding="utf-8")) if path.suffix == ".py" else []
    return [one or other for one, other in found]


def _kept(under_way: Run, step: Step, key: str) -> Result | None:
    """A step that ended well before, with the same key, and whose files are still what they were."""
    done = under_way.folder.state.done.get(step.id)
    if done is None or done.key != key:
        return None
    try:
        if any(under_way.folder.content(under_way.folder.path / path) != made for path, made in done.made.items()):
            return None
    except OSError:
        return None
    return _as_before(step, done, "an earlier run")


def _taken(under_way: Run, step: Step, key: str) -> Result | None:
    """A step that ended well in another folder with the same key, its files linked into this one.

    What a launch file came to holds for its own run: no key has the machine in it.
    """
    found = None if step.files else under_way.shelf.take(step, key)
    if found is None:
        return None
    done, path = found
    under_way.folder.state.done[step.id] = done
    under_way.folder.save()
    return _as_before(step, done, str(path))


def _as_before(step: Step, done: Done, where: str) -> Result:
    return Result(
        id=step.id, state="kept", command=done.command, seconds=done.seconds, exit_code=0, versions=done.versions,
        made=done.made, read=done.read, log=f"logs/{step.id}.log", said=done.said,
        because=f"ended well in {where}; nothing that it depends on has changed",
    )  # fmt: skip


def refused(step: Step, folder: Path, machine: Machine) -> str:
    """Why a step is not started here, with numbers; "" where it may."""
    free, ram = machine.disk_free(folder), machine.ram_free()
    if free is not None and free < step.disk_bytes + MARGIN_BYTES:
        return f"it writes about {_gib(step.disk_bytes)}, {_gib(free)} are free on the disk of {folder}"
    if ram < step.ram_bytes:
        return f"it takes about {_gib(step.ram_bytes)} of memory, {_gib(ram)} are free"
    return ""


def _gib(size: float) -> str:
    return f"{size / GIB:.3g} GiB"


def _executed(under_way: Run, step: Step, given: tuple[str, dict[str, str], dict[str, str]]) -> Result:
    """Run a step to its end, whatever that is."""
    folder, (key, versions, read) = under_way.folder, given
    try:
        out = folder.begin(step)
        _given(step, out)
    except OSError as fault:
        return Result(id=step.id, state="failed", because=f"its folder cannot be made: {fault.strerror}")
    folder.save()
    places = {RUN: ".", OUT: str(out.relative_to(folder.path))}  # where the step starts: files name no folder of ours
    command = resolved(step.command, under_way.environments, places)
    began = time.monotonic()
    try:
        code = _process(under_way, step, command)
    except OSError as fault:
        return Result(id=step.id, state="failed", command=command, because=f"it cannot be started: {fault.strerror}")
    result = Result(
        id=step.id,
        state="done",
        command=command,
        seconds=round(time.monotonic() - began, 3),
        exit_code=code,
        versions=versions,
        read=read,
        log=f"logs/{step.id}.log",
        said=said(folder.logs(step)[0]),
    )
    if code is None:
        return msgspec.structs.replace(result, state="cancelled", because="by a signal")
    if code != 0:
        return msgspec.structs.replace(result, state="failed", because=_failure(under_way, step, code))
    return _placed(under_way, step, result, key)


def _given(step: Step, out: Path) -> None:
    """Files that the program itself carries. Raises OSError."""
    for name, text in (step.files or {}).items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _process(under_way: Run, step: Step, command: tuple[str, ...]) -> int | None:
    """The exit code; None where the run was cancelled. Nobody is left behind either way."""
    folder = under_way.folder
    logs = folder.logs(step)
    env = processes.environment(step.env, folder.mark)
    began = time.monotonic()
    process = processes.start(list(command), env, folder.path, logs)
    try:
        while not under_way.stop.is_set():
            try:
                return process.wait(timeout=TICK_S)
            except subprocess.TimeoutExpired:
                under_way.watch.running(step, time.monotonic() - began, _tail(logs[1], 200))
        return None
    finally:
        if process.poll() is None:
            processes.end(process, folder.mark)
        processes.close(process)
        processes.sweep(folder.mark)


def _placed(under_way: Run, step: Step, result: Result, key: str) -> Result:
    """What the step made, moved to its place and written down."""
    folder = under_way.folder
    lacking = [path for path in step.makes if not (folder.unfinished / path).exists()]
    if lacking:
        because = f"it ended well and did not make {', '.join(lacking)}"
        return msgspec.structs.replace(result, state="failed", because=because)
    try:
        folder.moved(step)
        made = {path: folder.content(folder.path / path) for path in step.makes}
    except OSError as fault:
        return msgspec.structs.replace(result, state="failed", because=f"what it made is unreadable: {fault}")
    folder.state.done[step.id] = Done(
        key=key, seconds=result.seconds, made=made, read=result.read, versions=result.versions, said=result.said,
        command=result.command,
    )  # fmt: skip
    folder.save()
    return msgspec.structs.replace(result, made=made)


def _failure(under_way: Run, step: Step, code: int) -> str:
    """The exit code and the log's end; the disk where that is full."""
    out, err = under_way.folder.logs(step)
    how = f"ended by signal {code - 128}" if code > 128 else f"exit code {code}"
    free = under_way.machine.disk_free(under_way.folder.path)
    full = "; the disk is full" if free is not None and free < MARGIN_BYTES / 16 else ""
    end = _tail(err, TAIL_BYTES) or _tail(out, TAIL_BYTES) or "it printed nothing"
    return f"{how}{full}; its log ends: {end}"


def _tail(path: Path, size: int) -> str:
    """The end of a log, without half a line where it is longer."""
    try:
        with path.open("rb") as stream:
            before = max(os.fstat(stream.fileno()).st_size - size, 0)
            stream.seek(before)
            text = stream.read().decode(errors="replace")
            return (text.partition("\n")[2] if before and "\n" in text.strip() else text).strip()
    except OSError:
        return ""


def said(path: Path) -> dict[str, Any]:
    """The last JSON object that a step printed on a line of its own."""
    for line in reversed(_tail(path, 2**16).splitlines()):
        if line.startswith("{"):
            try:
                found = json.loads(line)
            except ValueError:
                continue
            return found if isinstance(found, dict) else {}
    return {}
