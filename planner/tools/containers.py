"""Programs of a container image as a tool: a folder of small files that each run one of them as if it were here."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

from catalog.errors import BadInput
from catalog.tools import Tool
from planner.settings import Settings
from planner.tools import places
from planner.tools.running import clean
from probes import world

NAMED = re.compile(r"^(docker|podman):(?://)?(?P<image>[A-Za-z0-9][\w./:@-]*)$")
OTHERS = re.compile(r"^(oci|container|docker-daemon|containerd|apptainer|singularity|nerdctl):", re.IGNORECASE)
ASK_S = 120.0
"""How long a runtime may take to say what it has, or to start a container: assumed."""
WORKER = Path(__file__).parents[1] / "workers" / "container.py"
DIGEST = "container"
"""Beside the versions of packages: which image it was."""


def named(word: str) -> tuple[str, str] | None:
    """(runtime, image) of `docker:IMAGE` and `podman:IMAGE`; None for a path. Raises BadInput for other images."""
    found = NAMED.match(word)
    if found:
        return found[1], found["image"]
    image = re.fullmatch(r"[\w.-]+(/[\w.-]+)+:[\w.-]+", word) and not Path(word).exists()
    if OTHERS.match(word) or word.startswith(("docker:", "podman:")) or image or "://" in word:
        raise BadInput("expected docker:IMAGE or podman:IMAGE for a container, or a path", word)
    return None


def digest(runtime: str, image: str) -> str:
    """The image that a name stands for now. Raises BadInput where runtime or image are not here: nothing is pulled."""
    if shutil.which(runtime) is None:
        raise BadInput(f"{runtime} is not on the search path", f"{runtime}:{image}")
    asked = (runtime, "image", "inspect", "--format", "{{.Id}}", image)
    ran = world.run(asked, ASK_S, clean(os.environ))
    if ran.code != 0:
        said = " ".join((ran.err or ran.out).split()) or "it does not answer"
        raise BadInput(f"the image is not here ({said[:200]}); get it with `{runtime} pull {image}`", image)
    return ran.out.strip()


def programs(tool: Tool, runtime: str, image: str, settings: Settings) -> Path:
    """A folder with `python` and the tool's programs, each a file that starts the image; of a digest, it stays that."""
    folder = place(tool, settings) / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    inside = {"python": "python3", **{each.name: each.name for each in tool.programs}}
    for name, program in inside.items():
        path = folder / name
        path.write_text(f'#!/bin/sh\nexec {shlex.join(command(runtime, image, program))} "$@"\n')
        path.chmod(0o755)
    return folder


def place(tool: Tool, settings: Settings) -> Path:
    """Where those files are."""
    return places.root(settings) / "containers" / tool.id


def command(runtime: str, image: str, *words: str) -> tuple[str, ...]:
    """What runs words in a container."""
    return (sys.executable, "-I", "-S", str(WORKER), runtime, image, *words)


def missing(tool: Tool, runtime: str, image: str) -> list[str]:
    """Programs of the tool that the image does not have on its search path."""
    found = "for name in " + shlex.join(each.name for each in tool.programs) + '; do command -v "$name"; done; true'
    ran = world.run(command(runtime, image, "sh", "-c", found), ASK_S, clean(os.environ))
    there = {Path(line).name for line in ran.out.split()}
    return [each.name for each in tool.programs if each.name not in there]
