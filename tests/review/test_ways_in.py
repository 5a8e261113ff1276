"""The command and the REST route: the same document, clear words for what is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from planner import charts, cli, service
from planner.api import create_app
from planner.api.schema import EXAMPLE
from planner.plan import Plan
from planner.settings import Settings, from_environment
from tests.review.reviewed import ROOT, plan

SUPPORT = str(ROOT / "examples" / "support-chat.toml")
INFEASIBLE: dict[str, Any] = {
    "model": "meta-llama/Llama-3.1-70B-Instruct",
    "workload": {"qps": 1},
    "hardware": {"accelerators": [{"id": "a10g", "count": 1}]},
    "engines": ["vllm"],
}


@pytest.fixture(autouse=True)
def own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    monkeypatch.setenv("LANEWISE_DATA_DIR", str(tmp_path / "data"))
    return from_environment()


@pytest.fixture
def client(own: Settings) -> Iterator[TestClient[Litestar]]:
    with TestClient(create_app(own)) as client:
        yield client


def test_a_request_and_its_plan_give_the_same_review(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert cli.main(["review", SUPPORT, "--format", "md"]) == 0
    from_request = capsysbinary.readouterr()
    assert cli.main(["plan", SUPPORT, "--json"]) == 0
    (tmp_path / "plan.json").write_bytes(capsysbinary.readouterr().out)
    assert cli.main(["review", str(tmp_path / "plan.json")]) == 0
    assert capsysbinary.readouterr().out == from_request.out
    assert from_request.err == b""


@pytest.mark.parametrize(
    ("file", "first"), [("r.html", "<!DOCTYPE html>"), ("r.md", "# Capacity review"), ("r", "# Cap")]
)
def test_the_file_says_the_format(tmp_path: Path, file: str, first: str) -> None:
    out = tmp_path / "deep" / file
    assert cli.main(["review", SUPPORT, "--out", str(out)]) == 0
    assert out.read_text().startswith(first)


def test_growth_is_the_users(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["review", SUPPORT, "--growth", "35"]) == 0
    assert "The load grows by 35 % a quarter" in capsys.readouterr().out
    assert cli.main(["review", SUPPORT, "--growth", "-5"]) == 2
    assert "percent a quarter" in capsys.readouterr().err


def test_an_infeasible_plan_is_reviewed_and_told_by_the_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "request.json"
    file.write_text(json.dumps(INFEASIBLE))
    assert cli.main(["review", str(file)]) == 3
    assert "Ways out, the cheapest first:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("source", "content", "code", "names"),
    [
        ("missing.json", None, 2, "missing.json"),
        ("0123456789abcdef", None, 1, "no plan '0123456789abcdef' is stored"),
        ("bad.json", "{", 2, "JSON"),
        ("bad.json", '{"feasible": true}', 2, "not a plan of this version"),
        ("bad.json", "[1]", 2, "object"),
        ("bad.txt", "text", 2, ".toml or .json"),
    ],
)
def test_what_is_no_plan_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str, content: str | None, code: int, names: str
) -> None:
    if content is not None:
        (tmp_path / source).write_text(content)
    place = str(tmp_path / source) if "." in source else source
    assert cli.main(["review", place]) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert names in printed.err


def test_what_cannot_be_written_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["review", SUPPORT, "--out", str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_missing_charts_are_said_on_stderr(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(charts, "available", lambda: False)
    assert cli.main(["review", SUPPORT]) == 0
    assert "lanewise[review]" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["md", "html"])
def test_rest_and_command_line_give_the_same_bytes(
    client: TestClient[Litestar], kind: str, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    stored = client.post("/plan", json=EXAMPLE).json()["id"]
    answer = client.get(f"/plans/{stored}/review", params={"format": kind, "growth": 10})
    assert answer.status_code == 200, answer.text
    assert cli.main(["review", stored, "--format", kind, "--growth", "10"]) == 0
    assert answer.content == capsysbinary.readouterr().out
    assert answer.headers["content-type"] == {"md": "text/markdown", "html": "text/html"}[kind] + "; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_rest_reviews_what_is_infeasible(client: TestClient[Litestar]) -> None:
    stored = client.post("/plan", json=INFEASIBLE).json()["id"]
    answer = client.get(f"/plans/{stored}/review")
    assert answer.status_code == 200
    assert "Nothing that was asked about" in answer.text


def test_the_store_may_be_named(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    from planner.store import Store

    url = f"sqlite:///{tmp_path / 'elsewhere.sqlite3'}"
    made: Plan = plan("example")
    store = Store(url)
    store.save(made, service.encode(made))
    store.close()
    assert cli.main(["review", made.id, "--db", url]) == 0
    assert made.id.encode() in capsysbinary.readouterr().out


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ({"format": "pdf"}, "format"),
        ({"growth": "-1"}, "growth"),
        ({"growth": "much"}, "growth"),
        ({"growth": "nan"}, "growth"),
    ],
)
def test_a_bad_query_is_400_with_its_place(client: TestClient[Litestar], query: dict[str, str], path: str) -> None:
    stored = client.post("/plan", json=EXAMPLE).json()["id"]
    answer = client.get(f"/plans/{stored}/review", params=query)
    assert (answer.status_code, answer.json()["path"]) == (400, path)
    assert answer.json()["detail"]


def test_an_unknown_plan_is_404(client: TestClient[Litestar]) -> None:
    answer = client.get("/plans/none/review")
    assert (answer.status_code, "none" in answer.json()["detail"]) == (404, True)
