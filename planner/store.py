"""Plans, inventories and own measurements at rest: a table each, plans byte for byte as they were answered.

Jobs and receipts lie in the same database: `planner/jobqueue/book.py` reads and writes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from alembic import command
from alembic.config import Config
from msgspec import Struct
from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Engine,
    Index,
    Integer,
    LargeBinary,
    Row,
    String,
    Table,
    create_engine,
    event,
    func,
    select,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from catalog import inventory as inventories
from catalog.errors import NotFound
from catalog.evidence import Evidence
from catalog.inventory import Inventory
from catalog.measurement import Added, content, sorted_out
from planner import resources
from planner.jobqueue.tables import METADATA
from planner.plan import Plan

PLANS = Table(
    "plans",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("id", String(80), nullable=False, unique=True),
    Column("stored_at", String(32), nullable=False),
    Column("model", String(512), nullable=False),
    Column("feasible", Boolean, nullable=False),
    Column("lane", String(64)),
    Column("engine", String(64)),
    Column("accelerator", String(128)),
    Column("devices", Integer),
    Column("catalog_digest", String(80), nullable=False),
    Column("document", LargeBinary, nullable=False),
    Index("plans_by_model", "model"),
)
INVENTORIES = Table(
    "inventories",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("id", String(16), nullable=False, unique=True),
    Column("stored_at", String(32), nullable=False),
    Column("probed_at", String(32), nullable=False),
    Column("document", LargeBinary, nullable=False),
)
MEASUREMENTS = Table(
    "measurements",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("content", String(64), nullable=False, unique=True),
    Column("stored_at", String(32), nullable=False),
    Column("document", LargeBinary, nullable=False),
)
CHANGES = Table(
    "changes",
    METADATA,
    Column("name", String(32), primary_key=True),
    Column("number", Integer, nullable=False),
)
"""How often a table was changed, so that a process sees cheaply whether another one changed it."""
OF_MEASUREMENTS = CHANGES.c.name == MEASUREMENTS.name
BUSY_SECONDS = 30
"""How long a second process waits for the first one's migration or write."""


class StoredPlan(Struct, frozen=True, kw_only=True):
    """One line of the list of plans; the four middle fields are null when nothing was feasible."""

    id: str
    stored_at: str
    model: str
    feasible: bool
    lane: str | None
    engine: str | None
    accelerator: str | None
    devices: int | None
    catalog_digest: str


class Page(Struct, frozen=True, kw_only=True):
    """Newest first; `total` counts all plans that match, not those on this page."""

    plans: tuple[StoredPlan, ...]
    total: int
    limit: int
    offset: int


class Measured(Struct, frozen=True, kw_only=True):
    """Own measurements in the order of their ids; `total` counts all, not those on this page."""

    measurements: tuple[Evidence, ...]
    total: int
    limit: int
    offset: int


class Store:
    """Plans, inventories and own measurements of one database, created and migrated when the store is opened."""

    def __init__(self, url: str) -> None:
        self._engine = _engine(url)
        self._measured: tuple[int, tuple[Evidence, ...]] = (0, ())
        """The change that measurements were read at, and those."""
        with _exclusive(self._engine) as connection:
            _migrate(connection)

    def save(self, plan: Plan, document: bytes) -> None:
        """Keep one plan; a plan that is stored already stays as it is."""
        with _exclusive(self._engine) as connection:
            if connection.scalar(select(PLANS.c.number).where(PLANS.c.id == plan.id)) is None:
                connection.execute(PLANS.insert().values(_row(plan, document)))

    def get(self, plan_id: str) -> bytes:
        """The document of one plan, byte for byte. Raises NotFound."""
        with self._engine.connect() as connection:
            document: bytes | None = connection.scalar(select(PLANS.c.document).where(PLANS.c.id == plan_id))
        if document is None:
            raise NotFound(f"no plan {plan_id!r} is stored")
        return document

    def page(self, limit: int = 20, offset: int = 0, model: str | None = None) -> Page:
        """One page of the list, newest first, optionally of one model."""
        matches = PLANS.c.model == model if model is not None else PLANS.c.number > 0
        rows = select(PLANS).where(matches).order_by(PLANS.c.number.desc()).limit(limit).offset(offset)
        with self._engine.connect() as connection:
            total = connection.scalar(select(func.count()).select_from(PLANS).where(matches)) or 0
            plans = tuple(_stored(row) for row in connection.execute(rows))
        return Page(plans=plans, total=total, limit=limit, offset=offset)

    def save_inventory(self, inventory: Inventory) -> str:
        """Keep one inventory and return its id, which its content alone decides."""
        identity = inventories.identity(inventory)
        with _exclusive(self._engine) as connection:
            if connection.scalar(select(INVENTORIES.c.number).where(INVENTORIES.c.id == identity)) is None:
                row = {
                    "id": identity,
                    "stored_at": _now(),
                    "probed_at": inventory.probed_at,
                    "document": inventories.canonical(inventory),
                }
                connection.execute(INVENTORIES.insert().values(row))
        return identity

    def inventory(self, inventory_id: str) -> Inventory:
        """One inventory. Raises NotFound."""
        wanted = select(INVENTORIES.c.document).where(INVENTORIES.c.id == inventory_id)
        with self._engine.connect() as connection:
            document: bytes | None = connection.scalar(wanted)
        if document is None:
            raise NotFound(f"no inventory {inventory_id!r} is stored")
        return inventories.decode(document)

    def measurements(self) -> tuple[Evidence, ...]:
        """All own measurements by their ids: the same object until some process changes them."""
        with self._engine.connect() as connection:
            change = connection.scalar(select(CHANGES.c.number).where(OF_MEASUREMENTS)) or 0
            if change != self._measured[0]:
                documents = connection.scalars(select(MEASUREMENTS.c.document).order_by(MEASUREMENTS.c.id))
                self._measured = change, tuple(_measurement(document) for document in documents)
        return self._measured[1]

    def measured(self, limit: int = 20, offset: int = 0) -> Measured:
        """One page of them."""
        rows = self.measurements()
        return Measured(measurements=rows[offset : offset + limit], total=len(rows), limit=limit, offset=offset)

    def save_measurements(self, rows: Iterable[Evidence]) -> Added:
        """Keep own measurements, all or none; those that are kept already stay one. Raises BadInput."""
        with _exclusive(self._engine) as connection:
            connection.execute(select(CHANGES.c.number).where(OF_MEASUREMENTS).with_for_update())
            documents = connection.scalars(select(MEASUREMENTS.c.document))
            new, added = sorted_out(rows, [_measurement(document) for document in documents])
            if new:
                connection.execute(MEASUREMENTS.insert(), [_measurement_row(row) for row in new])
                connection.execute(_CHANGED)
        return added

    def remove_measurement(self, key: str) -> None:
        """Forget one. Raises NotFound."""
        with _exclusive(self._engine) as connection:
            connection.execute(select(CHANGES.c.number).where(OF_MEASUREMENTS).with_for_update())
            gone = connection.execute(MEASUREMENTS.delete().where(MEASUREMENTS.c.id == key)).rowcount
            if not gone:
                raise NotFound(f"no measurement {key!r} is stored")
            connection.execute(_CHANGED)

    def answers(self) -> bool:
        """Whether the database answers a query now."""
        try:
            with self._engine.connect() as connection:
                return connection.scalar(select(func.count()).select_from(PLANS)) is not None
        except SQLAlchemyError:
            return False

    def reading(self) -> Connection:
        """A connection that reads; whoever opens it closes it."""
        return self._engine.connect()

    def writing(self) -> AbstractContextManager[Connection]:
        """A transaction that no second process enters."""
        return _exclusive(self._engine)

    def close(self) -> None:
        """Give the connections back; the database stays."""
        self._engine.dispose()


_CHANGED = CHANGES.update().where(OF_MEASUREMENTS).values(number=CHANGES.c.number + 1)


def _measurement(document: bytes) -> Evidence:
    return msgspec.json.decode(document, type=Evidence)


def _measurement_row(row: Evidence) -> dict[str, Any]:
    document = msgspec.json.encode(row, order="deterministic")
    return {"id": row.id, "content": content(row), "stored_at": _now(), "document": document}


def _row(plan: Plan, document: bytes) -> dict[str, Any]:
    pool = plan.choice.pools[0] if plan.choice else None
    return {
        "id": plan.id,
        "stored_at": _now(),
        "model": plan.request["model"],
        "feasible": plan.feasible,
        "lane": plan.choice.lane if plan.choice else None,
        "engine": plan.choice.engine if plan.choice else None,
        "accelerator": pool.accelerator if pool else None,
        "devices": pool.count if pool else None,
        "catalog_digest": plan.catalog_digest,
        "document": document,
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _stored(row: Row[Any]) -> StoredPlan:
    return StoredPlan(**{name: getattr(row, name) for name in StoredPlan.__struct_fields__})


def _engine(url: str) -> Engine:
    location = make_url(url)
    if location.get_backend_name() != "sqlite":
        return create_engine(location)
    if location.database and location.database != ":memory:":
        Path(location.database).expanduser().parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(location, connect_args={"timeout": BUSY_SECONDS})
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: Any, _record: object) -> None:
    """Readers and one writer at once (WAL). On disk at checkpoints: a power cut may take the last plans, which can be
    made again, never the database. Python's sqlite3 opens transactions late and on its own: `_begin` does."""
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("lanewise_begin", "BEGIN"))


@contextmanager
def _exclusive(engine: Engine) -> Iterator[Connection]:
    """A transaction that no second process enters: on SQLite it takes the write lock before it reads."""
    with engine.connect().execution_options(lanewise_begin="BEGIN IMMEDIATE") as connection, connection.begin():
        yield connection


def _migrate(connection: Connection) -> None:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(resources.migrations()).replace("%", "%%"))
    command.upgrade(config, "head")
