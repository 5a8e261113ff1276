"""What follows from facts alone is worked out once, and kept for the facts that were asked last.

Facts never change, so one is told by its identity: to hash a catalogue's tables by content would cost what it spares,
and an entry that a user's own replaces is another object.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, Generic, ParamSpec, TypeVar, cast

Fact = TypeVar("Fact")
P = ParamSpec("P")
R = TypeVar("R")


class Same(Generic[Fact]):
    """A fact by its identity; kept alive with the key, so that no other fact can take its place in memory."""

    __slots__ = ("fact",)

    def __init__(self, fact: Fact) -> None:
        self.fact = fact

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.fact is other.fact

    def __hash__(self) -> int:
        return id(self.fact)


def remembered(most: int, facts: int = 1) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Keep the last `most` answers of a pure function: its first `facts` arguments by identity, others by value.

    Arguments that are told by identity are given by position.
    """

    def remembering(function: Callable[P, R]) -> Callable[P, R]:
        @lru_cache(maxsize=most)
        def known(*args: Any, **kwargs: Any) -> R:
            return function(*[each.fact for each in args[:facts]], *args[facts:], **kwargs)

        @wraps(function)
        def asked(*args: P.args, **kwargs: P.kwargs) -> R:
            return cast(R, cast(Any, known)(*map(Same, args[:facts]), *args[facts:], **kwargs))

        return asked

    return remembering
