"""Inventories are kept once each, under the name of their content, in SQLite and in PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, inspect, text

from catalog.errors import BadInput, NotFound, Unsupported
from catalog.inventory import Gpu, Inventory, decode, identity
from planner import resources
from planner.store import Store
from tests.store.test_store import plan

PICTURES = sorted((Path(__file__).parents[1] / "probes" / "pictures").glob("*.json"))
SMALL = Inventory(probed_at="2026-11-21T10:00:00Z", gpus=(Gpu(index=0, name="NVIDIA L4", memory_bytes=24 * 2**30),))


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        found: str = request.getfixturevalue("postgres")
        return found
    return f"sqlite:///{tmp_path / 'plans.sqlite3'}"


@pytest.mark.parametrize("picture", PICTURES, ids=lambda path: path.stem)
def test_every_probed_machine_comes_back(url: str, picture: Path) -> None:
    store, found = Store(url), decode(picture.read_bytes())
    key = store.save_inventory(found)
    assert store.inventory(key) == found
    store.close()


def test_the_same_document_is_one_row_with_one_id(url: str) -> None:
    store = Store(url)
    keys = {store.save_inventory(SMALL) for _ in range(3)}
    assert keys == {identity(SMALL)}
    store.close()
    engine = create_engine(url)
    with engine.connect() as connection:
        rows = connection.scalar(text("SELECT count(*) FROM inventories WHERE id = :id"), {"id": identity(SMALL)})
    engine.dispose()
    assert rows == 1


def test_plans_and_inventories_live_side_by_side(url: str) -> None:
    store = Store(url)
    store.save(plan("beside"), b"{}")
    store.save_inventory(SMALL)
    assert (store.get("beside"), store.inventory(identity(SMALL)).gpus) == (b"{}", SMALL.gpus)
    store.close()


def test_an_unknown_inventory_is_not_found(url: str) -> None:
    store = Store(url)
    with pytest.raises(NotFound, match="'0123'"):
        store.inventory("0123")
    store.close()


def test_a_database_from_before_inventories_gains_their_table(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'old.sqlite3'}"
    engine = create_engine(url)
    with engine.begin() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(resources.migrations()))
        command.upgrade(config, "0001")
    assert inspect(engine).get_table_names() == ["alembic_version", "plans"]
    engine.dispose()
    store = Store(url)
    assert store.inventory(store.save_inventory(SMALL)) == SMALL
    store.close()


def test_an_id_is_sixteen_digits_of_the_content_alone() -> None:
    """Whole numbers where floats stand make no other document; any other value does."""
    typed = msgspec.structs.replace(SMALL, gpus=(msgspec.structs.replace(SMALL.gpus[0], memory_bytes=24 * 2.0**30),))
    assert identity(typed) == identity(SMALL) == identity(decode(msgspec.json.encode(SMALL)))
    assert len(identity(SMALL)) == 16
    assert int(identity(SMALL), 16) >= 0
    assert identity(msgspec.structs.replace(SMALL, probed_at="2026-11-21T10:00:01Z")) != identity(SMALL)


@pytest.mark.parametrize(
    ("document", "path"),
    [
        (b"{", "$"),
        (b"[]", "$"),
        (b"\xff", "$"),
        (b"{}", "$"),
        (b'{"probed_at": "yesterday"}', "$.probed_at"),
        (b'{"probed_at": "2026-11-21T10:00:00Z", "colour": 1}', "$"),
        (b'{"probed_at": "2026-11-21T10:00:00Z", "gpus": [{"index": 0}]}', "$.gpus[0]"),
        (b'{"probed_at": "2026-11-21T10:00:00Z", "gpus": [{"index": 0, "name": "a", "free_bytes": -1}]}',
         "$.gpus[0].free_bytes"),
        (b'{"probed_at": "2026-11-21T10:00:00Z", "gpus": [{"index": 0, "name": "a"}, {"index": 0, "name": "b"}]}',
         "$.gpus"),
        (b'{"probed_at": "2026-11-21T10:00:00Z", "gpus": [{"index": 0, "name": "a", "links": [{"to": 1, '
         b'"kind": "numa"}]}]}', "$.gpus[0].links"),
    ],
)  # fmt: skip
def test_what_no_probe_answers_is_refused_with_its_path(document: bytes, path: str) -> None:
    with pytest.raises(BadInput) as refused:
        decode(document)
    assert refused.value.path == path


def test_another_schema_is_refused_by_name() -> None:
    with pytest.raises(Unsupported, match="not of 2"):
        decode(b'{"schema": 2, "probed_at": "2026-11-21T10:00:00Z"}')
