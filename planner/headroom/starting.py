"""Does one setup start, and why not: the rules of a plan that decide it, and its memory."""

from __future__ import annotations

from msgspec import structs

from catalog.units import GIB
from planner import rows
from planner.headroom.picture import Picture
from planner.headroom.seating import Rooms, picture
from planner.headroom.setups import Setup
from planner.plan import Finding
from planner.rooms import Room
from planner.rules import PLACED, hardware, layout, machine, quality
from planner.rules.rule import Measured, Pairing, Rule, Shown

PAIRED: tuple[Rule[Pairing], ...] = (
    quality.nf4_is_for_fine_tuning,
    hardware.unplanned_layout,
    machine.waits_for_a_reset,
    machine.not_compiled_for_the_device,
    machine.driver_too_old,
    hardware.no_kernel,
    hardware.memory_unknown,
    hardware.no_compute_rate,
    hardware.beyond_the_models_context,
    hardware.no_sixteen_bit_original,
    hardware.nothing_to_quantize_from,
    machine.disk_too_small,
    hardware.unconfirmed_facts,
    hardware.kernel_note,
    machine.another_image_for_the_driver,
)
"""Of a plan's rules those that decide whether an engine starts; loss, cost and speed play no part."""
SHOWN: tuple[Rule[Shown], ...] = (
    layout.key_value_heads_are_repeated,
    machine.memory_errors,
    machine.others_hold_memory,
    machine.memory_is_shared_with_the_system,
    machine.another_version_is_installed,
)
UNKNOWABLE = frozenset({"H103", "H105", "H107"})
"""Rules that say what is not known, rather than that it fails."""


def verdict(setup: Setup) -> tuple[bool | None, tuple[Finding, ...], tuple[Finding, ...], Picture | None]:
    """Whether it starts (None: unknown), why not, what else the rules say, and the memory of a device."""
    reasons, findings = _asked_early(setup)
    unknown = any(finding.rule in UNKNOWABLE for finding in reasons)
    if unknown or setup.pairing.kernel is None:
        return (None if unknown else False), tuple(reasons), tuple(findings), None
    rooms = Rooms(setup)
    held = rooms(setup.context, setup.slots)
    reasons += _of_memory(setup, rooms, held)
    findings += _shown(setup, rooms, held)
    return not reasons, tuple(reasons), tuple(findings), picture(setup, rooms)


def _asked_early(setup: Setup) -> tuple[list[Finding], list[Finding]]:
    """(refusals, everything else) of the rules that look at no numbers; all speak, not the first alone."""
    said = [_softened(found, setup) for rule in PAIRED if (found := rule(setup.pairing)) is not None]
    said += [found] if (found := hardware.no_such_cache(setup.cached)) is not None else []
    said += [_softened(found, setup) for rule in PLACED if (found := rule(setup.placed)) is not None]
    refused = [finding for finding in said if finding.effect == "refuse"]
    return refused, [finding for finding in said if finding.effect != "refuse"]


def _softened(finding: Finding, setup: Setup) -> Finding:
    """A plan refuses these, an engine starts all the same: doubtful facts, tensor parallel across nodes where asked."""
    starts = finding.rule == "H104" or (finding.rule == "H303" and setup.chosen)
    return structs.replace(finding, effect="warn") if starts else finding


def _of_memory(setup: Setup, rooms: Rooms, held: Room[float]) -> list[Finding]:
    case = _measured(setup, rooms, held)
    said = [hardware.cannot_start(case), _of_slots(hardware.longest_context_does_not_fit(case), setup, case)]
    return [finding for finding in [_taken(setup), *said] if finding is not None]


def _measured(setup: Setup, rooms: Rooms, held: Room[float]) -> Measured:
    return Measured(
        placed=setup.placed,
        cache=setup.cached.dtype,
        weight_bytes=held.weight_bytes,
        claimed_bytes=held.claimed_bytes,
        cache_bytes=held.cache_bytes,
        longest_bytes=rooms.needed(setup.context, setup.slots),
        served=True,
        broken="",
        value_s=0.0,
        limit_s=0.0,
        rate=0.0,
        devices=float(setup.devices),
        usd_per_month=None,
    )


def _of_slots(finding: Finding | None, setup: Setup, case: Measured) -> Finding | None:
    """llama.cpp reserves all slots at once; the rule's sentence speaks of one."""
    if finding is None or setup.slots == 1 or rows.books_of(setup.pairing) == "vllm":
        return finding
    needs = f"{case.longest_bytes / GIB:.1f} GiB of cache per device, {case.cache_bytes / GIB:.1f} GiB are left"
    return structs.replace(finding, because=f"{setup.slots} slots of {setup.context:,} tokens need {needs}")


def _taken(setup: Setup) -> Finding | None:
    """A share of the user's own that is more than what is free: vLLM stops before it loads anything."""
    device, asked = setup.pairing.device, setup.utilization
    total, possible = device.memory or 0.0, setup.largest_share
    if asked is None or possible >= asked:
        return None
    free = total if device.free is None else device.free
    claim = f"a share of {asked:g} is {asked * total / GIB:.1f} GiB"
    return Finding(
        rule=machine.others_hold_memory.code,
        effect="refuse",
        because=f"{claim}; of {free / GIB:.1f} GiB that are free the driver keeps some: {possible:g} at most",
        facts={"free_bytes": round(free), "largest_share": possible},
        source="vllm v1/worker/gpu_worker.py init_device",
    )


def _shown(setup: Setup, rooms: Rooms, held: Room[float]) -> list[Finding]:
    """What the rules say of the candidate as it would run."""
    case = Shown(
        pairing=setup.pairing,
        cache=setup.cached.dtype,
        make=None,
        tensor=setup.tensor,
        batch=1.0,
        rate=0.0,
        plain_rate=None,
        cache_bytes=held.cache_bytes,
        needed_bytes=rooms.needed(setup.context, setup.slots),
    )
    asked = (hardware.little_room, *SHOWN) if rooms.starts(setup.context, setup.slots) else SHOWN
    return [found for rule in asked if (found := rule(case)) is not None]
