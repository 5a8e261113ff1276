"""What a load came to: answers as columns, their times as statistics with intervals. Pure; seconds and tokens.

Intervals are 95 %, by resampling repeats and then the requests of each, from a fixed seed: requests of one repeat share
its queue, and repeats share a start of the server.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from catalog.errors import BadInput

Numbers = np.ndarray[Any, np.dtype[np.float64]]
RESAMPLES = 1000
SEED = 20_268
BEYOND = 5
"""Requests that have to lie beyond a percentile before it is one (assumed)."""
PERCENTILES = (50, 90, 95, 99)
KINDS = ("ttft", "tpot", "e2e")
LATE_SHARE = 0.1
"""Of the median time to first token: a client that sends later than this is said to fall behind (assumed)."""


class Columns(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One load's answers, a column each; times from its beginning."""

    seconds: float
    due: tuple[float, ...]
    sent: tuple[float, ...]
    first: tuple[float, ...]
    last: tuple[float, ...]
    prompt: tuple[int, ...]
    output: tuple[int, ...]
    error: tuple[str, ...]

    def times(self, kind: str) -> Numbers:
        """Of answers that came whole; from when they were due."""
        due, first, last, output = (
            np.array(each, dtype=float) for each in (self.due, self.first, self.last, self.output)
        )
        whole = np.array([not error for error in self.error], dtype=bool)
        if kind == "tpot":
            several = whole & (output > 1)
            return np.asarray((last - first)[several] / (output[several] - 1))
        return np.asarray(((first if kind == "ttft" else last) - due)[whole])


class Trial(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rate that was tried, and what broke first."""

    rate: float
    holds: bool
    because: str = ""
    seconds: float = 0.0


class Sustained(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Requests/s that held, and that did not; None where time ran out before."""

    at_least: float | None
    below: float | None
    trials: tuple[Trial, ...]


class Drove(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tool that sent the repeats instead of us, as the worker tells of it."""

    id: str
    commands: tuple[tuple[str, ...], ...]
    """One for each repeat."""
    prompt_tokens: float
    output_tokens: float
    """Means of what was asked."""


class Measured(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """measured.json of planner/workers/serve.py."""

    schema: int
    ready_s: float
    ready_log_bytes: int
    """Of the engine's log when it was ready: what comes later is of requests."""
    host: str
    port: int
    warm_up: Columns
    repeats: tuple[Columns, ...]
    sustained: Sustained | None
    memory_bytes_after_warm_up: float
    memory_peak_bytes: float
    gpu_peak_bytes: float
    watts: float | None
    tool: Drove | None = None
    """None where our own client sent everything."""


class Statistic(Struct, frozen=True, kw_only=True):
    """A number with its interval; `open_because` where the requests are too few for it."""

    value: float
    low: float
    high: float
    samples: int
    open_because: str = ""


def read(data: bytes, source: str) -> Measured:
    """Raises BadInput for what the worker did not write."""
    try:
        return msgspec.json.decode(data, type=Measured)
    except (msgspec.DecodeError, UnicodeDecodeError) as fault:
        raise BadInput(f"not what planner/workers/serve.py writes: {fault}", source) from None


def statistics(measured: Measured) -> dict[str, Statistic]:
    """`ttft_p95_s` and its like, `running_sequences`, `requests_per_s` of all repeats together."""
    made: dict[str, Statistic] = {}
    for kind in KINDS:
        parts = [times for each in measured.repeats if len(times := each.times(kind))]
        if parts:
            made |= _percentiles(kind, parts)
    made |= {name: value for name, value in _rates(measured.repeats).items() if value.samples}
    return made


def _percentiles(kind: str, parts: list[Numbers]) -> dict[str, Statistic]:
    """Of pooled repeats."""
    pooled, chance = np.concatenate(parts), np.random.default_rng(SEED)
    drawn = np.array([np.percentile(_resampled(parts, chance), PERCENTILES) for _ in range(RESAMPLES)])
    low, high = np.percentile(drawn, (2.5, 97.5), axis=0)
    made = {}
    for place, percent in enumerate(PERCENTILES):
        few = len(pooled) * (100 - percent) / 100 < BEYOND
        made[f"{kind}_p{percent}_s"] = Statistic(
            value=float(np.percentile(pooled, percent)), low=float(low[place]), high=float(high[place]),
            samples=len(pooled), open_because=f"{len(pooled)} answers are too few for p{percent}" if few else "",
        )  # fmt: skip
    return made


def _resampled(parts: list[Numbers], chance: np.random.Generator) -> Numbers:
    """Repeats drawn with replacement, then the requests of each."""
    chosen = chance.integers(0, len(parts), len(parts))
    return np.concatenate([chance.choice(parts[place], len(parts[place])) for place in chosen])


def _rates(repeats: tuple[Columns, ...]) -> dict[str, Statistic]:
    """Means of repeats with their extremes: three repeats bear no more."""
    whole = [sum(not error for error in each.error) for each in repeats]
    rates = [count / each.seconds for count, each in zip(whole, repeats, strict=True)]
    held = [float(each.times("e2e").sum()) / each.seconds for each in repeats]
    tokens = [sum(n for n, e in zip(each.output, each.error, strict=True) if not e) / each.seconds for each in repeats]
    named = {"requests_per_s": rates, "running_sequences": held, "output_tokens_per_s": tokens}
    return {
        name: Statistic(value=float(np.mean(found)), low=min(found), high=max(found), samples=sum(whole))
        for name, found in named.items()
    }


def errors(measured: Measured) -> dict[str, int]:
    """How often each kind happened in the repeats."""
    found: dict[str, int] = {}
    for each in measured.repeats:
        for error in filter(None, each.error):
            found[error] = found.get(error, 0) + 1
    return found


def late_s(measured: Measured) -> float:
    """By how much the client sent later than due: the 99th percentile of all repeats."""
    lags = [sent - due for each in measured.repeats for sent, due in zip(each.sent, each.due, strict=True)]
    return float(np.percentile(lags, 99)) if lags else 0.0


def behind(measured: Measured) -> str:
    """What to say of a client that fell behind; "" where it kept its times."""
    times = [each.times("ttft") for each in measured.repeats]
    first = float(np.median(np.concatenate(times))) if times and sum(map(len, times)) else 0.0
    lag = late_s(measured)
    if lag <= LATE_SHARE * first:
        return ""
    return f"the client sent up to {lag * 1000:.3g} ms late (p99), which is in these times: from due, not from sent"
