"""Fitted speed parameters: values with their uncertainty, what they rest on, and how the unseen inherits.

A parameter is a global value times deviations for the classes a case belongs to (`generation=vllm-2026`,
`path=fp8`). A class that no measurement covered takes the global value, the wider spread of `level=*` and basis
`assumed`.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from catalog.errors import BadInput
from catalog.speed_classes import (
    Family,
    Setup,
    architecture_family,
    classes,
    family_of,
    generation_of,
    halves_accumulation,
)

__all__ = [
    "Basis",
    "Excluded",
    "Family",
    "Interval",
    "Parameter",
    "Parameters",
    "Resolved",
    "Seen",
    "Setup",
    "architecture_family",
    "classes",
    "family_of",
    "generation_of",
    "halves_accumulation",
]

HEAD = """\
# Fitted by `lanewise fit-speed`; do not edit: change the measurements, the priors or the formulas and refit.
# A global value is physical (shares 0..1, `_s` seconds); with `of` it is the factor of a class.
"""
FILE = Path(__file__).parent / "data" / "speed" / "parameters.toml"
Basis = Literal["fitted", "assumed"]
Scale = Literal["share", "cost", "plain"]
"""On which scale deviations multiply: a share's odds x/(1-x) (it stays within 0..1), what a cost has above one, or the
value itself."""
SCALES: Mapping[str, Scale] = {
    "weight_efficiency": "share", "cache_efficiency": "share", "matrix_efficiency": "share",
    "attention_efficiency": "share", "link_efficiency": "share", "routing_spread": "share", "bunching": "share",
    "pool_share": "share", "steady_share": "share", "slo_share": "share", "expert_cost": "cost", "brevity": "cost",
}  # fmt: skip


class Parameter(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One number of the file. `of` is empty for a global value, `level=class` for a deviation (a plain factor)."""

    family: Family
    name: str
    of: str = ""
    value: float
    sd_ln: float
    """Standard deviation of the logarithm, on the parameter's scale."""
    groups: int
    """Groups of measurements that speak to it."""
    basis: Basis


class Interval(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """80 % of left-out measurements lie between `low_ln` and `high_ln` around the logarithm of the prediction."""

    engine: str
    load: str
    metric: str
    low_ln: float
    high_ln: float
    rows: int
    groups: int


class Excluded(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rows shown to be wrong by internal evidence: never fitted, still predicted and scored."""

    ids: tuple[str, ...]
    because: str


class Seen(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Architecture families that measurements of a family of engines cover."""

    family: Family
    architectures: tuple[str, ...]


class Resolved(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The parameters of one case. Shares and costs are counts, `_s` are seconds, `_bytes` bytes."""

    weight_efficiency: float
    cache_efficiency: float
    matrix_efficiency: float
    attention_efficiency: float
    link_efficiency: float
    step_s: float
    layer_s: float
    sequence_s: float
    exchange_s: float
    expert_cost: float
    routing_spread: float
    tile_rows: float
    unpack_flops: float
    request_s: float
    arrival_s: float
    bunching: float
    pool_share: float
    reserve_bytes: float
    steady_share: float
    slo_share: float
    drain: float
    brevity: float
    basis: Literal["fitted", "assumed", "measured"]
    """`measured`: moved by the user's own measurements of this very case."""
    assumed: tuple[str, ...]
    """What no measurement covered: `name of level class`, or `all on architecture …`."""


NAMES = tuple(name for name in Resolved.__struct_fields__ if name not in ("basis", "assumed"))


class Parameters(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """The parameter file."""

    source: str
    rows: int
    groups: int
    unseen_widening: float
    """Intervals of a case with an uncovered class are this many times wider: leave-class-out over in-sample spread."""
    parameter: tuple[Parameter, ...]
    interval: tuple[Interval, ...]
    seen: tuple[Seen, ...] = ()
    excluded: tuple[Excluded, ...] = ()

    def resolve(self, of: Iterable[str], family: Family) -> Resolved:
        """Global values times the deviations of these classes (`level=class`, from `classes`)."""
        table, found = self._tables[family], tuple(of)
        assumed: list[str] = []
        values = {name: _resolve(name, table[name], found, assumed) for name in NAMES}
        assumed += [f"all on {entry.replace('=', ' ')}" for entry in found if self._unseen(entry, family)]
        return Resolved(**values, basis="assumed" if assumed else "fitted", assumed=tuple(assumed))

    def band(self, engine: str, load: str, metric: str, *, assumed: bool = False) -> tuple[float, float]:
        """Factors from a prediction to the ends of its 80 % interval; the engine's widest where a cell is missing."""
        rows = [row for row in self.interval if row.engine == engine and row.metric == metric]
        exact = (
            [row for row in rows if row.load == load] or rows or [row for row in self.interval if row.metric == metric]
        )
        if not exact:
            raise BadInput(f"no interval for {engine}, {load}, {metric}", str(FILE))
        wide = self.unseen_widening if assumed else 1.0
        return math.exp(wide * min(r.low_ln for r in exact)), math.exp(wide * max(r.high_ln for r in exact))

    def _unseen(self, entry: str, family: Family) -> bool:
        level, _, name = entry.partition("=")
        return level == "architecture" and not any(
            row.family == family and name in row.architectures for row in self.seen
        )

    @cached_property
    def _tables(self) -> dict[str, dict[str, dict[str, Parameter]]]:
        """Family to name to `of` to row."""
        tables: dict[str, dict[str, dict[str, Parameter]]] = {}
        for row in self.parameter:
            tables.setdefault(row.family, {}).setdefault(row.name, {})[row.of] = row
        return tables


def to_scale(name: str, value: float) -> float:
    """From the value people read to the number that deviations multiply."""
    scale = SCALES.get(name, "plain")
    return value / (1 - value) if scale == "share" else value - 1 if scale == "cost" else value


def from_scale(name: str, x: float) -> float:
    """The way back: always within the bounds of the parameter."""
    scale = SCALES.get(name, "plain")
    return x / (1 + x) if scale == "share" else 1 + x if scale == "cost" else x


@cache
def load(path: Path = FILE) -> Parameters:
    """Strictly read a parameter file. Raises BadInput naming file and field."""
    try:
        return decode(path.read_bytes(), str(path))
    except OSError as error:
        raise BadInput(str(error), str(path)) from error


def decode(data: bytes, name: str) -> Parameters:
    """Strictly read the text of a parameter file. Raises BadInput naming file and field."""
    try:
        return msgspec.convert(tomllib.loads(data.decode()), Parameters)
    except ValueError as error:
        raise BadInput(str(error), name) from error


def text(fitted: Parameters) -> str:
    """The parameter file."""
    tables = ("parameter", "interval", "seen", "excluded")
    head = [f"{name} = {literal(getattr(fitted, name))}" for name in fitted.__struct_fields__ if name not in tables]
    rows = (table(name, row) for name in tables for row in getattr(fitted, name))
    return "\n\n".join([HEAD + "\n".join(head), *rows]) + "\n"


def table(name: str, row: Struct) -> str:
    """One entry of a parameter file; empty texts are left out."""
    fields = ((field, getattr(row, field)) for field in row.__struct_fields__)
    return "\n".join([f"[[{name}]]", *(f"{field} = {literal(value)}" for field, value in fields if value != "")])


def literal(value: object) -> str:
    """A value as TOML; four digits of a number."""
    if isinstance(value, tuple):
        return "[" + ", ".join(map(literal, value)) + "]"
    return f'"{value}"' if isinstance(value, str) else f"{value:.4g}" if isinstance(value, float) else str(value)


def _resolve(name: str, of: Mapping[str, Parameter], classes: tuple[str, ...], assumed: list[str]) -> float:
    x = to_scale(name, of[""].value)
    for entry in classes:
        if entry in of:
            x *= of[entry].value
        elif (level := entry.partition("=")[0]) + "=*" in of:
            assumed.append(f"{name} of {level} {entry.partition('=')[2]}")
    return from_scale(name, x)
