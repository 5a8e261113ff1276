"""From a request to a plan: enumerate, refuse, estimate, rank, explain.

Pure and deterministic: the same request, catalogue and speed parameters give the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any

import msgspec
import numpy as np

from catalog import parameters
from catalog.errors import Unsupported
from catalog.load import Catalog
from planner import explain, hardware, pairing, waysout
from planner import request as requests
from planner import sweep as sweeps
from planner.launch import target_of
from planner.plan import Finding, LaunchFile, Plan, Refused
from planner.rank import Ranking, Row, tie_line
from planner.request import Request, Settled
from planner.rules import MEASURED
from planner.rules.rule import Measured, Pairing, Placed
from planner.sweep import Fits, Swept
from planner.version import VERSION

SHOWN_TIES = 12


class Searched:
    """Everything a search found out; plans and ways out are read off it."""

    def __init__(self, request: Request, catalog: Catalog) -> None:
        self.request, self.catalog = request, catalog
        self.model = catalog.model(request.model)
        self.settled = requests.settle(request, self.model.max_position)
        self.fits = Fits(parameters.load())
        self.devices = hardware.devices(request, catalog)
        self.options = pairing.options(self.settled, self.model, self.devices, catalog)
        rows, self.unplaced = sweeps.rows(self.options.kept, self.fits)
        self.swept = [sweeps.sweep(block, self.settled) for block in rows]
        self.ranking = Ranking(self.swept, self.settled.objectives)
        self.tied = self.ranking.tied()

    @property
    def choice(self) -> Row | None:
        return self.tied[0] if self.tied else None

    @property
    def candidates(self) -> int:
        """Everything that was looked at: rows of the array pass, and pairings refused before it."""
        return sum(block.devices.size for block in self.swept) + len(self.options.refused)


def plan(request: Request, catalog: Catalog, inventory: None = None) -> Plan:
    """Plan a request. Raises BadInput and its children for what cannot be asked; infeasible is an answer."""
    found = Searched(request, catalog)
    choice = found.choice
    others = found.ranking.alternatives(choice) if choice else []
    chosen = explain.candidate(choice, found.fits) if choice else None
    ways = () if choice else waysout.ways_out(found, lambda changed: Searched(changed, catalog))
    versions = _versions(found)
    return Plan(
        schema=requests.SCHEMA,
        id=identity(request, catalog, versions),
        request=requests.canonical(request),
        feasible=choice is not None,
        choice=chosen,
        alternatives=tuple(explain.candidate(row, found.fits) for row in others),
        refused=refused(found),
        ways_out=ways,
        findings=_findings(found),
        assumptions=found.settled.assumptions,
        derivation=explain.derive(choice, found.fits) if choice else (),
        sources=_sources(found),
        launch=_launch(choice),
        tie=tuple(tie_line(row, found.settled.objectives) for row in _distinct(found.tied)[:SHOWN_TIES]),
        catalog_digest=catalog.digest,
        versions=versions,
    )


def count(request: Request, catalog: Catalog) -> int:
    """How many candidates a plan of this request looks at."""
    return Searched(request, catalog).candidates


def identity(request: Request, catalog: Catalog, versions: dict[str, str]) -> str:
    """A plan's id: a hash of the canonical request, the catalogue and the versions of what was used."""
    seed = [requests.canonical(request), catalog.digest, versions]
    return hashlib.sha256(msgspec.json.encode(seed, order="deterministic")).hexdigest()[:16]


def _versions(found: Searched) -> dict[str, str]:
    engines = pairing.engines(found.settled, found.catalog)
    fitted = found.fits.fitted
    return {
        "lanewise": VERSION,
        **{engine.id: engine.version for engine in engines},
        "speed_parameters": f"{fitted.rows} rows in {fitted.groups} groups",
    }


def _launch(choice: Row | None) -> tuple[LaunchFile, ...]:
    if choice is None:
        return ()
    try:
        return target_of(choice.option.pairing.engine.id).launch_files()
    except Unsupported:
        return ()


def refused(found: Searched) -> tuple[Refused, ...]:
    """Every lane, engine and device without a feasible candidate, with the finding that sent its best one away: the
    candidate that came furthest speaks, so measured numbers come before refusals of single layouts or caches."""
    told: dict[tuple[str, str, str], tuple[int, Finding]] = {}
    feasible = _feasible_families(found)
    for block in found.swept:
        for case, size, finding in _measured(block, found.settled):
            _tell(told, case, size, finding, feasible)
    for case, finding in found.options.refused + found.unplaced:
        _tell(told, case, 1, finding, feasible)
    return tuple(
        Refused(lane=lane, engine=engine, accelerator=device, candidates=size, finding=finding)
        for (lane, engine, device), (size, finding) in told.items()
    )


def _key(case: Pairing) -> tuple[str, str, str]:
    return case.lane.id, case.engine.id, case.device.accelerator.id


def _tell(
    told: dict[tuple[str, str, str], tuple[int, Finding]],
    case: Pairing,
    size: int,
    finding: Finding,
    feasible: set[tuple[str, str, str]],
) -> None:
    """The first finding of a family is told, later ones only count; a family that can be served is not refused."""
    key = _key(case)
    if key not in feasible:
        before = told.get(key, (0, finding))
        told[key] = (before[0] + size, before[1])


def _feasible_families(found: Searched) -> set[tuple[str, str, str]]:
    families = set()
    for block, index in found.ranking.rows:
        for option in np.unique(block.rows.option[index]).tolist():
            families.add(_key(block.rows.options[option].pairing))
    return families


def _measured(block: Swept, settled: Settled) -> Iterable[tuple[Pairing, int, Finding]]:
    """Per option without a feasible row: the finding of the row that came furthest."""
    limit = settled.objectives.usd_per_month
    affordable = np.ones(block.devices.shape, bool) if limit is None else ~(block.usd_per_month > limit)
    stage = block.starts * 1.0 + block.holds + block.served + block.feasible + (block.feasible & affordable)
    closeness = np.where(block.starts, -block.devices, block.room.cache_bytes / block.room.claimed_bytes)
    order = np.lexsort((closeness, stage))
    best = dict(zip(block.rows.option[order].tolist(), order.tolist(), strict=True))
    sizes = np.bincount(block.rows.option, minlength=len(block.rows.options))
    for option, index in sorted(best.items()):
        if stage[index] == 5:
            continue
        case = measured(block, index, settled)
        finding = next((said for rule in MEASURED if (said := rule(case)) is not None), None)
        if finding is not None:
            yield block.rows.options[option].pairing, int(sizes[option]), finding


def measured(block: Swept, index: int, settled: Settled) -> Measured:
    """One row's deciding numbers, for the rules."""
    rows = block.rows
    option = rows.options[int(rows.option[index])]
    broken, ratio = max(
        ((name, float(column[index])) for name, column in block.misses.items()), key=itemgetter(1), default=("", 0.0)
    )
    limit = settled.objectives.slo_s.get(broken, 0.0)
    cost = float(block.usd_per_month[index])
    return Measured(
        placed=Placed(
            pairing=option.pairing,
            tensor=int(rows.tensor[index]),
            pipeline=int(rows.pipeline[index]),
            expert=bool(rows.expert[index]),
        ),
        cache=option.cached.dtype,
        weight_bytes=_of(block.room.weight_bytes, index),
        claimed_bytes=_of(block.room.claimed_bytes, index),
        cache_bytes=_of(block.room.cache_bytes, index),
        longest_bytes=max(_of(block.room.longest_bytes, index), _of(block.room.running_bytes, index)),
        served=bool(block.served[index]),
        broken=broken,
        value_s=ratio * limit,
        limit_s=limit,
        rate=float(block.rate[index]),
        devices=float(block.devices[index]),
        usd_per_month=None if np.isnan(cost) else cost,
    )


def _of(column: Any, index: int) -> float:
    return float(column if column.ndim == 0 else column[index])


def _findings(found: Searched) -> tuple[Finding, ...]:
    """What was found about the choice and left out beside it on the same device; without a choice, about all."""
    choice = found.choice
    device = choice.option.pairing.device if choice else None
    near = [f for case, f in found.unplaced if device in (None, case.device) or f.rule in ("H301", "H302")]
    said = {(finding.rule, finding.because): finding for finding in near}
    for finding in choice.option.findings if choice else ():
        said[finding.rule, finding.because] = finding
    return tuple(said.values())


def _sources(found: Searched) -> tuple[str, ...]:
    """Everything the choice rests on; of the model and devices when there is none."""
    cited = [found.model.source, *(device.accelerator.source for device in found.devices[:1])]
    choice = found.choice
    if choice is not None:
        option = choice.option
        device = option.pairing.device
        cited = [found.model.source, device.accelerator.source, device.price_source, found.fits.fitted.source]
        cited += [option.pairing.kernel.source] if option.pairing.kernel else []
        cited += [option.pairing.artifact.source] if option.pairing.artifact else []
        cited += [citation for _, loss in sorted(option.cached.losses.items()) for citation in loss.citations]
    return tuple(dict.fromkeys(citation for citation in cited if citation))


def _distinct(rows: Sequence[Row]) -> list[Row]:
    """The first row of each lane, engine and device: layouts of one lane say the same in a tie."""
    seen: dict[tuple[str, str, str], Row] = {}
    for row in rows:
        seen.setdefault(_key(row.option.pairing), row)
    return list(seen.values())


__all__ = ["Searched", "count", "identity", "plan"]
