"""Does an environment work: its files, its programs, and what it is for, tried in little."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from msgspec import Struct

from catalog.tools import Program, Tool
from planner.settings import Settings
from planner.tools import contents, environment, places
from planner.tools.environment import Place, State
from planner.tools.running import clean
from probes import world

CHECKS = Path(__file__).with_name("checks")
ANSWER_S = 120.0
"""How long a program may take to say its version: vLLM loads PyTorch first, 24 s on two busy cores."""
CHECK_S = 600.0
"""How long a check may take: assumed, many times what they take alone."""


class Finding(Struct, frozen=True, kw_only=True):
    """One tool."""

    tool: str
    state: State
    problems: tuple[str, ...] = ()
    """Empty where it works."""
    mend: str = ""
    """A command."""
    versions: dict[str, str] = {}
    """Of the programs, as they say themselves."""
    tried: str = ""
    """What the check saw."""

    @property
    def broken(self) -> bool:
        """Something is installed and does not work."""
        return bool(self.problems) and self.state in {"ready", "used"}


def examine(tool: Tool, settings: Settings) -> Finding:
    """Raises nothing for what is broken: that is the answer."""
    state = environment.of(tool, settings)
    if state not in {"ready", "used"}:
        mend = f"lanewise tools install {tool.id}" if state in {"unfinished", "outdated"} else ""
        return Finding(tool=tool.id, state=state, mend=mend)
    changed = _changed(tool, settings) if state == "ready" else []
    found = attempt(tool, environment.find(tool.id, settings))
    problems = (*changed, *found.problems)
    return Finding(
        tool=tool.id, state=state, problems=problems, mend=_mend(tool, state) if problems else "",
        versions=found.versions, tried=found.tried,
    )  # fmt: skip


def attempt(tool: Tool, place: Place) -> Finding:
    """Every program says its version, and the check succeeds."""
    problems: list[str] = []
    versions: dict[str, str] = {}
    for program in tool.programs:
        fault, version = _answer(program, place)
        problems += [fault] if fault else []
        versions |= {program.name: version} if version else {}
    tried = ""
    if tool.check and place.python is not None:
        fault, tried = _check(tool, place.python, place)
        problems += [fault] if fault else []
    return Finding(tool=tool.id, state="ready", problems=tuple(problems), versions=versions, tried=tried)


def _mend(tool: Tool, state: State) -> str:
    again = f"lanewise tools remove {tool.id}"
    return again if state == "used" else f"{again} && lanewise tools install {tool.id}"


def _changed(tool: Tool, settings: Settings) -> list[str]:
    """How the environment differs from what was installed."""
    place = places.folder(tool, settings)
    then = places.ready(place)
    assert then is not None, "only a ready environment is compared"
    now = contents.versions(place)
    said = contents.damaged(place)
    for name in sorted({*then.versions, *now} - {"pip", "setuptools"}):
        if then.versions.get(name) != now.get(name):
            said.append(f"{name} was {then.versions.get(name, 'absent')} and is {now.get(name, 'absent')}")
    if not said and contents.content(place) != then.content:
        said.append("files are not those that were installed")
    return said


def _answer(program: Program, place: Place) -> tuple[str, str]:
    """(what is wrong, the version that it says); one of them is empty."""
    path = next((folder / program.name for folder in place.programs if (folder / program.name).is_file()), None)
    if path is None:
        return f"{program.name} is missing", ""
    ran = world.run((str(path), *program.args), ANSWER_S, clean(os.environ))
    if ran.code is None:
        return f"{program.name} does not answer within {ANSWER_S:g} s", ""
    said = f"{ran.out}\n{ran.err}"
    found = re.search(program.says, said)
    if ran.code != program.code or found is None:
        return f"{program.name} {' '.join(program.args)} fails (exit code {ran.code}): {_last(said)}", ""
    return "", found[1] if found.groups() else "answers"


def _check(tool: Tool, python: Path, place: Place) -> tuple[str, str]:
    """(what is wrong, what it saw); the script is given the folders of programs."""
    with tempfile.TemporaryDirectory() as scratch:
        offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TMPDIR": scratch}
        words = (str(python), str(CHECKS / tool.check), *map(str, place.programs))
        ran = world.run(words, CHECK_S, clean(os.environ) | offline)
    if ran.code == 0:
        return "", _last(ran.out)
    took = f"does not end within {CHECK_S:g} s" if ran.code is None else f"fails: {_last(ran.err or ran.out)}"
    return f"its check {took}", ""


def _last(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1] if lines else "it says nothing"
