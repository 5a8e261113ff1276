"""Own measurements where commands keep and find them: in the user's folder, and in the store that a server fills."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from catalog import measurement, overlay
from catalog.errors import BadInput, LanewiseError, NotFound
from catalog.evidence import Evidence
from catalog.load import Catalog
from catalog.measurement import Added
from planner.settings import Settings

if TYPE_CHECKING:
    from planner.store import Store

SQLITE = re.compile(r"sqlite(?:\+pysqlite)?://(?:/(?P<file>[^?]*).*)?")


def of_store(url: str) -> tuple[Evidence, ...]:
    """The measurements in a database, by their ids. One that is not there yet is not made. Raises LanewiseError.

    An SQLite file is read as it stands: a command is not kept waiting by SQLAlchemy, migrations and locks.
    """
    place = SQLITE.fullmatch(url)
    if place is None:
        with _opened(url) as store:
            return store.measurements()
    path = Path(place["file"] or ":memory:")
    return _of_file(path) if path.is_file() else ()


def _of_file(path: Path) -> tuple[Evidence, ...]:
    """Nothing in a file from before measurements."""
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as connection:
            found = connection.execute("SELECT document FROM measurements ORDER BY id").fetchall()
    except sqlite3.Error as fault:
        if "no such table" in str(fault):
            return ()
        raise _unreadable(fault) from None
    return tuple(msgspec.json.decode(document, type=Evidence) for (document,) in found)


def add(file: Path, catalog: Catalog, settings: Settings) -> Added:
    """Keep the rows of a CSV file in the user's folder, all or none. Raises BadInput with every bad line."""
    try:
        data = file.read_bytes()
    except OSError as fault:
        raise BadInput(f"cannot read the measurements: {fault.strerror}", str(file)) from None
    return overlay.add_measurements(settings.catalog_dir, measurement.read_csv(data, str(file), catalog))


def remove(key: str, settings: Settings) -> str:
    """Forget a measurement wherever it is kept, and say where that was. Raises NotFound."""
    places = [str(settings.catalog_dir)] if overlay.remove_measurement(settings.catalog_dir, key) else []
    if any(row.id == key for row in of_store(settings.database_url)):
        with _opened(settings.database_url) as store:
            store.remove_measurement(key)
        places.append("the store")
    if not places:
        raise NotFound(f"no measurement {key!r} of your own; `lanewise evidence --own` lists them")
    return " and ".join(places)


@contextmanager
def _opened(url: str) -> Iterator[Store]:
    from alembic.util import CommandError
    from sqlalchemy.exc import SQLAlchemyError

    from planner.store import Store

    try:
        store = Store(url)
        try:
            yield store
        finally:
            store.close()
    except (SQLAlchemyError, CommandError, ImportError) as fault:
        raise _unreadable(fault) from None


def _unreadable(fault: Exception) -> LanewiseError:
    reason = str(fault).splitlines()[0]
    return LanewiseError(f"own measurements cannot be read ({reason}); --no-measurements does without them")
