"""A receipt for others: the same document without the folders of the machine that made it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import structs

from planner import service
from planner.proving.receipt import Receipt
from planner.running import runstate
from planner.running.commands import SCRIPTS
from planner.running.verify import page
from planner.settings import Settings


def shared(made: Receipt, run: Path, settings: Settings) -> Receipt:
    """Every path as a placeholder and what follows it; hashes, numbers and verdicts as they are."""
    text = service.encode(made).decode()
    for path, name in sorted(places(made, run.resolve(), settings), key=lambda each: -len(each[0])):
        text = text.replace(json.dumps(path)[1:-1], name)
    plain = msgspec.json.decode(text.encode(), type=Receipt)
    steps = (structs.replace(each, command=tuple(map(elsewhere, each.command))) for each in plain.steps)
    return structs.replace(plain, steps=tuple(steps))


def elsewhere(word: str) -> str:
    """A path of a command that nothing stands for, as of a step that another installation ran: its name alone."""
    option, equals, value = word.rpartition("=")
    return f"{option}{equals}{{elsewhere}}/{Path(value).name}" if value.startswith("/") else word


def places(made: Receipt, run: Path, settings: Settings) -> Iterator[tuple[str, str]]:
    """(a path of this machine, what stands for it)"""
    for step in made.steps:
        for path in step.read:
            yield path, f"{{data}}/{Path(path).name}"
        for word in step.command:
            if Path(word).is_absolute() and Path(word).parts[-3:-1] == SCRIPTS.parts[-2:]:
                yield str(Path(word).parent), "{workers}"  # of the installation that ran a step which was kept
    tools = settings.tools_dir
    for folder, name in ((run, "{run}"), (run.parent, "{runs}"), (tools, "{tools}"), (SCRIPTS, "{workers}")):
        if folder is not None and len(folder.parts) > 1:
            yield str(folder), name
            yield str(folder.resolve()), name
    yield sys.executable, "{python}"
    for word in made.reproduce:
        if Path(word).is_absolute():
            yield word, f"{{data}}/{Path(word).name}"
    yield str(Path.home()), "~"


def share(found: tuple[tuple[Path, Receipt], ...], out: Path, settings: Settings) -> tuple[Path, ...]:
    """Each receipt as JSON and as a page below `out`, named after its run. Raises OSError."""
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for path, made in found:
        plain = shared(made, path.parent, settings)
        target = out / f"{path.parent.name}.json"
        runstate.write(target, msgspec.json.format(service.encode(plain), indent=1) + b"\n")
        runstate.write(target.with_suffix(".md"), page(plain))
        written.append(target)
    return tuple(written)
