"""When an answer ends: the same for every backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

TAIL = 16
"""Tokens beyond the longest stop text in which it is looked for after each token."""


class Reading:
    """One answer as it grows: whether a stop text or the last token is reached, and what it came to."""

    def __init__(self, until: list[str], most: int, text: Callable[[list[int]], str]) -> None:
        self.until, self.most, self.text = [each for each in until if each], most, text
        self.window = TAIL + max(map(len, self.until), default=0)
        self.over: int | None = None

    def reads(self, ids: list[int]) -> bool:
        """Whether it is over, after its newest token."""
        if self.over is None and (len(ids) >= self.most or self._stopped(ids[-self.window :])):
            self.over = len(ids)
        return self.over is not None

    def _stopped(self, ids: list[int]) -> bool:
        if not self.until:
            return False
        tail = self.text(ids)
        return any(stop in tail for stop in self.until)

    def result(self, ids: list[int], ends: list[int]) -> dict[str, Any]:
        """Text up to the first stop text; tokens without the one that ends it."""
        own = ids[: self.over] if self.over is not None else ids
        end = next((place for place, token in enumerate(own) if token in ends), None)
        own = own if end is None else own[:end]
        text = self.text(own)
        cut = min((text.find(stop) for stop in self.until if stop in text), default=-1)
        stopped = "end" if end is not None or cut >= 0 else "length"
        return {"text": text if cut < 0 else text[:cut], "ids": own, "tokens": len(own), "stopped": stopped}
