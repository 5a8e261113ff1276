"""From a question to its answer: does it start, how much fits, what to change. Pure: the same question, same bytes."""

from __future__ import annotations

from msgspec import structs

from catalog.load import Catalog
from planner.headroom import roomier, seating
from planner.headroom.picture import Ask, Flags, Headroom, Outcome
from planner.headroom.setups import Setup, setups
from planner.headroom.starting import verdict
from planner.request import SCHEMA, canonical
from planner.version import VERSION


def headroom(ask: Ask, catalog: Catalog) -> Headroom:
    """Everything the question asks. Raises BadInput and its children for what cannot be asked; "no" is an answer."""
    found, assumed = setups(ask, catalog)
    others = setups(structs.replace(ask, lane=None, engine=None), catalog)[0] if ask.lane else []
    outcomes = tuple(outcome(each, others, ask) for each in found)
    probed = ask.hardware.inventory
    return Headroom(
        schema=SCHEMA,
        ask=canonical(ask),
        starts=any(each.starts for each in outcomes),
        outcomes=outcomes,
        assumptions=assumed,
        probed_at=probed.probed_at if probed else None,
        catalog_digest=catalog.digest,
        versions={"lanewise": VERSION, **{each.pairing.engine.id: each.pairing.engine.version for each in found}},
    )


def outcome(setup: Setup, others: list[Setup], ask: Ask) -> Outcome:
    """One setup's verdict and memory; with what to change where one lane was asked for."""
    paired = setup.pairing
    starts, reasons, findings, seen = verdict(setup)
    return Outcome(
        lane=paired.lane.id,
        recipe=paired.method.recipe.name,
        checkpoint=paired.artifact.repo if paired.artifact else "",
        engine=paired.engine.id,
        engine_version=paired.engine.version,
        accelerator=paired.device.accelerator.id,
        devices=setup.devices,
        flags=_flags(setup),
        starts=starts,
        reasons=reasons,
        findings=findings,
        picture=seen,
        places=seating.places(setup) if seen is not None else (),
        changes=roomier.changes(setup, others, ask) if ask.lane and starts is not None else (),
    )


def _flags(setup: Setup) -> Flags:
    return Flags(
        max_model_len=setup.context,
        max_num_seqs=setup.slots,
        max_num_batched_tokens=setup.chunk,
        gpu_memory_utilization=setup.share,
        kv_cache_dtype=setup.cached.dtype,
        tensor_parallel=setup.tensor,
        pipeline_parallel=setup.pipeline,
        expert_parallel=setup.expert,
        data_parallel=setup.data,
        gpu_layers=setup.split.layers if setup.split else None,
        tensor_split=setup.split.shares if setup.split else None,
        cpu_experts=setup.split.cpu_experts if setup.split else None,
    )
