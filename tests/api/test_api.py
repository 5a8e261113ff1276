"""REST over a real store and the real catalogue."""

from __future__ import annotations

import io
import json
import logging
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from litestar import Litestar
from litestar.testing import TestClient
from sqlalchemy import create_engine, text

from catalog.inventory import Inventory
from planner import cli, service
from planner.api import create_app
from planner.api.schema import EXAMPLE, INVENTORY
from planner.settings import Settings

Client = TestClient[Litestar]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(catalog_dir=tmp_path / "catalog", database_url=f"sqlite:///{tmp_path / 'plans.sqlite3'}")


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    with TestClient(create_app(settings)) as client:
        yield client


def request(**changes: Any) -> dict[str, Any]:
    """The example request, some fields replaced."""
    return EXAMPLE | changes


@pytest.fixture
def plan(client: Client) -> dict[str, Any]:
    """A plan that was asked for and stored."""
    answer = client.post("/plan", json=EXAMPLE)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    assert found["feasible"]
    return found


def test_rest_and_command_line_answer_the_same_bytes(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setenv("LANEWISE_DATA_DIR", str(tmp_path))
    file = tmp_path / "request.json"
    file.write_text(json.dumps(EXAMPLE))
    assert cli.main(["plan", str(file), "--json"]) == 0
    simulated = client.post("/plan", json=EXAMPLE | {"simulate": True}).content
    assert simulated == capsysbinary.readouterr().out
    assert cli.main(["plan", str(file), "--json", "--no-simulate"]) == 0
    plain = client.post("/plan", json=EXAMPLE).content
    assert plain == capsysbinary.readouterr().out
    assert json.loads(simulated)["choice"]["simulated"]["requests"] == 2000
    assert "simulated" not in json.loads(plain)["choice"]


def test_a_plan_is_kept_byte_for_byte(client: Client) -> None:
    answered = client.post("/plan", json=EXAMPLE)
    assert client.get(f"/plans/{answered.json()['id']}").content == answered.content


def test_asking_twice_keeps_one_plan(client: Client, plan: dict[str, Any]) -> None:
    client.post("/plan", json=EXAMPLE)
    page = client.get("/plans").json()
    assert [stored["id"] for stored in page["plans"]] == [plan["id"]]
    assert page["total"] == 1
    assert page["plans"][0]["lane"] == plan["choice"]["lane"]


def test_pages_are_bounded(client: Client, plan: dict[str, Any]) -> None:
    assert client.get("/plans", params={"limit": 1, "offset": 1}).json()["plans"] == []
    refused = client.get("/plans", params={"limit": 1000})
    assert (refused.status_code, refused.json()["path"]) == (400, "limit")


def test_infeasible_is_an_answer(client: Client) -> None:
    answer = client.post(
        "/plan",
        json=request(
            model="meta-llama/Llama-3.1-70B-Instruct",
            hardware={"accelerators": [{"id": "a10g", "count": 1}]},
            engines=["vllm"],
        ),
    )
    assert (answer.status_code, answer.json()["feasible"], answer.json()["choice"]) == (200, False, None)
    files = client.get(f"/plans/{answer.json()['id']}/files")
    assert (files.status_code, "infeasible" in files.json()["detail"]) == (404, True)


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b"{", "$"),
        (b"[]", "$"),
        (b'{"model": "a", "workload": {"qps": "four"}}', "$.workload.qps"),
        (b'{"model": "a", "workload": {"qps": 1}, "colour": 1}', "$"),
        (b'{"model": "Qwen/Qwen3-8B", "workload": {"trace": "t.csv"}}', "$.workload.trace"),
        (b'{"model": "a", "workload": {"qps": 1e400}}', "$.workload.qps"),
        (b"\xff\xfe", "$"),
        (b"", "$"),
    ],
)
def test_bad_input_is_400_with_the_path_of_the_fault(client: Client, body: bytes, path: str) -> None:
    answer = client.post("/plan", content=body)
    assert answer.status_code == 400, answer.text
    fault = answer.json()
    assert fault["path"] == path
    assert fault["detail"]


def test_the_media_type_does_not_matter_but_the_size_does(client: Client) -> None:
    assert client.post("/plan", content=json.dumps(EXAMPLE), headers={"content-type": "text/plain"}).status_code == 200
    assert client.post("/plan", content=b" " * (1 << 20) + b"{}").status_code == 413


@pytest.mark.parametrize("model", ["/etc", "./weights", "~/weights", "weights", "weights.gguf", "../a/b"])
def test_a_server_for_others_reads_no_local_models(settings: Settings, model: str) -> None:
    closed = Settings(catalog_dir=settings.catalog_dir, database_url=settings.database_url, local_models=False)
    with TestClient(create_app(closed)) as client:
        answer = client.post("/plan", json=request(model=model))
    assert (answer.status_code, answer.json()["path"]) == (400, "$.model")


@pytest.mark.parametrize("path", ["/plans/none", "/plans/none/files", "/plans/none/files/vllm/serve.sh", "/nowhere"])
def test_what_is_not_there_is_404(client: Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.json()["detail"]


def test_launch_files_come_one_by_one_and_as_an_archive(client: Client, plan: dict[str, Any]) -> None:
    archive = client.get(f"/plans/{plan['id']}/files")
    with tarfile.open(fileobj=io.BytesIO(archive.content)) as tar:
        packed = {entry.name: (tar.extractfile(entry) or io.BytesIO()).read() for entry in tar.getmembers()}
        executable = {entry.name for entry in tar.getmembers() if entry.mode & 0o100}
    single = {f"{file['target']}/{file['name']}": file for file in plan["launch"]}
    assert packed == {name: client.get(f"/plans/{plan['id']}/files/{name}").content for name in single}
    assert executable == {name for name, file in single.items() if file.get("executable")}
    assert client.get(f"/plans/{plan['id']}/files").content == archive.content
    assert client.get(f"/plans/{plan['id']}/files/vllm/no-such").status_code == 404


@pytest.mark.parametrize("kind", ["accelerators", "models", "artifacts", "prices", "kernels", "images", "doubts"])
def test_the_catalogue_is_listed(client: Client, kind: str) -> None:
    entries = client.get(f"/catalog/{kind}").json()
    assert entries
    assert client.get(f"/catalog/{kind}", params={"q": entries[0]["id"]}).json()[0] == entries[0]


@pytest.mark.parametrize("place", ["accelerators/h100-sxm5-80", "models/Qwen/Qwen3-8B"])
def test_an_entry_shows_its_sources(client: Client, place: str) -> None:
    entry = client.get(f"/catalog/{place}").json()
    assert place == f"{entry['kind']}/{entry['id']}"
    assert all(field["source"] and field["confidence"] for field in entry["fields"])


def test_an_unknown_kind_or_entry_is_said(client: Client) -> None:
    assert client.get("/catalog/models/no/such").status_code == 404
    assert client.get("/catalog/colours").status_code == 400


def test_health_names_what_answers_are_made_from(client: Client) -> None:
    health = client.get("/health").json()
    assert health["database"] is True
    assert len(health["catalog_digest"]) == 64
    assert health["version"]


def test_health_fails_with_the_store(client: Client, settings: Settings) -> None:
    with create_engine(settings.database_url).begin() as connection:
        connection.execute(text("DROP TABLE plans"))
    answer = client.get("/health")
    assert (answer.status_code, answer.json()["database"]) == (503, False)


def test_only_a_bug_leaves_a_traceback_in_the_log(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    app = create_app(settings)
    with TestClient(app, raise_server_exceptions=False) as client:
        logging.getLogger("litestar").addHandler(caplog.handler)
        for path in ("/plans/none", "/catalog/colours", "/nowhere"):
            client.get(path)
        client.post("/plan", json=request(model="/etc/none"))
        assert [record for record in caplog.records if record.levelname == "ERROR"] == []
        app.state.store = None
        answer = client.get("/plans")
        logging.getLogger("litestar").removeHandler(caplog.handler)
    assert (answer.status_code, answer.json()["detail"]) == (500, "Internal Server Error")
    assert [record for record in caplog.records if record.levelname == "ERROR"] != []


def test_an_inventory_is_kept_under_the_hash_of_its_content(client: Client) -> None:
    answers = [client.post("/inventories", json=INVENTORY) for _ in range(2)]
    assert {answer.status_code for answer in answers} == {200}
    key = answers[0].json()["id"]
    assert answers[1].json() == {"id": key}
    kept = client.get(f"/inventories/{key}")
    assert (kept.status_code, kept.json()["gpus"][0]["accelerator"]) == (200, "l40s")
    assert client.post("/inventories", content=kept.content).json() == {"id": key}


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"gpus": [{"index": 0}]}, "$.gpus[0]"),
        ({"colour": 1}, "$"),
        ({"probed_at": "today"}, "$.probed_at"),
        ({"host": {"ram_bytes": -1}}, "$.host.ram_bytes"),
        ({"schema": 2}, "$.schema"),
    ],
)
def test_a_wrong_inventory_is_400_with_its_path(client: Client, change: dict[str, Any], path: str) -> None:
    answer = client.post("/inventories", json=INVENTORY | change)
    assert (answer.status_code, answer.json()["path"]) == (400, path)


def test_an_unknown_or_too_large_inventory(client: Client) -> None:
    assert client.get("/inventories/0123456789abcdef").status_code == 404
    assert client.post("/inventories", content=b" " * (1 << 20) + b"{}").status_code == 413


def test_the_schema_has_examples_that_work(client: Client) -> None:
    schema = client.get("/schema").json()
    body = schema["paths"]["/plan"]["post"]["requestBody"]["content"]["application/json"]
    assert client.post("/plan", json=body["example"]).status_code == 200
    assert body["schema"] == {"$ref": "#/components/schemas/Request"}
    sent = schema["paths"]["/inventories"]["post"]["requestBody"]["content"]["application/json"]
    assert client.post("/inventories", json=sent["example"]).status_code == 200
    assert {"Request", "Plan", "Candidate", "Finding", "Inventory", "Gpu"} <= schema["components"]["schemas"].keys()


def test_every_reference_in_the_schema_resolves(client: Client) -> None:
    schema = client.get("/schema").json()
    names = {name.rpartition("/")[2] for name in _references(schema)}
    assert names <= schema["components"]["schemas"].keys()


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        yield from ([node["$ref"]] if "$ref" in node else [])
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


MACHINE = json.loads((Path(__file__).parents[2] / "examples" / "inventories" / "4090s-one-busy.json").read_text())


def test_a_stored_inventory_is_planned_on_as_if_it_were_sent(client: Client) -> None:
    key = client.post("/inventories", json=MACHINE).json()["id"]
    stored = client.post("/plan", json=request(hardware={"inventory_id": key}))
    sent = client.post("/plan", json=request(hardware={"inventory": MACHINE}))
    assert stored.status_code == sent.status_code == 200
    assert stored.content == sent.content
    assert stored.json()["probed_at"] == MACHINE["probed_at"]


def test_an_inventory_that_is_not_kept_is_404(client: Client) -> None:
    answer = client.post("/plan", json=request(hardware={"inventory_id": "0" * 16}))
    assert answer.status_code == 404
    assert "0000" in answer.json()["detail"]


def test_an_inventory_with_a_fault_is_400_with_its_path(client: Client) -> None:
    faulty = MACHINE | {"gpus": [MACHINE["gpus"][0], MACHINE["gpus"][0]]}
    answer = client.post("/plan", json=request(hardware={"inventory": faulty}))
    assert (answer.status_code, answer.json()["path"]) == (400, "$.hardware.inventory.gpus")


def test_the_servers_own_machine_is_probed_when_asked(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    found = msgspec.convert(MACHINE, Inventory)
    monkeypatch.setattr(service, "probe", lambda _settings: found)
    answer = client.post("/plan", json=request(hardware={"probe": True}))
    assert answer.status_code == 200, answer.text
    assert answer.json()["request"]["hardware"]["inventory"]["driver"] == MACHINE["driver"]


def test_a_review_of_a_plan_on_a_machine_is_given(client: Client) -> None:
    plan = client.post("/plan", json=request(hardware={"inventory": MACHINE}))
    answer = client.get(f"/plans/{plan.json()['id']}/review", params={"format": "html"})
    assert answer.status_code == 200
    assert "rtx4090" in answer.text
