"""From a request to a plan and its bytes: the one way, taken by the command line and by REST.

Both therefore give byte-identical documents for the same request, catalogue and inventory.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Protocol

import msgspec

from catalog import inventory as inventories
from catalog.engine import Engine
from catalog.errors import BadInput, NotFound, Unsupported
from catalog.evidence import Evidence
from catalog.inventory import Inventory
from catalog.load import Catalog, load
from catalog.model import Model
from catalog.units import Quantity
from planner.headroom.picture import Ask, Headroom
from planner.launch import LaunchOptions
from planner.plan import Candidate, LaunchFile, Plan
from planner.remembered import remembered
from planner.request import Hardware, Request
from planner.settings import Settings

Rendered = tuple[tuple[LaunchFile, bytes], ...]
"""Launch files with their contents, UTF-8."""


class Kept(Protocol):
    """What a database keeps for plans to be made with."""

    def inventory(self, inventory_id: str) -> Inventory:
        """Raises NotFound."""
        ...

    def measurements(self) -> tuple[Evidence, ...]:
        """The same object until they change."""
        ...


def make_plan(request: Request, settings: Settings, kept: Kept | None = None) -> Plan:
    """Read what the catalogue lacks, the model and the machine, then plan. Raises BadInput and its children.

    `kept` finds inventories and own measurements; without one, the store of the settings is opened when it is needed.
    """
    catalog = with_requested_model(request.model, settings, kept)
    from planner import search

    return search.plan(with_machine(request, settings, kept), catalog)


def with_trace(request: Request) -> Request:
    """The request with the file that its trace names written out as rows. Raises BadInput with file and line.

    For the command line: a server plans the rows that it is given, and reads no files for others.
    """
    source = request.workload.trace
    if not isinstance(source, str):
        return request
    from planner import arrivals

    try:
        rows = arrivals.read(Path(source).read_bytes(), source)
    except OSError as fault:
        raise BadInput(f"cannot read the trace: {fault.strerror}", source) from fault
    return msgspec.structs.replace(request, workload=msgspec.structs.replace(request.workload, trace=rows))


def make_headroom(ask: Ask, settings: Settings, kept: Kept | None = None) -> Headroom:
    """Does it start, and how much fits: read what the catalogue lacks, then count. Raises BadInput and its children."""
    catalog = with_requested_model(ask.model, settings, kept)
    from planner.headroom import answer

    return answer.headroom(msgspec.structs.replace(ask, hardware=_written_out(ask.hardware, settings, kept)), catalog)


def with_oracle(found: Headroom, settings: Settings) -> Headroom:
    """The answer with what engines' own planners say beside it. Raises Unsupported where none can be asked."""
    from planner.oracles import vllm_cache

    model = with_requested_model(found.ask["model"], settings).model(found.ask["model"])
    return vllm_cache.beside(found, model, settings.tools_dir)


def with_machine(request: Request, settings: Settings, kept: Kept | None = None) -> Request:
    """The request with the machine that it points at written out, so that its plan can be made again anywhere."""
    if request.hardware is None:
        return request
    return msgspec.structs.replace(request, hardware=_written_out(request.hardware, settings, kept))


def _written_out(hardware: Hardware, settings: Settings, kept: Kept | None) -> Hardware:
    if not (hardware.probe or hardware.inventory_id):
        return hardware
    found = _stored(hardware.inventory_id, settings, kept) if hardware.inventory_id else probe(settings)
    once = inventories.decode(inventories.canonical(found))
    return msgspec.structs.replace(hardware, probe=None, inventory_id=None, inventory=once)


def _stored(key: str, settings: Settings, kept: Kept | None) -> Inventory:
    if kept is None:
        from planner.store import Store

        kept = Store(settings.database_url)
    return kept.inventory(key)


def with_requested_model(source: str, settings: Settings, kept: Kept | None = None) -> Catalog:
    """The catalogue, and over it the model that `source` names (a folder, a GGUF file, a hub id) if it is new."""
    catalog = catalogue(settings, kept)
    if source in catalog.models:
        return _learned(catalog)
    if not settings.local_models and _looks_local(source):
        raise BadInput("this server plans models by id only, not by a path of its own file system", "$.model")
    return _learned(catalog.with_model(_read(source, catalog)))


def _learned(catalog: Catalog) -> Catalog:
    """With what the user's own measurements of speed say of the formulas; nothing is imported where there are none."""
    if not catalog.observations:
        return catalog
    from planner.observe import deviations

    return deviations.with_deviations(catalog)


def _read(source: str, catalog: Catalog) -> Model:
    """The model under the name that was asked for; a fault in it is a fault of the request's `model`."""
    from probes import models

    try:
        model = models.read(source, catalog.models)
    except BadInput as error:
        raise type(error)(f"{error.message} ({error.path})", "$.model") from error
    inherited = model.inherited or (model.id if model.id in catalog.models else None)
    return msgspec.structs.replace(model, id=source, inherited=inherited)


def catalogue(settings: Settings, kept: Kept | None = None) -> Catalog:
    """The shipped catalogue with the user's entries and own measurements, unless the settings do without those.

    Files are read again only after one of the user's has changed, rows of the store after one of those has.
    """
    catalog = facts(settings)
    if not settings.measurements:
        return catalog.unmeasured
    if kept is not None:
        return _measured(catalog, kept.measurements())
    from planner import measurements

    return _measured(catalog, measurements.of_store(settings.database_url))


def facts(settings: Settings) -> Catalog:
    """The shipped catalogue with what stands in the user's folder."""
    return _load(settings.overlay, _stamp(settings.overlay))


@remembered(4, facts=2)
def _measured(catalog: Catalog, rows: tuple[Evidence, ...]) -> Catalog:
    return catalog.with_measurements(rows) if rows else catalog


def probe(settings: Settings) -> Inventory:
    """This machine now, its devices by the keys of the catalogue."""
    from probes import machine
    from probes.world import World

    return machine.probe(World(), facts(settings).accelerators)


def launch_files(plan: Plan, settings: Settings) -> Rendered:
    """The files that start the plan's choice. Raises NotFound for a plan without one."""
    if plan.choice is None:
        raise NotFound(f"plan {plan.id!r} is infeasible: there is nothing to launch")
    return launch_files_of(plan, plan.choice, settings)


def launch_files_of(plan: Plan, candidate: Candidate, settings: Settings) -> Rendered:
    """The same of any candidate of the plan."""
    from planner import render

    model, _, revision = plan.request["model"].partition("@")
    lora = plan.request["workload"].get("lora")
    options = LaunchOptions(
        model=model,
        revision=revision or None,
        air_gapped=bool(plan.request.get("air_gapped", False)),
        merged=isinstance(lora, dict) and bool(lora.get("merged")),
    )
    return render.files(candidate, _engine_of(candidate, settings), options, render.Reasons.of(plan))


def review(
    plan: Plan, settings: Settings, kind: str, growth_pct: float | None = None, kept: Kept | None = None
) -> bytes:
    """The review of a plan as one Markdown or HTML file, with today's catalogue. Raises BadInput and its children."""
    from planner import review_page
    from planner.review import review as content

    kind = review_page.checked(kind)
    catalog = with_requested_model(plan.request["model"], settings, kept)
    return review_page.page(content(plan, catalog, growth_pct), kind)


def _engine_of(choice: Candidate, settings: Settings) -> Engine:
    try:
        return facts(settings).engine(choice.engine, choice.engine_version)
    except Unsupported as fault:
        raise NotFound(f"this plan was made for an engine version that is gone: {fault.message}") from None


def encode(value: object) -> bytes:
    """The document: two-space JSON with a final newline; Struct fields in their order, free keys sorted."""
    compact = msgspec.json.encode(value, order="deterministic", enc_hook=_plain)
    return msgspec.json.format(compact, indent=2) + b"\n"


@lru_cache(maxsize=4)
def _load(overlay: Path | None, _stamp_of_overlay: tuple[tuple[str, int, int], ...]) -> Catalog:
    return load(overlay=overlay)


def _stamp(overlay: Path | None) -> tuple[tuple[str, int, int], ...]:
    files = sorted(path for path in overlay.rglob("*") if path.is_file()) if overlay else []
    return tuple((str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in files)


def _looks_local(source: str) -> bool:
    return source.startswith((".", "/", "~")) or source.endswith(".gguf") or source.count("/") != 1


def _plain(value: object) -> object:
    if isinstance(value, Quantity):
        return float(value)
    raise TypeError(f"{type(value).__name__} has no place in a document")
