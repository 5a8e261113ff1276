"""Seconds of every step that a replica can make, tabulated from the one law in `planner/speed.py`.

Prompts and running sequences share a pass over the weights, so its time is a table over the tokens of the step; the
cache adds a slope per token of context. Steps that only decode therefore have a sum in closed form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from planner import speed
from planner.speed import Rates, Work


@dataclass(frozen=True, slots=True)
class Ticks:
    """Tables of seconds: by decoding sequences (0..seats), or by tokens of a step (0..budget)."""

    pipeline: float
    host: list[float]
    """By sequences: the host, and the parts of their caches that do not grow."""
    slope: list[float]
    """By sequences: reading one more token of context, of all sequences together."""
    read: list[float]
    """By tokens: one pass over the weights on every stage."""
    multiply: list[float]
    """By tokens: arithmetic on every stage."""
    send: list[float]
    """By tokens: collectives."""
    attention_s: float
    """One prompt token that looks back on one token."""
    request_s: float
    """Host time that a request takes from everyone once."""
    arrival_s: float
    """From the socket to the scheduler; takes no time from others."""

    def mixed_s(self, batch: int, context: float, new: int, looked: float) -> float:
        """One step of `batch` decoding sequences with `context` tokens together, and `new` prompt tokens that look
        back on `looked` tokens together."""
        tokens = batch + new
        multiplied = self.multiply[tokens] + self.attention_s * looked
        passed = max(self.read[tokens], multiplied)
        return self.host[batch] + self.slope[batch] * context + passed + self.send[tokens]

    def decode_s(self, batch: int, context: float, steps: int) -> float:
        """The next `steps` steps of the same sequences, whose context grows by one token each per step."""
        base = self.host[batch] + max(self.read[batch], self.multiply[batch]) + self.send[batch]
        grown = context * steps + batch * (steps * (steps - 1) / 2)
        return base * steps + self.slope[batch] * grown

    def steps_until(self, batch: int, context: float, wait: float) -> int:
        """How many steps of the same sequences last at least `wait` seconds; 1 or more."""
        slope = self.slope[batch]
        base = self.host[batch] + max(self.read[batch], self.multiply[batch]) + self.send[batch] + slope * context
        square, line = slope * batch / 2, base - slope * batch / 2
        guess = 2 * wait / (line + (line * line + 4 * square * wait) ** 0.5)
        steps = max(int(guess), 1)
        while self.decode_s(batch, context, steps) < wait:
            steps += 1
        while steps > 1 and self.decode_s(batch, context, steps - 1) >= wait:
            steps -= 1
        return steps

    def trail_s(self, new: int, looked: float) -> float:
        """What a chunk still needs to leave a pipeline when its step, shared by all stages, is over."""
        if self.pipeline <= 1:
            return 0.0
        arithmetic = self.multiply[new] + self.attention_s * looked
        passes = self.read[min(int(new * self.pipeline), len(self.read) - 1)]
        return max(passes, self.pipeline * arithmetic) - max(self.read[new], arithmetic)


def ticks(
    work: Work[float], rates: Rates[float], sizes: tuple[int, int], request_s: float = 0.0, arrival_s: float = 0.0
) -> Ticks:
    """Tabulate the law for `sizes` = most sequences that decode at once, most tokens of a step."""
    seats, budget = sizes
    batch, tokens = np.arange(seats + 1.0), np.arange(budget + 1.0)
    stages = work.pipeline
    share = np.maximum(tokens / stages, 1.0)
    law, able = cast(Any, work), cast(Any, rates)
    each = np.minimum(batch, np.maximum(batch / stages, 1.0))
    fixed = stages * speed.cache_s(law, able, each, np.zeros(1))
    grown = (stages * speed.cache_s(law, able, each, np.ones(1)) - fixed) / np.maximum(batch, 1.0)
    return Ticks(
        pipeline=stages,
        host=(speed.host_s(law, able, batch) + fixed).tolist(),
        slope=grown.tolist(),
        read=np.broadcast_to(stages * speed.stream_s(law, able, share), share.shape).tolist(),
        multiply=(stages * speed.matrix_s(law, able, share)).tolist(),
        send=speed.collective_s(law, able, tokens).tolist(),
        attention_s=speed.prompt_attention_s(work, rates, 1.0, 1.0),
        request_s=request_s,
        arrival_s=arrival_s,
    )
