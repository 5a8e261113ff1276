"""Read the data files into one `Catalog`: strictly, entry by entry, so that an error names file, entry and field.

Every file dropped into the folder is loaded: a new GPU is one file in `accelerators/`, a new model one in `models/`.
An overlay folder has the same layout; an entry of the same id replaces ours. Both are part of the digest. The rows of
an overlay's evidence.csv are the user's own measurements: their content counts, not how the file spells it.
"""

from __future__ import annotations

import csv
import hashlib
import io
import tomllib
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import msgspec
from msgspec import Struct

from catalog import gates, observation, parameters, quality_parameters
from catalog.accelerator import Accelerator
from catalog.artifact import Artifact
from catalog.benchmarks import Benchmark
from catalog.engine import Engine, release
from catalog.errors import BadInput, UnknownModel, Unsupported
from catalog.evidence import Evidence, owned, rescored
from catalog.gates import Gates
from catalog.lane import Spelling, is_lane
from catalog.model import Model
from catalog.observation import Deviation, Observation
from catalog.parameters import Parameters
from catalog.price import Offer
from catalog.quality_parameters import SeverityParameters
from catalog.units import quantity

DATA = Path(__file__).parent / "data"
PLACES = (
    "accelerators/*.toml", "models/*.toml", "engines/*.toml",
    "prices.csv", "artifacts.csv", "evidence.csv", "lane_spellings.csv",
    "benchmarks.csv", "speed/*.toml", "quality/*.toml", "gates.toml", "observations.csv",
)  # fmt: skip
"""What a catalogue folder may hold."""
ELSEWHERE = frozenset({"truth", "tools.toml"})
"""Beside it, read by others: measurements that predictions are compared with, tool environments."""

SPEED, QUALITY = "speed/parameters.toml", "quality/parameters.toml"
EVIDENCE = "evidence.csv"

Fact = TypeVar("Fact", bound=Struct)
Key = TypeVar("Key", bound=Hashable)
Row = dict[str, object]
Layer = dict[str, bytes]
"""One data folder: relative file name to content."""
Spellings = Mapping[tuple[str, str], Spelling]


class Doubt(Struct, frozen=True, kw_only=True):
    """One value that rests on confidence C: shown as `unconfirmed`, never the carrier of a choice."""

    kind: str
    id: str
    field: str
    """`*` for the whole entry."""
    source: str


@dataclass(frozen=True)
class Catalog:
    """Everything Lanewise knows before it is asked anything."""

    accelerators: Mapping[str, Accelerator]
    models: Mapping[str, Model]
    artifacts: tuple[Artifact, ...]
    offers: tuple[Offer, ...]
    engines: tuple[Engine, ...]
    evidence: tuple[Evidence, ...]
    """Published rows, and own measurements in the place of those with the same id."""
    published: tuple[Evidence, ...]
    """The evidence without own measurements."""
    spellings: Mapping[tuple[str, str], Spelling]
    speed: Parameters
    """Fitted speed parameters; an overlay's file replaces ours whole."""
    severity: SeverityParameters
    """Fitted parameters of losses; likewise."""
    benchmarks: tuple[Benchmark, ...]
    gates: Gates
    """What settles quality; an overlay's file replaces ours whole."""
    digest: str
    """sha256 over the names and bytes of every file that was read, and over own measurements where there are any."""
    facts: str
    """The digest without own measurements."""
    as_of: str
    """Newest date in the data, ISO: the only "now" there is. "" when nothing is dated."""
    observations: tuple[Observation, ...] = ()
    """What the user's own engines and benchmarks printed, by their ids."""
    deviations: tuple[Deviation, ...] = ()
    """What follows from them for the formulas of speed: no facts, and therefore no part of the digest."""

    def accelerator(self, key: str) -> Accelerator:
        """Raises BadInput with the nearest ids."""
        if key not in self.accelerators:
            raise BadInput(f"no accelerator {key!r}{_nearest(key, self.accelerators)}")
        return self.accelerators[key]

    def model(self, key: str) -> Model:
        """Raises UnknownModel with the nearest ids."""
        if key not in self.models:
            raise UnknownModel(f"no model {key!r} in the catalogue{_nearest(key, self.models)}")
        return self.models[key]

    def engine(self, key: str, version: str = "") -> Engine:
        """Facts of an engine version ("0.33" finds 0.33.0), the newest without one. Raises Unsupported for others."""
        known = [engine for engine in self.engines if engine.id == key]
        for engine in reversed(known):
            if not version or engine.version == version or engine.version.startswith(version + "."):
                return engine
        versions = ", ".join(engine.version for engine in known)
        raise Unsupported(f"unsupported version {version} of {key}: facts exist for {versions or 'none'}")

    def with_model(self, model: Model) -> Catalog:
        """The same facts and one more model, read from elsewhere; it takes part in the digest."""
        encoded = msgspec.json.encode(model, enc_hook=float, order="deterministic")
        facts = hashlib.sha256(self.facts.encode() + encoded).hexdigest()
        models = MappingProxyType({**self.models, model.id: model})
        return replace(self, models=models, facts=facts, digest=_measured(facts, self.measurements, self.observations))

    @cached_property
    def measurements(self) -> tuple[Evidence, ...]:
        """Own measurements, by their ids."""
        return tuple(sorted((row for row in self.evidence if row.own), key=lambda row: row.id))

    def with_measurements(self, rows: Iterable[Evidence]) -> Catalog:
        """The same facts and more own measurements; where they were kept makes no difference to the digest."""
        own = {row.id: row for row in (*self.measurements, *map(owned, rows))}
        together = {row.id: row for row in self.published} | {key: own[key] for key in sorted(own)}
        digest = _measured(self.facts, tuple(own[key] for key in sorted(own)), self.observations)
        return replace(self, evidence=tuple(together.values()), digest=digest)

    def with_observations(self, rows: Iterable[Observation]) -> Catalog:
        """The same facts and these of the user's observations; they are part of the digest."""
        found = observation.checked(rows, observation.FILE)
        return replace(self, observations=found, digest=_measured(self.facts, self.measurements, found))

    @cached_property
    def unmeasured(self) -> Catalog:
        """The same facts without own measurements."""
        if not (self.measurements or self.observations):
            return self
        return replace(self, evidence=self.published, observations=(), deviations=(), digest=self.facts)

    @cached_property
    def artifacts_by_base(self) -> Mapping[str, tuple[Artifact, ...]]:
        """Published checkpoints of each base model, in the order of the file."""
        return _grouped(self.artifacts, lambda artifact: artifact.base)

    @cached_property
    def offers_by_accelerator(self) -> Mapping[str, tuple[Offer, ...]]:
        return _grouped(self.offers, lambda offer: offer.accelerator)

    def doubts(self) -> tuple[Doubt, ...]:
        """Every value of confidence C, for `lanewise catalog doubts`."""
        entries = [("accelerator", *item) for item in self.accelerators.items()]
        models = [("model", *item) for item in self.models.items()]
        fields = [
            Doubt(kind=kind, id=key, field=field, source=source)
            for kind, key, entry in [*entries, *models]
            for field, source in entry.doubts().items()
        ]
        rows = [("artifact", row.repo, row.source) for row in self.artifacts if row.confidence == "C"]
        rows += [("offer", row.name, row.source) for row in self.offers if row.confidence == "C"]
        rows += [("evidence", row.id, row.citation) for row in self.evidence if not row.counts]
        return (*fields, *(Doubt(kind=kind, id=key, field="*", source=source) for kind, key, source in rows))


def load(data: Path | None = None, overlay: Path | None = None) -> Catalog:
    """The packaged catalogue (or the one in `data`), under the user's `overlay`.

    An overlay folder that does not exist yet is empty. Its rows of evidence are the user's own measurements; one with
    the id of a published row corrects that row instead. Raises BadInput for anything that is not strictly a fact:
    unknown fields and files, wrong units, duplicate ids.
    """
    layers = [_read(DATA if data is None else data)]
    layers += [_read(overlay)] if overlay is not None and overlay.is_dir() else []
    spellings = _merge(layers, _csv("lane_spellings.csv", Spelling), lambda row: (row.table, row.spelling))
    artifacts = _merge(
        layers, _csv("artifacts.csv", Artifact, _spelled("artifacts", "format", spellings)), lambda row: row.repo
    )
    rows = _csv(EVIDENCE, Evidence, _unclaimed(_spelled("evidence", "method", spellings)))
    shipped, over = (_merge(part, rows, lambda row: row.id) for part in (layers[:1], layers[1:]))
    corrected = {key: rescored(row) for key, row in over.items() if key in shipped}
    own = [row for key, row in over.items() if key not in shipped]
    offers = _merge(layers, _csv("prices.csv", Offer), lambda offer: offer.name)
    engines = _merge(layers, _versions("engines", Engine), lambda engine: (engine.id, engine.version))
    published, facts = tuple((shipped | corrected).values()), _digest(layers, corrected)
    catalog = Catalog(
        accelerators=MappingProxyType(_merge(layers, _listed("accelerator", Accelerator), lambda entry: entry.id)),
        models=MappingProxyType(_merge(layers, _listed("model", Model), lambda entry: entry.id)),
        artifacts=tuple(artifacts.values()),
        offers=tuple(offers.values()),
        engines=tuple(sorted(engines.values(), key=lambda engine: (engine.id, release(engine.version)))),
        evidence=published,
        published=published,
        spellings=MappingProxyType(spellings),
        speed=parameters.decode(
            _topmost(layers, SPEED, "fitted speed parameters: `lanewise fit-speed` writes them"), SPEED
        ),
        severity=quality_parameters.decode(
            _topmost(layers, QUALITY, "fitted law of losses: `lanewise fit-quality` writes it"), QUALITY
        ),
        benchmarks=tuple(_merge(layers, _csv("benchmarks.csv", Benchmark), lambda row: row.match).values()),
        gates=gates.decode(_topmost(layers, gates.FILE, "limits of quality: copy the shipped file"), gates.FILE),
        digest=facts,
        facts=facts,
        as_of=_newest(offers.values(), artifacts.values()),
    )
    seen = _merge(layers[1:], _csv(observation.FILE, Observation), lambda row: row.id).values()
    catalog = catalog.with_observations(seen) if seen else catalog
    return catalog.with_measurements(own) if own else catalog


def _newest(offers: Iterable[Offer], artifacts: Iterable[Artifact]) -> str:
    return max([*(offer.as_of for offer in offers), *(artifact.checked or "" for artifact in artifacts)], default="")


def _topmost(layers: list[Layer], name: str, missing: str) -> bytes:
    """The file of the topmost layer that has it. Raises BadInput with `missing` where none does."""
    found = [layer[name] for layer in layers if name in layer]
    if not found:
        raise BadInput(f"no {missing}", name)
    return found[-1]


def lane_of(spellings: Spellings, table: str, text: str) -> Spelling:
    """What `table` means by `text`. A lane id or cache format means itself; other unlisted spellings raise BadInput."""
    found = spellings.get((table, text))
    if found is None and (is_lane(text) or text in cache_lanes(spellings)):
        return Spelling(table=table, spelling=text, lane=text)
    if found is None:
        raise BadInput(f"{text!r} is no known spelling of a lane in {table}: add it to lane_spellings.csv")
    return found


def cache_lanes(spellings: Spellings) -> tuple[str, ...]:
    """The ids of cache formats that were measured somewhere."""
    return tuple(sorted({row.lane for row in spellings.values() if row.lane.startswith("kv:")}))


Reader = Callable[[Layer], Iterator[tuple[str, Fact]]]
"""From one layer to its facts of one kind, each with the place where it stands."""


def _read(root: Path) -> Layer:
    """The files of one folder, sorted. A TOML or CSV file that nothing reads is refused: no typo stays silent."""
    if not root.is_dir():
        raise BadInput("no such catalogue folder", str(root))
    found = {path for place in PLACES for path in root.glob(place)}
    data = {path for suffix in ("toml", "csv") for path in root.rglob(f"*.{suffix}")}
    for stray in sorted(data - found):
        if stray.relative_to(root).parts[0] not in ELSEWHERE:
            raise BadInput(f"nothing reads this file; the catalogue reads {', '.join(PLACES)}", str(stray))
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(found)}


def _digest(layers: list[Layer], corrected: Mapping[str, Evidence]) -> str:
    """Over everything but the user's own measurements."""
    total = hashlib.sha256()
    for number, layer in enumerate(layers):
        for name, content in layer.items():
            if number and name in (EVIDENCE, observation.FILE):
                continue
            total.update(f"{number}/{name}:{len(content)}\n".encode() + content)
    if corrected:
        total.update(msgspec.json.encode(corrected, order="deterministic"))
    return total.hexdigest()


def _measured(facts: str, own: tuple[Evidence, ...], seen: tuple[Observation, ...] = ()) -> str:
    """The digest of the facts together with own measurements, in one form and order wherever they were kept."""
    total = facts
    for rows in (own, seen):
        if rows:
            total = hashlib.sha256(total.encode() + msgspec.json.encode(rows, order="deterministic")).hexdigest()
    return total


def _merge(layers: list[Layer], read: Reader[Fact], key: Callable[[Fact], Key]) -> dict[Key, Fact]:
    """All facts of one kind: a later layer replaces an earlier one; within a layer an id stands once."""
    merged: dict[Key, Fact] = {}
    for layer in layers:
        own: dict[Key, Fact] = {}
        for place, fact in read(layer):
            if key(fact) in own:
                raise BadInput(f"duplicate entry {key(fact)!r}", place)
            own[key(fact)] = fact
        merged |= own
    return merged


def _listed(table: str, kind: type[Fact]) -> Reader[Fact]:
    """`[[table]]` entries of every file in the folder `tables/`."""

    def read(layer: Layer) -> Iterator[tuple[str, Fact]]:
        for name, document in _documents(layer, f"{table}s/"):
            rows = document.get(table)
            if not isinstance(rows, list) or set(document) != {table}:
                raise BadInput(
                    f"expected [[{table}]] tables and nothing else, found {', '.join(document) or '-'}", name
                )
            for number, row in enumerate(rows):
                place = f"{name}: {row.get('id', f'entry {number + 1}')}"
                yield place, _convert(row, kind, place)

    return read


def _versions(folder: str, kind: type[Fact]) -> Reader[Fact]:
    """One fact per file of `folder/`, or per entry of its `[[versions]]`, laid over what the file says of all."""

    def read(layer: Layer) -> Iterator[tuple[str, Fact]]:
        for name, document in _documents(layer, f"{folder}/"):
            versions = document.pop("versions", None)
            if not isinstance(versions, list):
                yield name, _convert(document, kind, name)
                continue
            for own in versions:
                place = f"{name}: {own.get('version', '?')}"
                yield place, _convert(_laid_over(document, own), kind, place)

    return read


def _laid_over(common: Row, own: Row) -> Row:
    """Tables are laid over key by key, everything else replaces."""
    merged = dict(common)
    for key, value in own.items():
        under = merged.get(key)
        merged[key] = {**under, **value} if isinstance(under, dict) and isinstance(value, dict) else value
    return merged


def _documents(layer: Layer, folder: str) -> Iterator[tuple[str, Row]]:
    for name, content in layer.items():
        if name.startswith(folder):
            try:
                yield name, tomllib.loads(content.decode())
            except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
                raise BadInput(f"not TOML: {error}", name) from error


def _csv(name: str, kind: type[Fact], complete: Callable[[Row], Row] = dict) -> Reader[Fact]:
    """One fact per line, `complete`d first. An empty cell is an absent value, or "" where a text is required."""

    def read(layer: Layer) -> Iterator[tuple[str, Fact]]:
        lines = csv.reader(io.StringIO(layer.get(name, b"").decode()))
        header = next(lines, [])
        texts = {field.name for field in msgspec.structs.fields(kind) if field.required and field.type is str}
        for number, cells in enumerate(lines, start=2):
            place = f"{name}: line {number}"
            if len(cells) != len(header):
                raise BadInput(f"expected {len(header)} cells, found {len(cells)}", place)
            row: Row = {column: cell for column, cell in zip(header, cells, strict=True) if cell or column in texts}
            yield place, _convert(complete(row), kind, place, strict=False)

    return read


def _spelled(table: str, column: str, spellings: Spellings) -> Callable[[Row], Row]:
    """Adds lane, recipe and training as the spelling in `column` says; what the row itself states goes first."""

    def complete(row: Row) -> Row:
        found = lane_of(spellings, table, str(row.get(column, "")))
        return {"lane": found.lane, "recipe": found.recipe, "training": found.training} | row

    return complete


def _unclaimed(complete: Callable[[Row], Row]) -> Callable[[Row], Row]:
    """Refuses a row that says itself whose it is: where it stands decides."""

    def checked(row: Row) -> Row:
        if "own" in row:
            raise BadInput("no column `own`: the rows of your own folder are yours, those of the catalogue are not")
        return complete(row)

    return checked


def _convert(row: Row, kind: type[Fact], place: str, strict: bool = True) -> Fact:
    try:
        return msgspec.convert(row, kind, strict=strict, dec_hook=quantity)
    except msgspec.ValidationError as error:
        message, _, field = str(error).partition(" - at `$.")
        raise BadInput(message, f"{place}.{field.rstrip('`')}" if field else place) from error


def _grouped(rows: tuple[Fact, ...], key: Callable[[Fact], str]) -> Mapping[str, tuple[Fact, ...]]:
    groups: dict[str, list[Fact]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return MappingProxyType({name: tuple(group) for name, group in groups.items()})


def _nearest(key: str, known: Iterable[str]) -> str:
    """The ids that contain `key` or look like it, as the end of an error message."""
    lowered = {name.lower(): name for name in known}
    inside = [name for low, name in lowered.items() if key.lower() in low][:5]
    near = inside or [lowered[low] for low in get_close_matches(key.lower(), lowered, n=5, cutoff=0.5)]
    return f"; nearest: {', '.join(near)}" if near else ""
