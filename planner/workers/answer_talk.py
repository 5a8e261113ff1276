"""One answer under way: how its next token is chosen, when it ends, and what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

Row = np.ndarray[Any, np.dtype[Any]]
"""Logits of one place, [vocabulary]."""
NOT_FINITE, EMPTY, LOOP = "not finite", "empty", "repetition"
ROUNDS = 3
"""Times that a passage stands in the last half of an answer, at least, for a repetition (assumed)."""
SAME = 0.9
"""Share of its tokens that are what stood one round before (assumed)."""
LEAST = 16
"""Tokens of the last half of an answer below which nothing is called a repetition (assumed)."""


@dataclass(frozen=True)
class Choice:
    """How tokens are chosen; a temperature of 0 takes the likeliest."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    max_tokens: int = 512
    seed: int = 0


@dataclass
class Talk:
    """An answer: `ids` were asked, `said` is what came, `ends` are the tokens that end it."""

    ids: list[int]
    choice: Choice
    ends: frozenset[int]
    most: int
    chance: np.random.Generator
    said: list[int] = field(default_factory=list)
    stopped: str = ""
    finite: bool = True

    def take(self, row: Row) -> int | None:
        """The next token, or None where the answer is over."""
        if np.isnan(row).any() or np.isposinf(row).any() or not np.isfinite(row).any():
            self.finite, self.stopped = False, "end"
            return None
        token = chosen(row, self.choice, self.chance)
        if token in self.ends:
            self.stopped = "end"
            return None
        self.said.append(token)
        if len(self.said) >= self.most:
            self.stopped = "length"
            return None
        return token

    def faults(self, text: str) -> list[str]:
        """What a smoke test counts."""
        found = [] if self.finite else [NOT_FINITE]
        found += [EMPTY] if self.finite and not text.strip() else []
        return [*found, LOOP] if self.stopped == "length" and loops(self.said) else found


def chance_of(seed: int, item: str, sample: int) -> np.random.Generator:
    """The same numbers for the same item and sample, on either side and in any batch."""
    return np.random.default_rng([seed, int(item[:15], 16), sample])


def chosen(row: Row, choice: Choice, chance: np.random.Generator) -> int:
    """One token: temperature, then the k likeliest, then the likeliest that sum to p, as vLLM and transformers do."""
    if choice.temperature <= 0:
        return int(row.argmax())
    wide = row.astype(np.float64) / choice.temperature
    order = np.argsort(-wide, kind="stable")[: choice.top_k or None]
    shares = np.exp(wide[order] - wide[order[0]])
    shares /= shares.sum()
    reached = np.cumsum(shares)
    kept = (
        int(np.searchsorted(reached, choice.top_p * reached[-1], side="left")) + 1 if choice.top_p < 1 else len(order)
    )
    place = np.searchsorted(reached[:kept], chance.random() * reached[min(kept, len(reached)) - 1], side="right")
    return int(order[min(int(place), kept - 1)])


class Sampler:
    """Greedy at temperature 0; else one stream of chance for each prompt, by its own seed."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.choice = Choice(float(given["temperature"]), float(given["top_p"]), int(given["top_k"]))
        self.streams = [np.random.default_rng(seed) for seed in given["seeds"]]

    def rows(self, logits: Any) -> list[int]:
        return [self.one(row, place) for place, row in enumerate(logits)]

    def one(self, logits: Any, place: int) -> int:
        """The next token of one prompt."""
        return chosen(logits, self.choice, self.streams[place])


def loops(said: list[int]) -> bool:
    """Whether the last half is one passage over and over: nine tokens of ten equal those one round before them."""
    tail = np.asarray(said[len(said) // 2 :])
    if len(tail) < LEAST:
        return False
    rounds = range(1, len(tail) // ROUNDS + 1)
    return any(float((tail[each:] == tail[:-each]).mean()) >= SAME for each in rounds)
