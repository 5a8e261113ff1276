"""What the user's own engines and benchmarks printed: one number per row, with everything that describes the run.

Columns are those of the truth tables (data/truth/*.csv) by plainer names, so that the same formulas predict both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from catalog.errors import BadInput

FILE = "observations.csv"
LATER = ("prompt_p95", "output_p95", "burstiness", "prefix")
"""Columns that came later: where they say nothing, a row keeps the id that it had without them."""


class Observation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One measured number. 0 and "" where a run does not state something; memory in the unit that `unit` names."""

    id: str
    run: str
    """What was added together: rows of one file, or of several that repeat a run."""
    metric: str
    """weights_gib, kv_mib, ttft_ms, decode_tok_s: the names of the truth tables."""
    stat: str = ""
    """mean, p50, p95, p99."""
    value: float
    """The median where a run was repeated."""
    unit: str
    repeats: int = 1
    sd: float = 0.0
    """Standard deviation between repeats, in the unit; 0 where nothing was repeated."""
    machine: str = ""
    """A name for the host, where the user gives one; `accelerator` tells machines apart."""
    engine: str
    engine_version: str = ""
    model: str
    accelerator: str = ""
    accelerators: int = 1
    tensor: int = 0
    lane: str
    kv_dtype: str = "auto"
    context: float = 0.0
    share: float = 0.0
    sequences: float = 0.0
    batched_tokens: float = 0.0
    load: str = ""
    prompt: float = 0.0
    output: float = 0.0
    users: float = 0.0
    rate: float = 0.0
    depth: float = 0.0
    prompt_p95: float = 0.0
    output_p95: float = 0.0
    burstiness: float = 0.0
    prefix: float = 0.0
    """What describes the load of a plan (`load` = planned) beside means, users and rate."""
    flash_attention: str = ""
    """0 or 1 under llama.cpp, where it is stated."""
    source: str = ""
    """File name or address that it was read from."""


class Deviation(Struct, frozen=True, kw_only=True):
    """How far an own measurement of speed lies from the formulas, in terms that they can be moved by.

    Times: the logarithm of measured over predicted is `deviation` = decode x (what decoding takes longer) + prefill x
    (what prompts take longer), in logarithms.
    """

    accelerator: str
    engine: str
    version: str
    lane: str
    model: str
    prompt: float
    output: float
    decode: float
    prefill: float
    deviation: float
    noise: float
    """Variance of the measurement."""


def named(rows: Iterable[Observation]) -> tuple[Observation, ...]:
    """Rows with the ids that their content decides; those of one run share what names the run."""
    found = [replace(row, id="", run="") for row in rows]
    run = f"run-{_digest(found)[:12]}"
    return tuple(replace(row, id=f"obs-{_digest([row])[:12]}", run=run) for row in found)


def _digest(rows: list[Observation]) -> str:
    said = [
        {name: value for name, value in msgspec.to_builtins(row).items() if value or name not in LATER} for row in rows
    ]
    return hashlib.sha256(msgspec.json.encode(said, order="deterministic")).hexdigest()


def checked(rows: Iterable[Observation], name: str) -> tuple[Observation, ...]:
    """The rows in the order of their ids. Raises BadInput for a number that is none."""
    found = sorted(rows, key=lambda row: row.id)
    for row in found:
        if not 0 < row.value < float("inf"):
            raise BadInput(f"expected a number above 0, got {row.value:g}", f"{name}: {row.id}.value")
    return tuple(found)
