"""`--set PATH=VALUE`: any field of the request by its path, as errors and the reference name it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from copy import deepcopy
from typing import Any

from catalog.errors import BadInput

STEP = re.compile(r"([a-z_0-9]+)((?:\[\d+\])*)")


def assigned(document: dict[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """The document with `workload.lora.merged=true` and the like in it. Raises BadInput for what is no PATH=VALUE."""
    made = deepcopy(document)
    for text in assignments:
        path, equals, value = text.partition("=")
        if not equals or not path:
            raise BadInput(f"expected PATH=VALUE, got {text!r}", "--set")
        _put(made, steps(path), _value(value))
    return made


def steps(path: str) -> list[str | int]:
    """`hardware.accelerators[0].count` as names and places; a leading `$.` is allowed."""
    found: list[str | int] = []
    for part in path.removeprefix("$.").split("."):
        step = STEP.fullmatch(part)
        if step is None:
            raise BadInput(f"expected a path such as hardware.accelerators[0].count, got {path!r}", "--set")
        found += [step[1], *(int(place) for place in re.findall(r"\d+", step[2]))]
    return found


def _value(text: str) -> Any:
    """A TOML value; anything else is text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _put(made: Any, path: list[str | int], value: Any) -> None:
    """Sets the value, making tables and list entries on the way."""
    for step, following in zip(path, [*path[1:], None], strict=True):
        if isinstance(step, int):
            if step > len(made):
                raise BadInput(f"list entries are set in order: there is no entry {len(made)} before {step}", "--set")
            if step == len(made):
                made.append(None)
        empty: Any = [] if isinstance(following, int) else {}
        if following is None:
            made[step] = value
        elif isinstance(step, int):
            made[step] = empty if made[step] is None else made[step]
        else:
            made.setdefault(step, empty)
        made = made[step]
