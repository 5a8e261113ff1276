"""A recorded run of requests: read from a file's bytes, described as a load, dealt out to replicas.

The search plans for the trace's busiest minute; the simulation replays it.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator

import msgspec
import numpy as np
from msgspec import Struct

from catalog.errors import BadInput
from planner.request import P95, Arrival, Spread
from planner.simulation.requests import Requests, given
from planner.trace import Array

PEAK_S = 60.0
"""The rate to plan for is that of the busiest stretch of this length."""
MOST = 100_000
"""Rows of a trace; a plan repeats its request."""
COLUMNS = ("arrival_s", "prompt_tokens", "output_tokens")
BURSTINESS = (0.05, 20.0)
"""Beyond these a trace is described by its nearest end."""
WIDEST = 1.6
"""Standard deviation of a logarithm of lengths that a mean and a 95th percentile can still describe."""


class Described(Struct, frozen=True, kw_only=True):
    """A trace as a load."""

    peak: float
    """Requests/s in the busiest PEAK_S …"""
    mean: float
    """… and from the first arrival to the last."""
    burstiness: float
    """1 / squared coefficient of variation of the gaps, changes of the rate included."""
    prompt: Spread
    """Log-normal with the trace's mean and variance."""
    output: Spread
    longest: int
    """Tokens of the longest request, both ways."""


def read(data: bytes, source: str) -> tuple[Arrival, ...]:
    """The rows of a CSV file with a header, or of JSON Lines; `source` is the file's name. Raises BadInput."""
    rows: Iterator[tuple[int, object]]
    if source.endswith(".csv"):
        rows = _csv(data, source)
    elif source.endswith((".jsonl", ".ndjson")):
        rows = _lines(data, source)
    else:
        raise BadInput("a trace ends in .csv or .jsonl", source)
    return tuple(_row(row, f"{source}:{number}") for number, row in rows)


def _csv(data: bytes, source: str) -> Iterator[tuple[int, object]]:
    try:
        rows = csv.DictReader(io.StringIO(data.decode("utf-8-sig")), strict=True)
        missing = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
        if missing:
            raise BadInput(f"expected a header with {', '.join(COLUMNS)}; {missing[0]} is missing", f"{source}:1")
        for row in rows:
            yield rows.line_num, {name: row[name] for name in COLUMNS}
    except (UnicodeDecodeError, csv.Error) as fault:
        raise BadInput(f"not CSV: {fault}", source) from None


def _lines(data: bytes, source: str) -> Iterator[tuple[int, object]]:
    for number, line in enumerate(data.splitlines(), start=1):
        if line.strip():
            try:
                yield number, msgspec.json.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as fault:
                raise BadInput(f"not JSON: {fault}", f"{source}:{number}") from None


def _row(row: object, place: str) -> Arrival:
    try:
        made = msgspec.convert(row, Arrival, strict=False)
    except msgspec.ValidationError as fault:
        raise BadInput(str(fault).replace(" - at `$.", " in `"), place) from None
    if (wrong := fault_of(made)) is not None:
        raise BadInput(f"expected {wrong[1]} in `{wrong[0]}`", place)
    return made


def fault_of(row: Arrival) -> tuple[str, str] | None:
    """(field, what was expected) of a row that cannot be."""
    if not (math.isfinite(row.arrival_s) and row.arrival_s >= 0):
        return "arrival_s", "a time of 0 s or more"
    for name in COLUMNS[1:]:
        if getattr(row, name) < 1:
            return name, "at least 1 token"
    return None


def requests(rows: tuple[Arrival, ...]) -> Requests:
    """The rows in order of arrival, from the first one on."""
    made = [np.array([getattr(row, name) for row in rows]) for name in COLUMNS]
    arrival = made[0].astype(float)
    return given(arrival - arrival.min(), made[1], made[2])


def described(rows: tuple[Arrival, ...]) -> Described:
    """Raises BadInput for a trace without length."""
    if not 2 <= len(rows) <= MOST:
        raise BadInput(f"expected 2 to {MOST:,} requests, got {len(rows):,}", "$.workload.trace")
    found = requests(rows)
    lasts = float(found.arrival[-1])
    if lasts <= 0:
        raise BadInput(
            "expected arrivals at different times: say `batch` for requests that come at once", "$.workload.trace"
        )
    gaps = np.diff(found.arrival)
    mean = len(gaps) / lasts
    window = min(PEAK_S, lasts)
    inside = np.searchsorted(found.arrival, found.arrival + window, side="left") - np.arange(len(rows))
    variation = float(gaps.var()) * mean * mean
    low, high = BURSTINESS
    return Described(
        peak=max(float(inside.max()) / window, mean),
        mean=mean,
        burstiness=min(max(1 / max(variation, 1e-9), low), high),
        prompt=_spread(found.prompt.astype(float)),
        output=_spread(found.output.astype(float)),
        longest=int((found.prompt + found.output).max()),
    )


def _spread(lengths: Array) -> Spread:
    """The log-normal distribution with the mean and variance of these lengths."""
    mean = float(lengths.mean())
    sigma = min(math.sqrt(math.log1p(float(lengths.var()) / mean**2)), WIDEST)
    return Spread(mean=mean, p95=mean * math.exp(P95 * sigma - sigma * sigma / 2))
