"""The catalogue as people and tools look things up: lists to search, and entries with the source of every field."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import msgspec
from msgspec import Struct

from catalog.accelerator import Accelerator
from catalog.errors import NotFound
from catalog.load import Catalog
from catalog.model import Model
from catalog.source import Sourced

Kind = Literal["accelerators", "models", "artifacts", "prices", "doubts"]
PROVENANCE = frozenset({"id", "source", "confidence", "facts"})


class AcceleratorLine(Struct, frozen=True, kw_only=True):
    """One device; rates are dense."""

    id: str
    name: str
    memory_bytes: float | None
    bandwidth_bytes_per_s: float
    bf16_flop_per_s: float | None
    fp8_flop_per_s: float | None
    usd_per_hour_from: float | None
    """Cheapest on-demand offer per device; null when none is known."""
    confidence: str


class ModelLine(Struct, frozen=True, kw_only=True):
    """One model."""

    id: str
    family: str
    params: float | None
    active_params: float | None
    attention: str
    max_position: int
    native_lane: str
    planned: bool
    confidence: str


class ArtifactLine(Struct, frozen=True, kw_only=True):
    """One published checkpoint."""

    id: str
    base: str
    lane: str
    recipe: str
    publisher: str
    checked: str | None
    confidence: str


class PriceLine(Struct, frozen=True, kw_only=True):
    """One offer."""

    id: str
    accelerator: str
    count: int
    usd_per_hour: float
    usd_per_accelerator_hour: float
    as_of: str
    stale: bool
    confidence: str


class DoubtLine(Struct, frozen=True, kw_only=True):
    """One value that no source confirms yet."""

    id: str
    kind: str
    field: str
    source: str


class FieldLine(Struct, frozen=True, kw_only=True):
    """One field of an entry, and what carries it."""

    name: str
    value: Any
    source: str
    confidence: str


class Entry(Struct, frozen=True, kw_only=True):
    """One entry of the catalogue in full."""

    kind: Kind
    id: str
    fields: tuple[FieldLine, ...]


Line = AcceleratorLine | ModelLine | ArtifactLine | PriceLine | DoubtLine


def lines(catalog: Catalog, kind: Kind, query: str = "") -> tuple[Line, ...]:
    """Every entry of one kind that contains all words of `query`, in the catalogue's order."""
    words = query.lower().split()
    return tuple(line for line in LISTS[kind](catalog) if all(word in _text(line) for word in words))


def show(catalog: Catalog, identifier: str, kind: Kind | None = None) -> Entry:
    """The entry of that id, of any kind unless one is named. Raises NotFound."""
    for place, entries in _entries(catalog):
        if kind in {None, place} and identifier in entries:
            return Entry(kind=place, id=identifier, fields=_fields(entries[identifier]))
    raise NotFound(f"the catalogue has no {kind or 'entry'} {identifier!r}")


def counts(catalog: Catalog) -> dict[str, int]:
    """How much the catalogue knows."""
    return {
        "accelerators": len(catalog.accelerators),
        "models": len(catalog.models),
        "artifacts": len(catalog.artifacts),
        "prices": len(catalog.offers),
        "engine versions": len(catalog.engines),
        "evidence": len(catalog.evidence),
        "doubts": len(catalog.doubts()),
    }


def _accelerators(catalog: Catalog) -> Iterable[AcceleratorLine]:
    return (_accelerator(catalog, device) for device in catalog.accelerators.values())


def _accelerator(catalog: Catalog, device: Accelerator) -> AcceleratorLine:
    offers = catalog.offers_by_accelerator.get(device.id, ())
    prices = [offer.usd_per_accelerator_hour for offer in offers if offer.market == "on_demand"]
    return AcceleratorLine(
        id=device.id,
        name=device.name,
        memory_bytes=device.memory,
        bandwidth_bytes_per_s=device.bandwidth,
        bf16_flop_per_s=device.bf16,
        fp8_flop_per_s=device.fp8,
        usd_per_hour_from=min(prices, default=None),
        confidence=device.confidence,
    )


def _models(catalog: Catalog) -> Iterable[ModelLine]:
    return (_model(model) for model in catalog.models.values())


def _model(model: Model) -> ModelLine:
    return ModelLine(
        id=model.id,
        family=model.family,
        params=model.total_params,
        active_params=model.active_params,
        attention=model.attention,
        max_position=model.max_position,
        native_lane=model.native,
        planned=model.unplanned is None,
        confidence=model.confidence,
    )


def _artifacts(catalog: Catalog) -> Iterable[ArtifactLine]:
    return (
        ArtifactLine(
            id=row.repo,
            base=row.base,
            lane=row.lane,
            recipe=row.recipe,
            publisher=row.publisher,
            checked=row.checked,
            confidence=row.confidence,
        )
        for row in catalog.artifacts
    )


def _prices(catalog: Catalog) -> Iterable[PriceLine]:
    return (
        PriceLine(
            id=offer.name,
            accelerator=offer.accelerator,
            count=offer.count,
            usd_per_hour=offer.usd_per_hour,
            usd_per_accelerator_hour=offer.usd_per_accelerator_hour,
            as_of=offer.as_of,
            stale=offer.stale(catalog.as_of),
            confidence=offer.confidence,
        )
        for offer in catalog.offers
    )


def _doubts(catalog: Catalog) -> Iterable[DoubtLine]:
    return (
        DoubtLine(id=doubt.id, kind=doubt.kind, field=doubt.field, source=doubt.source) for doubt in catalog.doubts()
    )


LISTS: dict[Kind, Callable[[Catalog], Iterable[Line]]] = {
    "accelerators": _accelerators,
    "models": _models,
    "artifacts": _artifacts,
    "prices": _prices,
    "doubts": _doubts,
}


def _text(line: Line) -> str:
    return " ".join(str(getattr(line, name)) for name in line.__struct_fields__).lower()


def _entries(catalog: Catalog) -> tuple[tuple[Kind, dict[str, Any]], ...]:
    return (
        ("accelerators", dict(catalog.accelerators)),
        ("models", dict(catalog.models)),
        ("artifacts", {row.repo: row for row in catalog.artifacts}),
        ("prices", {offer.name: offer for offer in catalog.offers}),
    )


def _fields(entry: Any) -> tuple[FieldLine, ...]:
    names = [field.name for field in msgspec.structs.fields(entry) if field.name not in PROVENANCE]
    return tuple(_field(entry, name) for name in names)


def _field(entry: Any, name: str) -> FieldLine:
    if isinstance(entry, Sourced):
        source, confidence = entry.source_of(name), entry.confidence_of(name)
    else:
        source, confidence = entry.source, entry.confidence
    return FieldLine(name=name, value=getattr(entry, name), source=source, confidence=confidence)
