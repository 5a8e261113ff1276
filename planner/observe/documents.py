"""What the readers of JSON documents share: numbers by path, and fields that no format names."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import msgspec

from planner.observe.reading import Load, Seen, Unknown

Document = Mapping[str, Any]


def decoded(text: str) -> Any:
    """The document, or None where the text is no JSON."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None


def number(value: object) -> float | None:
    """A finite number; None for anything else, and for `inf` that is spelled as text."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def seen(document: Document, key: str, metric: str, stat: str, load: Load) -> Iterator[Seen]:
    """The number of one field, where it has one."""
    value = number(document.get(key))
    if value is not None:
        yield Seen(metric=metric, value=value, place=f"$.{key}", stat=stat, load=load)


def strangers(document: Document, known: Collection[str], at: str = "$") -> Iterator[Unknown]:
    """Fields that hold a number and are not known."""
    for key, value in document.items():
        if key not in known and number(value) is not None:
            yield Unknown(place=f"{at}.{key}", text=f"{key} = {value}")
