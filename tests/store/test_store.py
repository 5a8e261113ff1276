"""The store keeps documents byte for byte, once each, and survives a crowded first start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, text

from catalog.errors import NotFound
from planner.plan import Plan
from planner.store import METADATA, Store


def plan(identifier: str, model: str = "Qwen/Qwen3-8B") -> Plan:
    """An infeasible plan: the store needs no more of it than its head."""
    return Plan(
        schema=1,
        id=identifier,
        request={"model": model},
        feasible=False,
        choice=None,
        alternatives=(),
        refused=(),
        ways_out=(),
        findings=(),
        assumptions=(),
        derivation=(),
        sources=(),
        launch=(),
        tie=(),
        catalog_digest="digest",
        versions={},
    )


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'new folder' / 'plans.sqlite3'}"


@pytest.fixture
def store(url: str) -> Store:
    return Store(url)


def test_a_document_comes_back_byte_for_byte(store: Store) -> None:
    document = b'{ "id": "a",\n  "odd": "\xc3\xa9\\u0000" }\n'
    store.save(plan("a"), document)
    assert store.get("a") == document


def test_the_same_plan_is_one_row(store: Store) -> None:
    store.save(plan("a"), b"first")
    store.save(plan("a"), b"second")
    assert store.page().total == 1
    assert store.get("a") == b"first"


def test_an_unknown_plan_is_not_found(store: Store) -> None:
    with pytest.raises(NotFound, match="'b'"):
        store.get("b")


def test_pages_are_newest_first_and_add_up(store: Store) -> None:
    for number in range(5):
        store.save(plan(f"p{number}"), b"{}")
    pages = [store.page(limit=2, offset=offset) for offset in (0, 2, 4)]
    assert [stored.id for page in pages for stored in page.plans] == ["p4", "p3", "p2", "p1", "p0"]
    assert {page.total for page in pages} == {5}


def test_a_page_may_be_of_one_model(store: Store) -> None:
    store.save(plan("a", "org/one"), b"{}")
    store.save(plan("b", "org/two"), b"{}")
    page = store.page(model="org/two")
    assert ([stored.id for stored in page.plans], page.total) == (["b"], 1)


def test_what_was_stored_is_there_after_a_restart(url: str) -> None:
    first = Store(url)
    first.save(plan("a"), b"kept")
    first.close()
    assert Store(url).get("a") == b"kept"


def test_the_migrations_make_the_tables_that_the_code_speaks_of(url: str, store: Store) -> None:
    with create_engine(url).connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_readers_and_a_writer_share_the_file(url: str, store: Store) -> None:
    with create_engine(url).connect() as connection:
        assert connection.scalar(text("PRAGMA journal_mode")) == "wal"


OPEN_AND_SAVE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from tests.store.test_store import plan
from planner.store import Store
store = Store(sys.argv[1])
store.save(plan("shared"), b"same")
store.save(plan(sys.argv[2]), b"own")
"""


def test_processes_that_start_at_once_on_an_empty_database_all_succeed(url: str) -> None:
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-W", "error", "-c", OPEN_AND_SAVE, url]
    started = [
        subprocess.Popen([*command, f"own-{number}", root], stderr=subprocess.PIPE, text=True) for number in range(4)
    ]
    ended = [(process.communicate()[1], process.returncode) for process in started]
    assert ended == [("", 0)] * 4
    assert Store(url).page().total == 5


def test_our_alembic_folder_does_not_shadow_the_library() -> None:
    root = Path(__file__).parents[2]
    assert (root / "alembic" / "env.py").is_file()
    assert not (root / "alembic" / "__init__.py").exists()
