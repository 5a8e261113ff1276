"""Write a user's own entry into an overlay folder: one TOML file per accelerator or model, one row per table entry.

The folder has the layout of the packaged data, so that `load(overlay=folder)` reads what stands here.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import quote

import msgspec
from msgspec import Struct

from catalog import observation
from catalog.accelerator import Accelerator
from catalog.artifact import Artifact
from catalog.errors import BadInput
from catalog.evidence import Evidence
from catalog.load import EVIDENCE, load
from catalog.measurement import Added, sorted_out
from catalog.model import Model
from catalog.observation import Observation
from catalog.price import Offer
from catalog.units import Quantity

Entry = Accelerator | Model | Offer | Artifact | Evidence
LISTS: tuple[tuple[type[Struct], str], ...] = ((Accelerator, "accelerator"), (Model, "model"))
TABLES: tuple[tuple[type[Struct], str, tuple[str, ...]], ...] = (
    (Offer, "prices.csv", ("provider", "instance", "region", "market")),
    (Artifact, "artifacts.csv", ("repo",)),
    (Evidence, EVIDENCE, ("id",)),
)
"""Type, file, and the columns that make a row one."""


def add(folder: Path, entry: Entry) -> Path:
    """Write `entry` (an earlier one of the same id is replaced) and return the file.

    The whole catalogue is read again with it: what does not load raises BadInput and leaves the folder as it was.
    """
    path, content = _rendered(folder, entry)
    before = path.read_bytes() if path.exists() else None
    _replace(path, content)
    try:
        load(overlay=folder)
    except BadInput:
        _replace(path, before)
        raise
    return path


def add_measurements(folder: Path, rows: Iterable[Evidence]) -> Added:
    """Keep own measurements, all or none; those that are kept already stay one. Raises BadInput."""
    kept = load(overlay=folder).measurements
    new, added = sorted_out(rows, kept)
    if new:
        _replace(folder / EVIDENCE, _table(Evidence, [*kept, *new]))
    return added


def remove_measurement(folder: Path, key: str) -> bool:
    """Whether an own measurement of that id stood in the folder; it is gone now, and with the last one their file."""
    kept = load(overlay=folder).measurements
    left = [row for row in kept if row.id != key]
    if len(left) < len(kept):
        _replace(folder / EVIDENCE, _table(Evidence, left) if left else None)
    return len(left) < len(kept)


def add_observations(folder: Path, rows: Iterable[Observation]) -> Added:
    """Keep what was observed; what is kept already stays one."""
    kept = {row.id: row for row in load(overlay=folder).observations}
    asked = {row.id: row for row in rows}
    new = [row for key, row in asked.items() if key not in kept]
    if new:
        together = observation.checked([*kept.values(), *new], observation.FILE)
        _replace(folder / observation.FILE, _table(Observation, together))
    return Added(added=tuple(row.id for row in new), known=tuple(key for key in asked if key in kept))


def remove_observations(folder: Path, key: str) -> tuple[str, ...]:
    """Ids of the observations of this id or run, which are gone now; with the last one goes their file."""
    kept = load(overlay=folder).observations
    gone = [row for row in kept if key in (row.id, row.run)]
    left = [row for row in kept if key not in (row.id, row.run)]
    if gone:
        _replace(folder / observation.FILE, _table(Observation, left) if left else None)
    return tuple(row.id for row in gone)


def _table(kind: type[Struct], rows: Iterable[Struct]) -> bytes:
    columns = _columns(kind)
    return _written(columns, ({name: _cell(getattr(row, name)) for name in columns} for row in rows)).encode()


def _replace(path: Path, content: bytes | None) -> None:
    """The file with this content, or none: at once, so that nobody ever reads half of it."""
    if content is None:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(content)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _rendered(folder: Path, entry: Entry) -> tuple[Path, bytes]:
    for kind, table in LISTS:
        if isinstance(entry, kind):
            name = quote(str(_set_fields(entry)["id"]).replace("/", "--"), safe=" ")
            return folder / f"{table}s" / f"{name}.toml", _toml_document(table, entry).encode()
    for kind, file, key in TABLES:
        if isinstance(entry, kind):
            path = folder / file
            return path, _with_row(path, entry, key).encode()
    raise BadInput(f"{type(entry).__name__} is no entry of the catalogue")


def _toml_document(table: str, entry: Struct) -> str:
    lines = [f"{name} = {_toml(value)}" for name, value in _set_fields(entry).items()]
    return "\n".join([f"[[{table}]]", *lines, ""])


def _set_fields(entry: Struct) -> dict[str, object]:
    """Fields that differ from their default; the loader fills in the others."""
    fields = {field.name: field for field in msgspec.structs.fields(entry)}
    values = {name: getattr(entry, name) for name in fields}
    return {name: value for name, value in values.items() if fields[name].required or value not in (None, (), {}, "")}


def _toml(value: object) -> str:
    if isinstance(value, Struct):
        value = _set_fields(value)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_toml(name)} = {_toml(item)}" for name, item in value.items()) + " }"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, Quantity):
        return _toml(_spelled(value))
    if isinstance(value, bool | str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)


def _spelled(quantity: Quantity) -> str:
    """The quantity in the largest unit that gives the same number back; else in the smallest one."""
    by_size = sorted(quantity.units.items(), key=lambda unit: unit[1], reverse=True)
    texts = [f"{float(quantity) / factor!r} {unit}" for unit, factor in by_size if float(quantity) >= factor]
    exact = [text for text in texts if quantity.parse(text) == quantity]
    return next(iter([*exact, *texts[-1:]]), f"{float(quantity) / by_size[-1][1]!r} {by_size[-1][0]}")


def _with_row(path: Path, entry: Struct, key: tuple[str, ...]) -> str:
    """The table with this entry in the place of the row of the same key, or at its end."""
    columns = _columns(type(entry))
    old = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))) if path.exists() else []
    if unknown := {str(name) for row in old for name in row} - set(columns):
        raise BadInput(f"unknown columns {', '.join(sorted(unknown))}", str(path))
    new = {name: _cell(getattr(entry, name)) for name in columns}
    rows = {tuple(row.get(name, "") for name in key): row for row in [*old, new]}
    return _written(columns, rows.values())


def _columns(kind: type[Struct]) -> list[str]:
    """Fields that stand in a file: whose a row is follows from where it stands."""
    return [field.name for field in msgspec.structs.fields(kind) if field.name != "own"]


def _written(columns: list[str], rows: Iterable[dict[str, str]]) -> str:
    table = io.StringIO()
    writer = csv.DictWriter(table, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return table.getvalue()


def _cell(value: object) -> str:
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, bool) else str(value)
