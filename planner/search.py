"""From a request to a plan: enumerate, refuse, estimate, rank, explain.

Pure and deterministic: the same request and catalogue give the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from catalog.errors import BadInput, Unsupported
from catalog.gates import Gates
from catalog.inventory import Inventory
from catalog.load import Catalog
from catalog.model import Model
from planner import drafting, explain, hardware, machine, pairing, refusals, rows, simulated, waysout
from planner.fits import Fits, fits_of
from planner.launch import target_of
from planner.pairing import Option, Options
from planner.plan import Assumption, Finding, LaunchFile, Plan
from planner.rank import Ranking, Row, name_of, tie_line
from planner.request import SCHEMA, Request, canonical
from planner.rules.rule import Device, Pairing
from planner.settle import Settled, settle
from planner.sweep import Swept, sweep
from planner.version import VERSION

SHOWN_TIES = 12


@dataclass(frozen=True)
class Found:
    """Everything a search found out; plans and ways out are read off it."""

    request: Request
    model: Model
    settled: Settled
    devices: tuple[Device, ...]
    fits: Fits
    gates: Gates
    """What settles quality."""
    options: Options
    unplaced: list[tuple[Pairing, Finding]]
    """Layouts that a rule refused."""
    swept: list[Swept]
    ranking: Ranking
    tied: list[Row]
    """Every candidate within the tie margin, the winner first."""

    @property
    def choice(self) -> Row | None:
        return self.tied[0] if self.tied else None

    @property
    def inventory(self) -> Inventory | None:
        """The probed machine that the request brings."""
        return self.request.hardware.inventory if self.request.hardware else None

    @property
    def candidates(self) -> int:
        """Everything that was looked at: rows of the array pass, and pairings refused before it."""
        return sum(block.devices.size for block in self.swept) + len(self.options.refused)


def search(request: Request, catalog: Catalog) -> Found:
    """Enumerate every lane, engine, device and layout; refuse, estimate and rank them."""
    model = catalog.model(request.model)
    settled = settle(request, model.max_position, catalog.as_of, _draft(request, catalog))
    devices = hardware.devices(request, catalog)
    options = pairing.options(settled, model, devices, catalog)
    fits = fits_of(catalog)
    blocks, unplaced = rows.rows(options.kept, fits)
    swept = [sweep(block, settled) for block in blocks]
    ranking = Ranking.of(swept, settled.objectives)
    return Found(
        request, model, settled, devices, fits, catalog.gates, options, unplaced, swept, ranking, ranking.tied()
    )


def _draft(request: Request, catalog: Catalog) -> Model | None:
    """The smaller model that drafts. Raises BadInput where the catalogue does not know it."""
    asked = request.speculative
    if asked is None or asked.method != "draft" or asked.draft_model is None:
        return None
    try:
        return catalog.model(asked.draft_model)
    except BadInput as fault:
        raise BadInput(fault.message, "$.speculative.draft_model") from None


def plan(request: Request, catalog: Catalog) -> Plan:
    """Plan a request. Raises BadInput and its children for what cannot be asked; infeasible is an answer."""
    return answer(search(request, catalog), catalog)


def answer(found: Found, catalog: Catalog) -> Plan:
    """What was found, as people and tools read it."""
    request, choice, versions = found.request, found.choice, _versions(found, catalog)
    chosen = explain.candidate(choice, found.fits, found.gates) if choice else None
    return Plan(
        schema=SCHEMA,
        id=identity(request, catalog, versions),
        request=canonical(request),
        feasible=choice is not None,
        choice=chosen,
        alternatives=tuple(
            explain.candidate(row, found.fits, found.gates) for row in found.ranking.alternatives(choice)
        ),
        refused=refusals.refused(found.options, found.unplaced, found.swept, found.settled),
        ways_out=() if choice else waysout.ways_out(found, lambda changed: search(changed, catalog)),
        findings=refusals.around(choice.option if choice else None, found.unplaced),
        assumptions=(*found.settled.assumptions, *_accepted(choice), *_left_out(found, catalog)),
        derivation=(*explain.derive(choice, found.fits), *simulated.steps(chosen)) if choice else (),
        sources=_sources(found, choice.option if choice else None),
        launch=_launch(choice),
        tie=tuple(tie_line(row, found.settled.objectives) for row in _distinct(found.tied)[:SHOWN_TIES]),
        probed_at=probed.probed_at if (probed := found.inventory) else None,
        catalog_digest=catalog.digest,
        versions=versions,
    )


def count(request: Request, catalog: Catalog) -> int:
    """How many candidates a plan of this request looks at."""
    return search(request, catalog).candidates


def identity(request: Request, catalog: Catalog, versions: dict[str, str]) -> str:
    """A plan's id: a hash of the canonical request, the catalogue and the versions of what was used."""
    seed = [canonical(request), catalog.digest, versions]
    return hashlib.sha256(msgspec.json.encode(seed, order="deterministic")).hexdigest()[:16]


def _versions(found: Found, catalog: Catalog) -> dict[str, str]:
    engines: dict[str, str] = {engine.id: engine.version for engine in pairing.engines(found.settled, catalog)}
    fitted = f"{catalog.speed.rows} rows in {catalog.speed.groups} groups"
    return {"lanewise": VERSION, **engines, "speed_parameters": fitted}


def _launch(choice: Row | None) -> tuple[LaunchFile, ...]:
    try:
        return target_of(choice.option.pairing.engine.id).launch_files() if choice else ()
    except Unsupported:
        return ()


def _sources(found: Found, chosen: Option | None) -> tuple[str, ...]:
    """Everything the choice rests on; the model's and the devices' own sources when there is none."""
    cited = [found.model.source, *(device.accelerator.source for device in found.devices)]
    if chosen is not None:
        own = chosen.pairing
        cited = [found.model.source, own.device.accelerator.source, own.device.price_source, found.fits.fitted.source]
        cited += [each.source for each in (own.kernel, own.artifact) if each is not None]
        cited += [citation for _, loss in sorted(chosen.cached.losses.items()) for citation in loss.citations]
    return tuple(dict.fromkeys(citation for citation in cited if citation))


def _accepted(choice: Row | None) -> tuple[Assumption, ...]:
    """How often drafts are kept, where the request does not say."""
    row = drafting.method_of(choice.option.pairing) if choice else None
    if choice is None or row is None or drafting.acceptances(choice.option.pairing) is None:
        return ()
    because = f"published for {row.method}, {row.low:g} to {row.high:g}: measure it on your own traffic"
    return (Assumption(path="speculative.acceptance", value=row.acceptance, because=because),)


def _left_out(found: Found, catalog: Catalog) -> tuple[Assumption, ...]:
    """Probed devices that take no part."""
    names = machine.left_out(found.inventory, catalog) if found.inventory else ()
    because = "the catalogue does not know these devices: planned without them"
    return (Assumption(path="hardware.inventory.gpus", value=list(names), because=because),) if names else ()


def _distinct(tied: Sequence[Row]) -> list[Row]:
    """The first row of each lane, engine and device: layouts of one lane say the same in a tie."""
    first: dict[tuple[str, str, str], Row] = {}
    for row in tied:
        first.setdefault(name_of(row.option.pairing), row)
    return list(first.values())
