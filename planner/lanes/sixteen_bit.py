"""BF16 and FP16: the unquantized original."""

from __future__ import annotations

from planner.lanes.lane import Lane, Method
from planner.plan import Recipe


def _two_bytes(rows: int, columns: int, _group: int) -> float:
    return 2.0 * rows * columns


def _original(name: str) -> tuple[Method, ...]:
    recipe = Recipe(name=name, algorithm="none", training="native")
    return (Method(recipe=recipe, matrix_bytes=_two_bytes, tool="none", scheme=name),)


BF16 = Lane(
    id="bf16",
    family="16-bit",
    bits=16,
    methods=_original("bf16"),
    asks="memory is no limit, or nothing may be lost",
)
FP16 = Lane(
    id="fp16",
    family="16-bit",
    bits=16,
    methods=_original("fp16"),
    asks="the device has no bf16 units: the BF16 checkpoint is cast while loading",
)
