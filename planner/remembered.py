"""What follows from facts alone is worked out once, and kept for the facts that were asked last.

Facts never change, so one is told by its identity: to hash a catalogue's tables by content would cost what it spares,
and an entry that a user's own replaces is another object.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast

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


def remembered(most: int) -> Callable[[Callable[Concatenate[Fact, P], R]], Callable[Concatenate[Fact, P], R]]:
    """Keep the last `most` answers of a pure function: by identity of its first argument, by value of the others."""

    def remembering(function: Callable[Concatenate[Fact, P], R]) -> Callable[Concatenate[Fact, P], R]:
        known: Any = lru_cache(maxsize=most)(lambda of, *args, **kwargs: function(of.fact, *args, **kwargs))

        @wraps(function)
        def asked(fact: Fact, /, *args: P.args, **kwargs: P.kwargs) -> R:
            return cast(R, known(Same(fact), *args, **kwargs))

        return asked

    return remembering
