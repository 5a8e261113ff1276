"""The catalogue as people and tools look things up: lists to search, and entries with the source of every field."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import msgspec
from msgspec import Struct

from catalog.accelerator import Accelerator
from catalog.engine import Engine, Kernel
from catalog.errors import NotFound
from catalog.load import Catalog
from catalog.model import Model
from catalog.source import Sourced
from planner.lanes import LANES

Kind = Literal["accelerators", "models", "artifacts", "prices", "kernels", "images", "doubts"]
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


class KernelLine(Struct, frozen=True, kw_only=True):
    """What one engine version runs a lane on, on one device; `refused` says why it does not."""

    id: str
    """Engine and version: vllm 0.33.0."""
    accelerator: str
    lane: str
    recipe: str
    kernel: str
    math: str
    kv_cache: str
    """Cache formats that work there."""
    refused: str


class ImageLine(Struct, frozen=True, kw_only=True):
    """A published image of one engine version: what it was compiled for and what it needs to start."""

    id: str
    engine: str
    devices: str
    compute_capabilities: str
    cuda: str | None
    min_driver: str | None
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


Line = AcceleratorLine | ModelLine | ArtifactLine | PriceLine | KernelLine | ImageLine | DoubtLine


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


def _kernels(catalog: Catalog) -> Iterable[KernelLine]:
    """Every engine version on every device, a line per lane and kernel; recipes that share a kernel share a line."""
    for engine in catalog.engines:
        for device in catalog.accelerators.values():
            yield from _kernels_on(engine, device)


def _kernels_on(engine: Engine, device: Accelerator) -> Iterable[KernelLine]:
    formats = dict.fromkeys(row.dtype for row in engine.caches)
    works = [name for name in formats if (row := engine.cache(name, device)) is not None and row.refuse is None]
    for lane, recipes in _recipes().items():
        found: dict[Kernel, list[str]] = {}
        for recipe in recipes:
            if (kernel := engine.kernel(lane, recipe, device)) is not None:
                found.setdefault(kernel, []).append(recipe)
        for kernel, names in found.items():
            yield KernelLine(
                id=f"{engine.id} {engine.version}",
                accelerator=device.id,
                lane=lane,
                recipe=" ".join(names),
                kernel=kernel.name,
                math=kernel.math if kernel.refuse is None else "",
                kv_cache=" ".join(works) if kernel.refuse is None else "",
                refused=kernel.refuse or "",
            )


def _recipes() -> dict[str, list[str]]:
    """Recipes by lane; the types of GGUF are one."""
    made: dict[str, list[str]] = {}
    for lane in LANES:
        family = lane.id.partition(":")[0]
        if family == "gguf":
            made["gguf"] = ["any type"]
        else:
            made[family] = list(dict.fromkeys(method.recipe.name for method in lane.methods))
    return made


def _images(catalog: Catalog) -> Iterable[ImageLine]:
    return (
        ImageLine(
            id=build.image,
            engine=f"{engine.id} {engine.version}",
            devices=" ".join((*build.on.vendors, *build.on.kinds, *build.on.capabilities)),
            compute_capabilities=" ".join(build.capabilities),
            cuda=build.cuda,
            min_driver=build.min_driver,
            confidence=build.confidence,
        )
        for engine in catalog.engines
        for build in engine.builds
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
    "kernels": _kernels,
    "images": _images,
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
