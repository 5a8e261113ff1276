"""Words of a step as one process receives them: placeholders become paths, nothing else changes.

Where tool environments are, `Environments` says; the installed ones are those of `planner.tools`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module, util
from pathlib import Path
from typing import Any, Protocol

from catalog.errors import NotFound
from planner.proving.steps import WORKERS
from planner.settings import Settings

SCRIPTS = Path(__file__).parents[1] / "workers"
MODULE = "planner.tools.environment"


class Environments(Protocol):
    """Where the interpreters and programs of tools are. Each raises NotFound for a tool that is not installed."""

    def python(self, tool: str) -> Path: ...

    def program(self, tool: str, name: str) -> Path: ...

    def versions(self, tool: str) -> Mapping[str, str]: ...


def resolved(command: tuple[str, ...], environments: Environments, places: Mapping[str, str]) -> tuple[str, ...]:
    """The command with paths in place of placeholders. Raises NotFound for a tool that is not installed."""
    return tuple(_word(word, environments, places) for word in command)


def _word(word: str, environments: Environments, places: Mapping[str, str]) -> str:
    head, slash, rest = word.partition("/")
    if not (head.startswith("{") and head.endswith("}")):
        return word
    kind, _, name = head[1:-1].partition(":")
    if kind == "tool":
        return str(environments.program(name, rest))
    if kind == "python":
        return str(environments.python(name)) if name else sys.executable
    found = str(SCRIPTS) if head == WORKERS else places.get(head)
    return word if found is None else f"{found}{slash}{rest}"


class Installed:
    """The tool environments of this machine's tools folder."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def python(self, tool: str) -> Path:
        return Path(self._ask("python", tool))

    def program(self, tool: str, name: str) -> Path:
        return Path(self._ask("program", tool, name))

    def versions(self, tool: str) -> Mapping[str, str]:
        return dict(self._ask("versions", tool))

    def _ask(self, question: str, tool: str, *more: str) -> Any:
        if not _there():
            raise NotFound(f"the tool environment {tool} is not installed: this version has no tool environments")
        return getattr(import_module(MODULE), question)(tool, *more, self._settings)


def _there() -> bool:
    try:
        return util.find_spec(MODULE) is not None
    except ModuleNotFoundError:
        return False
