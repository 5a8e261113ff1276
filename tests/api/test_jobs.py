"""Jobs over REST: what is refused, with which path; what is kept; what hostile callers get."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from litestar import Litestar
from litestar.testing import TestClient

from planner import service
from planner.api import create_app
from planner.api.job_schema import VERIFY
from planner.jobqueue import book
from planner.settings import Settings
from planner.store import Store
from tests.verify.questions import plan_of

Client = TestClient[Litestar]
TEXT, CALIBRATION = {"name": "own.txt", "content": "a text"}, {"name": "chats.jsonl", "content": '{"text": "hello"}'}
BODY: dict[str, Any] = {"texts": [TEXT], "calibration": [CALIBRATION]}


def settings_of(folder: Path, *, local: bool = True) -> Settings:
    url = f"sqlite:///{folder / 'plans.sqlite3'}"
    return Settings(catalog_dir=folder / "catalog", database_url=url, local_models=local)


@pytest.fixture
def plan(tmp_path: Path) -> str:
    """A stored plan's id."""
    store, made = Store(settings_of(tmp_path).database_url), plan_of("gptq-int4")
    store.save(made, service.encode(made))
    store.close()
    return made.id


@pytest.fixture
def client(tmp_path: Path, plan: str) -> Iterator[Client]:
    with TestClient(create_app(settings_of(tmp_path))) as client:
        yield client


def test_a_question_waits_and_is_listed(client: Client, plan: str) -> None:
    answer = client.post(f"/plans/{plan}/verify", json=BODY | {"budget_minutes": 90})
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert (job["state"], job["plan_id"], job["lane"], job["steps"]) == ("queued", plan, "gptq-int4", [])
    assert "a text" not in answer.text
    assert client.get(f"/jobs/{job['id']}").json() == job
    assert client.get("/jobs").json() == {"jobs": [job], "total": 1, "limit": 20, "offset": 0}
    assert client.get("/jobs", params={"plan_id": plan}).json()["total"] == 1
    assert client.get("/jobs", params={"plan_id": "none"}).json()["total"] == 0
    assert client.post(f"/plans/{plan}/verify", json=BODY | {"budget_minutes": 90}).json() == job
    assert client.post(f"/plans/{plan}/verify", json=BODY).json()["id"] != job["id"]
    assert client.get("/receipts").json() == {"receipts": [], "total": 0, "limit": 20, "offset": 0}
    assert client.delete(f"/jobs/{job['id']}").json()["state"] == "cancelled"


def test_events_of_a_job_that_ended_end(client: Client, plan: str) -> None:
    job = client.post(f"/plans/{plan}/verify", json=BODY).json()["id"]
    client.delete(f"/jobs/{job}")
    told = client.get(f"/jobs/{job}/events")
    assert (told.status_code, told.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert [line for line in told.text.splitlines() if line.startswith(("id", "event"))] == [
        "id: 1", "event: job", "id: 2", "event: job"
    ]  # fmt: skip
    later = client.get(f"/jobs/{job}/events", headers={"Last-Event-ID": "1"}).text
    assert "id: 2" in later
    assert "id: 1" not in later
    assert client.get(f"/jobs/{job}/events", headers={"Last-Event-ID": "999999999"}).text == ""
    for hostile in ("-1", "x", "1" * 40, "1.5", "²"):
        refused = client.get(f"/jobs/{job}/events", headers={"Last-Event-ID": hostile.encode()})
        assert (refused.status_code, refused.json()["path"]) == (400, "Last-Event-ID")


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b"{", "$"),
        (b"[]", "$"),
        (b"\xff", "$"),
        (b'{"colour": 1}', "$"),
        (b"", "$"),
        (b'{"budget_minutes": 0}', "$.budget_minutes"),
        (b'{"budget_minutes": 1e999}', "$.budget_minutes"),
        (b'{"seed": -1}', "$.seed"),
        (b'{"seed": 99999999999999999999}', "$.seed"),
        (b'{"texts": "own.txt"}', "$.texts"),
        (b'{"texts": [{"path": "/etc/passwd"}]}', "$.texts[0]"),
        (b'{"texts": [{}]}', "$.texts[0]"),
        (b'{"texts": [{"name": "a.txt"}]}', "$.texts[0]"),
        (b'{"texts": [{"content": "a"}]}', "$.texts[0]"),
        (b'{"texts": [{"name": "a.txt", "content": "a", "file": "b"}]}', "$.texts[0]"),
        (b'{"texts": [{"name": "a.txt", "content": " "}]}', "$.texts[0].content"),
        (b'{"neutral": [{"file": "/etc/passwd"}]}', "$.neutral[0].file"),
        (b'{"neutral": [{"file": ".."}]}', "$.neutral[0].file"),
        (b'{"calibration": [{"name": "../a.txt", "content": "a"}]}', "$.calibration[0].name"),
        (b'{"calibration": [{"name": "a\\u0000", "content": "a"}]}', "$.calibration[0].name"),
        (b'{"lane": "nvfp4"}', "$.lane"),
        (b'{"lane": "\\u0000"}', "$.lane"),
        (b'{"recipe": "; rm -rf /"}', "$.recipe"),
        (b'{"original": "./nothing/there/at/all"}', "$.original"),
        (b'{"original": "\\u0000"}', "$.original"),
        (b'{"original": "~nobody-of-that-name/x"}', "$.original"),
        (msgspec.json.encode({"original": "/" + "x" * 5000}), "$.original"),
        (msgspec.json.encode({"texts": [TEXT] * 21}), "$.texts"),
    ],
)
def test_a_wrong_question_is_400_with_its_path(client: Client, plan: str, body: bytes, path: str) -> None:
    answer = client.post(f"/plans/{plan}/verify", content=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["path"] == path, answer.text
    assert "--" not in answer.json()["detail"]
    assert client.get("/jobs").json()["total"] == 0


@pytest.mark.parametrize("original", ["/etc", "./weights", "~/weights", "weights", "weights.gguf", "../a/b", "a/../b"])
def test_a_server_for_others_verifies_models_by_id_only(tmp_path: Path, plan: str, original: str) -> None:
    with TestClient(create_app(settings_of(tmp_path, local=False))) as client:
        answer = client.post(f"/plans/{plan}/verify", json=BODY | {"original": original})
        assert (answer.status_code, answer.json()["path"]) == (400, "$.original")
        assert client.post(f"/plans/{plan}/verify", json=BODY | {"original": "org/name@v1"}).status_code == 202


@pytest.mark.parametrize("key", ["none", "%00", "..%2F..", "'; --", "a" * 3000, "%F0%9F%92%A9", "0123456789abcdef"])
def test_what_is_not_there_is_404(client: Client, key: str) -> None:
    assert client.post(f"/plans/{key}/verify", json=BODY).status_code == 404
    for path in (f"/jobs/{key}", f"/jobs/{key}/events", f"/jobs/{key}/logs/a", f"/receipts/{key}"):
        assert client.get(path).status_code == 404, path
    assert client.delete(f"/jobs/{key}").status_code == 404
    assert client.get("/jobs", params={"plan_id": key}).json()["total"] == 0
    assert client.get("/receipts", params={"plan_id": key}).json()["total"] == 0


def test_an_infeasible_plan_has_nothing_to_prove(client: Client) -> None:
    request = {
        "model": "meta-llama/Llama-3.1-70B-Instruct", "workload": {"qps": 1}, "engines": ["vllm"],
        "hardware": {"accelerators": [{"id": "a10g", "count": 1}]},
    }  # fmt: skip
    plan = client.post("/plan", json=request).json()
    answer = client.post(f"/plans/{plan['id']}/verify", json=BODY)
    assert (answer.status_code, "infeasible" in answer.json()["detail"]) == (404, True)


def test_a_full_queue_is_429(client: Client, plan: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book, "MOST_QUEUED", 1)
    assert client.post(f"/plans/{plan}/verify", json=BODY).status_code == 202
    refused = client.post(f"/plans/{plan}/verify", json=BODY | {"seed": 1})
    assert (refused.status_code, "wait already" in refused.json()["detail"]) == (429, True)


def test_an_upload_has_a_limit(client: Client, plan: str) -> None:
    large = BODY | {"texts": [{"name": "a.txt", "content": "x" * (1 << 20)}]}
    assert client.post(f"/plans/{plan}/verify", json=large).status_code == 413


def test_the_schema_names_every_route_and_its_example_is_a_question(client: Client) -> None:
    schema = client.get("/schema").json()
    routes = {path: set(operations) for path, operations in schema["paths"].items()}
    assert routes["/plans/{plan_id}/verify"] == {"post"}
    assert routes["/jobs/{job_id}"] == {"get", "delete"}
    assert {"/jobs", "/jobs/{job_id}/events", "/jobs/{job_id}/logs/{step}", "/receipts", "/receipts/{receipt_id}"} <= (
        routes.keys()
    )
    body = schema["paths"]["/plans/{plan_id}/verify"]["post"]["requestBody"]
    assert body["content"]["application/json"]["example"] == json.loads(json.dumps(VERIFY))
    assert {"VerifyAsk", "GivenText", "Job", "JobStep", "Receipt"} <= schema["components"]["schemas"].keys()
