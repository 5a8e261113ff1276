"""What a drawing function leaves for `planner/charts.py`, and the two inks that both use. Knows no plotting library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from planner.review import Review

INK, FAINT = "#222222", "#767676"


class Sketch(Struct, frozen=True, kw_only=True):
    """The figure, its title, and in words what can be seen."""

    figure: Any
    title: str
    description: str


Draw = Callable[[Review], Sketch | None]
