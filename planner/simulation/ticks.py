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

    pipeline: int
    """Stages."""
    host: list[float]
    """By sequences: the host, and the parts of their caches that do not grow."""
    slope: list[float]
    """By sequences: reading one more token of context, of all sequences together."""
    read: list[float]
    """By sequences + stages x prompt tokens: the weights' way to one stage's units, for a batch of a pipeline that
    prompts ride with."""
    multiply: list[float]
    """The same: its arithmetic."""
    send: list[float]
    """By sequences: collectives."""
    send_s: float
    """One prompt token's messages."""
    attention_s: float
    """One prompt token that looks back on one token."""
    request_s: float
    """Host time that a request takes from everyone once."""
    arrival_s: float
    """From the socket to the scheduler; takes no time from others."""

    def mixed_s(self, batch: int, context: float, new: int, looked: float) -> float:
        """One step of `batch` decoding sequences with `context` tokens together, and `new` prompt tokens that look
        back on `looked` tokens together."""
        step = self.host[batch] + self.slope[batch] * context + self.pipeline * self.matrices_s(batch)
        return step + self.lengthening_s(batch, new, looked) + self.send[batch] + self.send_s * new

    def matrices_s(self, batch: int) -> float:
        """One stage's matrices over its part of the sequences."""
        return max(self.read[batch], self.multiply[batch])

    def lengthening_s(self, batch: int, new: int, looked: float) -> float:
        """What prompts add to one stage of the step."""
        if not new:
            return 0.0
        tokens = batch + self.pipeline * new
        return max(self.read[tokens], self.multiply[tokens] + self.attention_s * looked) - self.matrices_s(batch)

    def decode_s(self, batch: int, context: float, steps: int) -> float:
        """The next `steps` steps of the same sequences, whose context grows by one token each per step."""
        base = self.host[batch] + self.pipeline * self.matrices_s(batch) + self.send[batch]
        grown = context * steps + batch * (steps * (steps - 1) / 2)
        return base * steps + self.slope[batch] * grown

    def steps_until(self, batch: int, context: float, wait: float) -> int:
        """How many steps of the same sequences last at least `wait` seconds; 1 or more."""
        slope = self.slope[batch]
        base = self.host[batch] + self.pipeline * self.matrices_s(batch) + self.send[batch] + slope * context
        square, line = slope * batch / 2, base - slope * batch / 2
        guess = 2 * wait / (line + (line * line + 4 * square * wait) ** 0.5)
        steps = max(int(guess), 1)
        while self.decode_s(batch, context, steps) < wait:
            steps += 1
        while steps > 1 and self.decode_s(batch, context, steps - 1) >= wait:
            steps -= 1
        return steps

    def trail_s(self, batch: int, new: int, looked: float) -> float:
        """What a chunk still needs to leave a pipeline when its step is over."""
        return (self.pipeline - 1) * self.lengthening_s(batch, new, looked)


def ticks(
    work: Work[float], rates: Rates[float], sizes: tuple[int, int], request_s: float = 0.0, arrival_s: float = 0.0
) -> Ticks:
    """Tabulate the law for `sizes` = most sequences that decode at once, most tokens of a step."""
    seats, budget = sizes
    stages = int(work.pipeline)
    batch, tokens = np.arange(seats + 1.0), np.arange(seats + stages * budget + 1.0)
    share = np.maximum(tokens / stages, 1.0)
    law, able = cast(Any, work), cast(Any, rates)
    each = np.minimum(batch, np.maximum(batch / stages, 1.0))
    fixed = stages * speed.cache_s(law, able, each, np.zeros(1))
    grown = (stages * speed.cache_s(law, able, each, np.ones(1)) - fixed) / np.maximum(batch, 1.0)
    return Ticks(
        pipeline=stages,
        host=(speed.host_s(law, able, batch) + fixed).tolist(),
        slope=grown.tolist(),
        read=np.broadcast_to(speed.stream_s(law, able, share), share.shape).tolist(),
        multiply=speed.matrix_s(law, able, share).tolist(),
        send=speed.collective_s(law, able, batch).tolist(),
        send_s=work.exchange_bytes_per_token / rates.link_rate / stages,
        attention_s=speed.prompt_attention_s(work, rates, 1.0, 1.0),
        request_s=request_s,
        arrival_s=arrival_s,
    )
