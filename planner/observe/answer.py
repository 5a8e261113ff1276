"""The answer of `lanewise observe`: what files say, what was predicted of it, and what was kept."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from catalog import overlay
from catalog.errors import BadInput, NotFound
from catalog.load import Catalog
from catalog.measurement import Added
from catalog.observation import Observation
from planner.observe import beside, fetching, formats
from planner.observe.beside import Compared
from planner.observe.deployment import Deployment, Said, deployment
from planner.observe.observed import observations
from planner.observe.reading import Reading
from planner.settings import Settings


class Observed(Struct, frozen=True, kw_only=True):
    """Readings of one deployment."""

    readings: tuple[Reading, ...]
    about: Deployment
    compared: tuple[Compared, ...]
    """Empty while engine, model or lane is missing."""
    missing: tuple[str, ...]
    """Flags that would say whose numbers these are."""
    added: Added | None = None


def read(names: Sequence[str]) -> tuple[Reading, ...]:
    """Every file or address in its format. Raises BadInput or LanewiseError."""
    return tuple(formats.read(*fetching.content(name)) for name in names)


def observed(readings: Sequence[Reading], said: Said, catalog: Catalog) -> Observed:
    """The deployment, and every number that is kept beside what is predicted. Raises BadInput.

    Several readings are one deployment: files that say different settings are refused rather than mixed.
    """
    about = _together([deployment(reading, said, catalog) for reading in readings])
    rows = observations(readings, about) if set(about.missing) <= {"--accelerator"} else ()
    compared = beside.compared(rows, catalog)
    return Observed(readings=tuple(readings), about=about, compared=compared, missing=about.missing)


def _together(found: Sequence[Deployment]) -> Deployment:
    """What they say together: a log of settings beside benchmarks that state none."""
    made = found[0]
    for other in found[1:]:
        for name in Deployment.__struct_fields__:
            here, there = getattr(made, name), getattr(other, name)
            usual = here in ("", 0, "auto") or (name == "accelerators" and here == 1)
            if usual and there not in ("", 0, "auto"):
                made = replace(made, **{name: there})
            elif there not in ("", 0, "auto", here) and not (name == "accelerators" and there == 1):
                raise BadInput(f"these files speak of different deployments: {name} is {here!r} and {there!r}", "FILE")
    return made


def keep(found: Observed, settings: Settings) -> Observed:
    """The same, kept in the user's folder. Raises BadInput where it is not known whose numbers they are."""
    if found.missing:
        raise BadInput(f"say whose numbers these are: {', '.join(found.missing)}", "--add")
    rows = [one.row for one in found.compared]
    if not rows:
        raise BadInput("no number in it that could be kept", "--add")
    return replace(found, added=overlay.add_observations(settings.catalog_dir, rows))


def kept(settings: Settings) -> tuple[Observation, ...]:
    """What was added, by run and id."""
    from planner import service

    return tuple(sorted(service.facts(settings).observations, key=lambda row: (row.run, row.metric, row.stat, row.id)))


def forget(key: str, settings: Settings) -> tuple[str, ...]:
    """Ids that are gone. Raises NotFound."""
    gone = overlay.remove_observations(settings.catalog_dir, key) if settings.catalog_dir.is_dir() else ()
    if not gone:
        raise NotFound(f"no observation or run {key!r} is kept; `lanewise observe --list` shows them")
    return gone
