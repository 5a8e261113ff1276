"""Own measurements in SQLite and in PostgreSQL: once each, seen by every process, and part of plans."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
from alembic import command
from alembic.config import Config
from litestar.testing import TestClient
from sqlalchemy import create_engine, inspect, text

from catalog import measurement
from catalog.errors import BadInput, LanewiseError, NotFound
from catalog.evidence import Evidence
from catalog.load import load
from planner import measurements, resources, service
from planner.api import create_app
from planner.api.schema import EXAMPLE, MEASUREMENT
from planner.settings import Settings
from planner.store import Store


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without measurements, before and after."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'plans.sqlite3'}"
        return
    found: str = request.getfixturevalue("postgres")
    yield found
    store = Store(found)
    for row in store.measurements():
        store.remove_measurement(row.id)
    store.close()


def rows(*changes: dict[str, Any]) -> tuple[Evidence, ...]:
    """The example measurement, changed."""
    return measurement.read_json(json.dumps([MEASUREMENT | change for change in changes]).encode(), load())


FIRST, SECOND = {"quantized": 80.0}, {"quantized": 81.0}


def test_they_come_back_by_their_ids_and_are_kept_once(url: str) -> None:
    store, both = Store(url), rows(FIRST, SECOND)
    assert store.save_measurements(both).added == tuple(row.id for row in both)
    assert store.save_measurements(both) == measurement.Added(added=(), known=tuple(row.id for row in both))
    assert store.measurements() == tuple(sorted(both, key=lambda row: row.id))
    page = store.measured(limit=1, offset=1)
    assert (page.measurements, page.total) == (store.measurements()[1:], 2)
    store.close()


def test_nothing_is_read_again_until_another_process_changes_it(url: str) -> None:
    ours, theirs = Store(url), Store(url)
    (row,) = rows(FIRST)
    theirs.save_measurements([row])
    seen = ours.measurements()
    assert seen == (row,)
    assert ours.measurements() is seen
    theirs.save_measurements([row])
    assert ours.measurements() is seen
    theirs.remove_measurement(row.id)
    assert ours.measurements() == ()
    theirs.save_measurements(rows(SECOND))
    assert ours.measurements() == rows(SECOND)
    ours.close()
    theirs.close()


def test_all_or_none(url: str) -> None:
    store = Store(url)
    store.save_measurements(rows(FIRST | {"id": "mine"}))
    with pytest.raises(BadInput, match="'mine' is kept with other values"):
        store.save_measurements(rows({"quantized": 70.0}, SECOND | {"id": "mine"}))
    assert [row.id for row in store.measurements()] == ["mine"]
    with pytest.raises(NotFound, match="'other'"):
        store.remove_measurement("other")
    store.close()


def test_many_at_once_keep_one_row_each(url: str) -> None:
    stores = [Store(url) for _ in range(4)]
    with ThreadPoolExecutor(8) as writers:
        told = list(writers.map(lambda number: stores[number % 4].save_measurements(rows(FIRST, SECOND)), range(16)))
    assert sum(len(each.added) for each in told) == 2
    assert {len(store.measurements()) for store in stores} == {2}
    for store in stores:
        store.close()


def test_a_database_from_before_measurements_gains_their_tables(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'old.sqlite3'}"
    engine = create_engine(url)
    with engine.begin() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(resources.migrations()))
        command.upgrade(config, "0002")
    assert "measurements" not in inspect(engine).get_table_names()
    assert measurements.of_store(url) == ()
    assert "measurements" not in inspect(engine).get_table_names()
    store = Store(url)
    store.save_measurements(rows(FIRST))
    store.close()
    assert measurements.of_store(url) == rows(FIRST)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0002")
    assert set(inspect(engine).get_table_names()) == {"alembic_version", "plans", "inventories"}
    engine.dispose()


def test_looking_for_measurements_makes_no_database(tmp_path: Path) -> None:
    assert measurements.of_store(f"sqlite:///{tmp_path / 'none.sqlite3'}") == ()
    assert list(tmp_path.iterdir()) == []


def test_a_database_that_cannot_be_read_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "broken.sqlite3").write_bytes(b"no database at all, and long enough to be taken for one" * 20)
    environment = {
        "LANEWISE_DATABASE_URL": f"sqlite:///{tmp_path / 'broken.sqlite3'}",
        "LANEWISE_DATA_DIR": str(tmp_path),
    }
    words = [sys.executable, "-m", "planner", "evidence", "--lane", "fp8", "--json"]
    root = Path(__file__).parents[2]
    ended = subprocess.run(words, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("lanewise: own measurements cannot be read")
    assert len(ended.stderr.splitlines()) == 1
    without = subprocess.run([*words, "--no-measurements"], cwd=root, env=environment, capture_output=True, check=False)
    assert without.returncode == 0


@pytest.mark.parametrize(
    "url", ["postgresql+psycopg://127.0.0.1:1/none", "postgresql+nosuch://h/x", "mysql://h/x", "no url"]
)
def test_a_database_that_does_not_answer_is_an_error_of_ours(url: str) -> None:
    pytest.importorskip("psycopg", reason="no psycopg here: PostgreSQL is not tried")
    with pytest.raises(LanewiseError, match="--no-measurements"):
        measurements.of_store(url)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite+pysqlite:////no/such/file?timeout=3"])
def test_a_database_that_is_nowhere_holds_nothing(url: str) -> None:
    assert measurements.of_store(url) == ()


def test_a_measurement_posted_to_one_server_is_in_the_next_plan_of_another(url: str, tmp_path: Path) -> None:
    settings = Settings(catalog_dir=tmp_path / "catalog", database_url=url)
    with TestClient(create_app(settings)) as first, TestClient(create_app(settings)) as second:
        before = second.post("/plan", json=EXAMPLE)
        sent = {"model": EXAMPLE["model"], "lane": "fp8", "task_family": "code", "quantized": 1.0}
        (key,) = first.post("/measurements", json=MEASUREMENT | sent).json()["added"]
        after = second.post("/plan", json=EXAMPLE)
        assert after.json()["id"] != before.json()["id"]
        assert after.json()["catalog_digest"] != before.json()["catalog_digest"]
        assert after.json()["choice"] != before.json()["choice"]
        assert second.get("/health").json()["catalog_digest"] == after.json()["catalog_digest"]
        assert second.post("/plan?measurements=false", json=EXAMPLE).content == before.content
        assert first.delete(f"/measurements/{key}").status_code == 204
        assert second.post("/plan", json=EXAMPLE).content == before.content


def test_the_catalogue_is_the_same_object_until_something_changes(url: str, tmp_path: Path) -> None:
    settings, store = Settings(catalog_dir=tmp_path / "catalog", database_url=url), Store(url)
    bare = service.catalogue(settings, store)
    store.save_measurements(rows(FIRST))
    mine = service.catalogue(settings, store)
    assert service.catalogue(settings, store) is mine
    assert mine.published is bare.published
    assert mine.digest == service.catalogue(settings).digest != bare.digest
    without = service.catalogue(msgspec.structs.replace(settings, measurements=False), store)
    assert (without.digest, without.measurements) == (bare.digest, ())
    store.close()


def test_a_document_of_another_kind_is_not_taken_for_a_measurement(url: str) -> None:
    store = Store(url)
    store.save_measurements(rows(FIRST))
    engine = create_engine(url)
    with engine.connect() as connection:
        document = connection.scalar(text("SELECT document FROM measurements"))
    engine.dispose()
    assert document is not None
    assert msgspec.json.decode(bytes(document), type=Evidence) == rows(FIRST)[0]
    store.close()
