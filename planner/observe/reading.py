"""The nouns of an observation: numbers with their places, settings, what was chosen, and what nobody recognised.

Units are those of the truth tables: GiB and MiB are 2^30 and 2^20 bytes, whatever an engine's log calls them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from msgspec import Struct
from msgspec.structs import replace

UNITS = {
    "_gib": "GiB", "_mib": "MiB", "_ms": "ms", "_tok_s": "tokens/s", "_req_s": "requests/s", "_tokens": "tokens",
    "_bytes": "bytes", "_s": "s", "_count": "1",
}  # fmt: skip
"""Unit by the end of a metric's name."""
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
LONGEST = 20_000
"""Characters of a line that are looked at; vLLM prints its configuration in some thousand."""
MOST_UNKNOWN = 200
"""Unrecognised places that a reading keeps; a log of another program would fill a screen."""


def unit_of(metric: str) -> str:
    """`x` for a ratio whose name says no unit."""
    return next((unit for end, unit in UNITS.items() if metric.endswith(end)), "x")


class Load(Struct, frozen=True, kw_only=True):
    """The load that a speed was measured under. 0 where it is not stated; means in tokens."""

    kind: str = ""
    """batch1, closed, saturated, open, planned (that of a plan); empty where it is not stated."""
    prompt: float = 0.0
    output: float = 0.0
    users: float = 0.0
    rate: float = 0.0
    """Requests/s."""
    depth: float = 0.0
    """Tokens in the cache before the prompt."""
    prompt_p95: float = 0.0
    output_p95: float = 0.0
    burstiness: float = 0.0
    prefix: float = 0.0
    """Tokens that all prompts share. These four are stated by a plan's load alone."""


class Seen(Struct, frozen=True, kw_only=True):
    """One number as printed."""

    metric: str
    value: float
    place: str
    """`line 12`, `$.mean_ttft_ms`, `row 3`."""
    stat: str = ""
    """mean, p50, p95, p99, sd; empty for what is printed once."""
    of: str = ""
    """Device or rank that printed it: `CUDA0`, `TP1`."""
    low: float | None = None
    high: float | None = None
    """Bounds where only a bucket is known."""
    repeats: int = 1
    sd: float | None = None
    """Standard deviation between repeats."""
    load: Load = Load()

    @property
    def unit(self) -> str:
        return unit_of(self.metric)


class Chosen(Struct, frozen=True, kw_only=True):
    """A kernel or back end that the engine says it took."""

    what: str
    name: str
    place: str


class Unknown(Struct, frozen=True, kw_only=True):
    """A place that holds a number and matches no format that is known: reported, never guessed."""

    place: str
    text: str


class Reading(Struct, frozen=True, kw_only=True):
    """What one file says."""

    source: str
    """File or address."""
    format: str
    engine: str
    """vllm, llama.cpp; empty where the file does not say."""
    version: str = ""
    settings: dict[str, str] = {}
    """By the engine's own names: max_model_len, n_ctx."""
    numbers: tuple[Seen, ...] = ()
    chosen: tuple[Chosen, ...] = ()
    unknown: tuple[Unknown, ...] = ()
    unknown_count: int = 0

    def setting(self, *names: str) -> str:
        """The first of these settings that is stated."""
        return next((self.settings[name] for name in names if name in self.settings), "")

    def number(self, *names: str) -> float:
        """The same as a number; 0 where none is stated, or none is one."""
        try:
            return float(self.setting(*names))
        except ValueError:
            return 0.0

    def values(self, metric: str) -> list[Seen]:
        """Every number of a metric."""
        return [seen for seen in self.numbers if seen.metric == metric]


def latest(numbers: Iterable[Seen]) -> tuple[Seen, ...]:
    """One number per metric, statistic, load and printer: a log that starts again says it again. In order of first
    appearance."""
    kept: dict[tuple[object, ...], Seen] = {}
    for seen in numbers:
        kept[(seen.metric, seen.stat, seen.of, seen.load)] = seen
    return tuple(kept.values())


def bounded(reading: Reading) -> Reading:
    """The reading with the first of what is unknown, cut to a line each, and how many there are."""
    cut = tuple(replace(each, text=each.text[:200]) for each in reading.unknown[:MOST_UNKNOWN])
    return replace(reading, unknown=cut, unknown_count=len(reading.unknown))


def lines_of(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, colours and carriage returns of progress bars taken out."""
    for number, line in enumerate(text.split("\n"), start=1):
        yield number, COLOUR.sub("", line[:LONGEST].rstrip("\r").rsplit("\r", 1)[-1])
