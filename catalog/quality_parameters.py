"""Fitted parameters of the law of losses: slopes, effects of classes, and how far measurements lie from it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cached_property

import msgspec
from msgspec import Struct

from catalog.errors import BadInput
from catalog.parameters import literal, table

HEAD = """\
# Fitted by `lanewise fit-quality`; do not edit: change the evidence, the priors or the law and refit.
# ln(loss in percent) = base + slopes x terms + effects of classes; `sd` is the standard deviation after the fit.
"""


class Slope(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one unit of a term adds to the logarithm of the loss."""

    name: str
    value: float
    sd: float
    prior: float
    prior_sd: float
    because: str


class Effect(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a class adds, drawn towards none."""

    of: str
    """`level=class`."""
    value: float
    sd: float
    sources: int
    """That measured it."""


class Level(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far the effects of a level spread: what an unmeasured class of it may add."""

    name: str
    sd: float


class Hardness(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The share of hard benchmarks among what was measured of a family, sources weighted alike."""

    family: str
    share: float


class SeverityParameters(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """The parameter file."""

    source: str
    rows: int
    sources: int
    evidence: str
    """sha256 over the rows it was fitted to."""
    base: float
    """ln(percent)."""
    floor: float
    """Percent: spread that stays where nothing is lost."""
    share: float
    """Spread as a share of the loss."""
    freedom: float
    """Degrees of freedom of Student's t."""
    noise: float
    """Of a benchmark's own standard error, the share that stays between a score and its baseline on the same items."""
    slope: tuple[Slope, ...]
    level: tuple[Level, ...]
    effect_: tuple[Effect, ...] = msgspec.field(name="effect", default=())
    hardness: tuple[Hardness, ...] = ()

    @cached_property
    def slopes(self) -> Mapping[str, Slope]:
        return {row.name: row for row in self.slope}

    @cached_property
    def _effects(self) -> Mapping[str, Effect]:
        return {row.of: row for row in self.effect_}

    @cached_property
    def _levels(self) -> Mapping[str, Effect]:
        return {row.name: Effect(of=row.name, value=0.0, sd=row.sd, sources=0) for row in self.level}

    def effect(self, of: str) -> tuple[Effect, bool]:
        """The effect of `level=class`, or none with the spread of its level; and whether it was measured."""
        found = self._effects.get(of)
        return (found, True) if found is not None else (self._levels[of.partition("=")[0]], False)

    def hard(self, family: str) -> float:
        """The share of hard benchmarks in what is known of a family."""
        return next((row.share for row in self.hardness if row.family == family), 0.0)


def decode(data: bytes, name: str) -> SeverityParameters:
    """Strictly read the text of a parameter file. Raises BadInput naming file and field."""
    try:
        return msgspec.convert(tomllib.loads(data.decode()), SeverityParameters)
    except ValueError as error:
        raise BadInput(str(error), name) from error


def text(fitted: SeverityParameters) -> str:
    """The parameter file."""
    tables = {"slope": fitted.slope, "level": fitted.level, "effect": fitted.effect_, "hardness": fitted.hardness}
    single = [name for name in fitted.__struct_fields__ if name.rstrip("_") not in tables]
    head = [f"{name} = {literal(getattr(fitted, name))}" for name in single]
    rows = (table(name, row) for name, listed in tables.items() for row in listed)
    return "\n\n".join([HEAD + "\n".join(head), *rows]) + "\n"
