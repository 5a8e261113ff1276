"""Programs from the source that a package carries, and the package itself over the same libraries."""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path

from catalog.errors import LanewiseError
from catalog.tools import Backend, Build, Tool
from planner.tools import places
from planner.tools.running import Runner

PATHS = "lanewise_tools.pth"
"""Read by an interpreter when it starts."""


def unpack(tool: Tool, place: Path, runner: Runner) -> None:
    """The package's source archive from the index, unpacked; one that is there whole is kept."""
    build = _of(tool)
    if (place / build.unpacked / build.source / "CMakeLists.txt").is_file():
        return
    archives = place / "archives"
    shutil.rmtree(archives, ignore_errors=True)
    own = ("--no-deps", "--no-build-isolation", "--no-binary", build.package.split("==")[0])
    runner.run("source", (places.python(place), "-m", "pip", "download", *own, "--dest", archives, build.package))
    found = [*archives.glob("*.tar.gz")]
    if len(found) != 1:
        raise LanewiseError(f"source: the index has no source archive of {build.package}")
    _extract(found[0], place, build)
    shutil.rmtree(archives)


def _extract(archive: Path, place: Path, build: Build) -> None:
    """Beside its place first: half of it never stands there."""
    beside = place / "unpacking"
    shutil.rmtree(beside, ignore_errors=True)
    try:
        with tarfile.open(archive) as packed:
            packed.extractall(beside, filter="data")
    except tarfile.TarError as error:
        raise LanewiseError(f"source: {archive.name} cannot be unpacked ({error})") from error
    if not (beside / build.unpacked / build.source / "CMakeLists.txt").is_file():
        raise LanewiseError(f"source: {build.package} carries no {build.source}/CMakeLists.txt")
    shutil.rmtree(place / build.unpacked, ignore_errors=True)
    (beside / build.unpacked).rename(place / build.unpacked)
    shutil.rmtree(beside)


def build(tool: Tool, chosen: Backend, place: Path, runner: Runner) -> None:
    """cmake and ninja; what is compiled already is not compiled again."""
    made, tools = _of(tool), place / "venv" / "bin"
    _forget_others_cache(place, made)
    ninja = f"-DCMAKE_MAKE_PROGRAM={tools / 'ninja'}"
    folders = ("-S", place / made.unpacked / made.source, "-B", place / "build")
    runner.run("build", (tools / "cmake", *folders, "-G", "Ninja", ninja, *made.flags, *chosen.flags))
    runner.run("build", (tools / "ninja", "-C", place / "build", *made.targets))


def bind(tool: Tool, place: Path, runner: Runner) -> None:
    """The package without a build of its own; its interpreter knows from its start where the libraries are."""
    made, python = _of(tool), places.python(place)
    tools = os.pathsep.join((str(place / "venv" / "bin"), os.environ.get("PATH", "")))
    runner.run(
        "binding",
        (python, "-m", "pip", "install", "--no-deps", "--no-build-isolation", place / made.unpacked),
        CMAKE_ARGS=" ".join(made.without),
        PATH=tools,
    )
    libraries = places.programs(place)[0]
    line = f"import os; os.environ.setdefault({made.libraries!r}, {str(libraries)!r})\n"
    (places.packages(place) / PATHS).write_text(line, encoding="utf-8")


def _forget_others_cache(place: Path, made: Build) -> None:
    """cmake refuses a cache that was made for another folder."""
    cache = place / "build" / "CMakeCache.txt"
    home = f"CMAKE_HOME_DIRECTORY:INTERNAL={place / made.unpacked / made.source}\n"
    if cache.is_file() and home not in cache.read_text(encoding="utf-8", errors="replace"):
        shutil.rmtree(place / "build")


def _of(tool: Tool) -> Build:
    if tool.build is None:
        raise LanewiseError(f"{tool.id} is not built")
    return tool.build
