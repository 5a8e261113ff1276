"""Own measurements where commands keep and find them: in the user's folder, and in the store that a server fills."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from catalog import measurement, overlay
from catalog.errors import BadInput, LanewiseError, NotFound
from catalog.evidence import Evidence
from catalog.load import Catalog
from catalog.measurement import Added
from planner.settings import Settings

if TYPE_CHECKING:
    from planner.store import Store

SQLITE = ("sqlite:///", "sqlite+pysqlite:///")


def of_store(url: str) -> tuple[Evidence, ...]:
    """The measurements in a database. One that is not there yet is not made, and an empty one costs no libraries."""
    if _certainly_none(url):
        return ()
    with _opened(url) as store:
        return store.measurements()


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
    from sqlalchemy.exc import SQLAlchemyError

    from planner.store import Store

    try:
        store = Store(url)
        try:
            yield store
        finally:
            store.close()
    except SQLAlchemyError as fault:
        reason = str(fault).splitlines()[0]
        raise LanewiseError(
            f"own measurements cannot be read ({reason}); --no-measurements does without them"
        ) from None


def _certainly_none(url: str) -> bool:
    """Whether an SQLite file is missing, from before measurements, or without one; looked up without SQLAlchemy."""
    prefix = next((each for each in SQLITE if url.startswith(each)), None)
    if prefix is None:
        return url in ("sqlite://", "sqlite:///:memory:")
    path = Path(url.removeprefix(prefix).partition("?")[0])
    if not path.is_file():
        return True
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as connection:
            return connection.execute("SELECT 1 FROM measurements LIMIT 1").fetchone() is None
    except sqlite3.OperationalError as fault:
        return "no such table" in str(fault)
    except sqlite3.DatabaseError:
        return False
