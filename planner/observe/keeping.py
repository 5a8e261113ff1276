"""Numbers of a run of `lanewise verify` kept for later plans, where it measured the planned machine."""

from __future__ import annotations

from catalog import overlay
from catalog.errors import LanewiseError
from catalog.measurement import Added
from catalog.observation import Observation
from planner import service
from planner.observe import receipts
from planner.observe.deployment import Said, deployment
from planner.observe.observed import observations
from planner.proving.receipt import Receipt
from planner.settings import Settings


def rows(made: Receipt, settings: Settings, source: str) -> tuple[Observation, ...]:
    """What the receipt has to keep; nothing of another machine, or where nothing was served."""
    found = made.served
    if found is None or found.ran is None or found.elsewhere or found.outcome != "measured":
        return ()
    reading = receipts.reading(made, source)
    return observations([reading], deployment(reading, Said(), service.facts(settings)))


def keep(made: Receipt, settings: Settings, source: str) -> str:
    """Keep them; a sentence about it, "" where there was nothing to keep."""
    found = rows(made, settings, source)
    if not found:
        return ""
    try:
        added = overlay.add_observations(settings.catalog_dir, found)
    except (LanewiseError, OSError) as fault:
        return f"not kept for later plans: {fault}"
    return _said(added, found)


def _said(added: Added, found: tuple[Observation, ...]) -> str:
    kept = f"{len(added.added)} numbers kept for later plans" if added.added else "kept for later plans already"
    run = found[0].run
    return f"{kept}: {run} (`lanewise observe --list`; `lanewise observe --remove {run}` forgets them)"
