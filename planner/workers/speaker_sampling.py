"""How a token is drawn and when an answer ends: the same for every backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

TAIL = 16
"""Tokens beyond the longest stop text in which it is looked for after each token."""


class Sampler:
    """Greedy at temperature 0; else one stream of chance for each prompt, by its own seed."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.temperature = float(given["temperature"])
        self.top_p, self.top_k = float(given["top_p"]), int(given["top_k"])
        self.streams = [np.random.default_rng(seed) for seed in given["seeds"]]

    def rows(self, logits: Any) -> list[int]:
        return [self.one(row, place) for place, row in enumerate(logits)]

    def one(self, logits: Any, place: int) -> int:
        """The next token of one prompt. Temperature, then the likeliest `top_k`, then those that make up `top_p`."""
        if not self.temperature:
            return int(np.argmax(logits))
        scaled = np.asarray(logits, dtype=np.float64) / self.temperature
        order = np.argsort(-scaled, kind="stable")[: self.top_k or None]
        weights = np.exp(scaled[order] - scaled[order[0]])
        weights /= weights.sum()
        kept = int(np.searchsorted(np.cumsum(weights), self.top_p, side="left")) + 1 if self.top_p < 1 else len(order)
        weights = weights[:kept] / weights[:kept].sum()
        return int(order[self.streams[place].choice(len(weights), p=weights)])


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
