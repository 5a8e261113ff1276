"""Tools that make, serve and score checkpoints, each with pins of its own: what an environment of one consists of.

`data/tools.toml` is the shipped list. Plans do not depend on it, so it is no part of the catalogue's digest.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Literal

import msgspec
from msgspec import Struct, field

from catalog.errors import BadInput, NotFound
from catalog.inventory import Inventory
from catalog.units import Bytes, quantity

FILE = "tools.toml"
DATA = Path(__file__).parent / "data"
System = Literal["linux x86_64", "linux aarch64", "darwin arm64", "darwin x86_64"]


class Program(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What has to be there afterwards, and how it says that it runs."""

    name: str
    args: tuple[str, ...] = ("--version",)
    says: str = ""
    """A regular expression within what it prints; its first group, if any, is the version."""
    code: int = 0
    """The exit code after `args`."""


class Alias(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Metadata of a distribution under another name, for programs that ask for that name."""

    name: str
    of: str
    suffix: str = ""
    """Of the version."""
    because: str


class Patch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fault of a published package mended after install: `old` stands once in `file`."""

    file: str
    """Relative to the folder of packages."""
    old: str
    new: str
    because: str


class Repairs(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is done to the packages after they were installed."""

    remove: tuple[str, ...] = ()
    aliases: tuple[Alias, ...] = field(name="alias", default=())
    patches: tuple[Patch, ...] = field(name="patch", default=())


class Backend(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a build computes on."""

    id: str
    flags: tuple[str, ...]
    when: Literal["nvidia", "apple", "always", "asked"]
    """`asked`: only by name."""
    needs: tuple[tuple[str, ...], ...] = ()
    """Of each row, one program has to be on the search path."""
    source: str


class Build(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Programs made with cmake from the source that a package carries, and the package over the same libraries."""

    package: str
    """As pip writes it: NAME==VERSION."""
    source: str
    """Folder with the CMakeLists.txt, relative to the unpacked package."""
    flags: tuple[str, ...]
    targets: tuple[str, ...]
    without: tuple[str, ...]
    """cmake flags with which the package itself is installed, so that it compiles nothing."""
    libraries: str
    """Environment variable by which the package finds the libraries."""
    needs: tuple[tuple[str, ...], ...] = ()
    backends: tuple[Backend, ...] = field(name="backend")

    @property
    def unpacked(self) -> str:
        """Folder that the package's archive holds."""
        name, _, version = self.package.partition("==")
        return f"{name.replace('-', '_')}-{version}"


class Tool(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One environment."""

    id: str
    does: str
    folder: str
    """Below the folder of tools: with the version in its name, so that two versions never share a place."""
    packages: tuple[str, ...]
    """What is asked for, each with its version; the first one is the tool itself where nothing is built."""
    pins: tuple[str, ...] = ()
    """Versions of what these bring along."""
    systems: tuple[System, ...]
    accelerator: Literal["", "nvidia"] = ""
    """What the machine has to have."""
    instead: str = ""
    """The tool for machines that lack it."""
    repairs: Repairs = Repairs()
    build: Build | None = None
    programs: tuple[Program, ...] = field(name="program", default=())
    check: str = ""
    """Script that is run inside the environment and tries what the tool is for, in little."""
    expected_s: float
    disk: Bytes
    source: str
    """Of versions, time and disk."""

    @property
    def distribution(self) -> str:
        """Name of the package that is the tool itself."""
        asked = self.build.package if self.build else self.packages[0]
        return name_of(asked)


class Tools(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    tools: tuple[Tool, ...] = field(name="tool", default=())


def load(overlay: Path | None = None) -> dict[str, Tool]:
    """Every tool by its id; those of an overlay's tools.toml replace ours. Raises BadInput naming file and field."""
    files = [folder / FILE for folder in (DATA, overlay) if folder is not None and (folder / FILE).is_file()]
    return {tool.id: tool for path in files for tool in decode(path.read_bytes(), str(path))}


def decode(data: bytes, name: str) -> tuple[Tool, ...]:
    """Strictly read the text of one file. Raises BadInput naming it."""
    try:
        read = msgspec.convert(tomllib.loads(data.decode()), Tools, dec_hook=quantity)
    except ValueError as error:
        raise BadInput(str(error), name) from error
    for fault in _faults(read.tools):
        raise BadInput(fault, name)
    return read.tools


def named(known: Mapping[str, Tool], tool_id: str) -> Tool:
    """The tool of that id. Raises NotFound with those that there are."""
    if tool_id not in known:
        raise NotFound(f"no tool is called {tool_id!r}; there are {', '.join(known)}")
    return known[tool_id]


def name_of(requirement: str) -> str:
    """`vllm` of `vllm[all]==1.0`."""
    return re.split(r"==|\[", requirement, maxsplit=1)[0].strip()


def identity(tool: Tool) -> str:
    """Hash of all that decides what is installed: not of prices, words and checks."""
    decides = (tool.packages, tool.pins, tool.repairs, tool.build)
    return hashlib.sha256(msgspec.json.encode(decides, order="deterministic")).hexdigest()


def backend(build: Build, inventory: Inventory, asked: str | None = None) -> Backend:
    """The one asked for, else the first that suits the machine. Raises BadInput for one that there is not."""
    if asked is not None:
        found = next((each for each in build.backends if each.id == asked), None)
        if found is None:
            raise BadInput(
                f"expected one of {', '.join(each.id for each in build.backends)}, got {asked!r}", "--backend"
            )
        return found
    return next(each for each in build.backends if _suits(each, inventory))


def refusal(tool: Tool, inventory: Inventory) -> str:
    """Why this machine cannot have the tool; empty where it can."""
    here = f"{inventory.host.system} {inventory.host.machine}"
    if here not in tool.systems:
        return f"{tool.id} is for {', '.join(tool.systems)}; this is {here}"
    if tool.accelerator == "nvidia" and inventory.driver is None:
        instead = f"; {tool.instead} serves on CPUs" if tool.instead else ""
        return f"{tool.id} needs an NVIDIA GPU with its driver, and none was found here{instead}"
    return ""


def _suits(each: Backend, inventory: Inventory) -> bool:
    host = inventory.host
    return {
        "always": True,
        "asked": False,
        "nvidia": inventory.driver is not None,
        "apple": host.system == "darwin" and host.machine == "arm64",
    }[each.when]


def _faults(tools: tuple[Tool, ...]) -> list[str]:
    """What types cannot say: one folder each, exact versions, paths that stay inside, something for every machine."""
    folders = [tool.folder for tool in tools]
    found = ["two tools share an id or a folder"] if len({*folders}) < len(tools) else []
    found += ["two tools share an id"] if len({tool.id for tool in tools}) < len(tools) else []
    for tool in tools:
        exact = [*tool.packages, *tool.pins, *((tool.build.package,) if tool.build else ())]
        found += [f"{tool.id}: expected NAME==VERSION, got {each!r}" for each in exact if each.count("==") != 1]
        found += [f"{tool.id}: expected options of pip nowhere, got {each!r}" for each in exact if each.startswith("-")]
        paths = [tool.folder, tool.check, *(patch.file for patch in tool.repairs.patches)]
        found += [f"{tool.id}: expected a path that stays inside, got {each!r}" for each in paths if _escapes(each)]
        if not exact:
            found.append(f"{tool.id}: expected at least one package")
        if tool.build and not any(each.when == "always" for each in tool.build.backends):
            found.append(f"{tool.id}: expected a backend for every machine")
    return found


def _escapes(path: str) -> bool:
    parts = PurePosixPath(path)
    return parts.is_absolute() or ".." in parts.parts or path.startswith("~")
