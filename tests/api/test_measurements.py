"""Own measurements and evidence over REST: the same bytes as the command, faults with their paths."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as tried
from hypothesis import strategies as st
from litestar import Litestar
from litestar.testing import TestClient

from planner import cli
from planner.api import create_app
from planner.api.schema import EXAMPLE, MEASUREMENT
from planner.settings import from_environment

Client = TestClient[Litestar]


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """A server over the data folder that commands use too."""
    monkeypatch.setenv("LANEWISE_DATA_DIR", str(tmp_path))
    with TestClient(create_app(from_environment())) as client:
        yield client


QUESTIONS: list[dict[str, str]] = [
    {},
    {"lane": "awq-int4", "task": "code", "size": "8B", "context": "32k"},
    {"lane": "FP8", "task": "rag", "size": "70e9"},
    {"lane": "kv:fp8", "task": "long_context", "size": "8B", "limit": "3"},
    {"lane": "bf16", "task": "chat", "size": "8B"},
    {"lane": "kv:int4", "task": "chat", "size": "8B"},
    {"lane": "gguf:Q4_K_M", "task": "ppl", "size": "8B"},
    {"model": "meta-llama/Llama-3.1-8B-Instruct", "recipe": "gptq", "source": "RedHat", "limit": "200"},
    {"own": "true"},
    {"own": "true", "measurements": "false"},
    {"size": "0.5b", "context": "4096"},
]


def words(question: dict[str, str]) -> list[str]:
    """The question as a command."""
    flags = {"own": ["--own"], "measurements": ["--no-measurements"]}
    return [
        "evidence",
        "--json",
        *(word for name, value in question.items() for word in flags.get(name, [f"--{name}", value])),
    ]


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: "-".join(question.values()) or "everything")
def test_rest_and_command_line_answer_the_same_bytes(
    client: Client, question: dict[str, str], capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert client.post("/measurements", json=MEASUREMENT).status_code == 200
    answer = client.get("/evidence", params=question)
    assert answer.status_code == 200, answer.text
    assert cli.main(words(question)) == 0
    assert capsysbinary.readouterr().out == answer.content


def test_a_posted_measurement_is_in_the_next_plan_of_the_command(
    client: Client, capsysbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> None:
    file = tmp_path / "request.json"
    file.write_text(json.dumps(EXAMPLE))
    (key,) = client.post("/measurements", json=MEASUREMENT | {"lane": "fp8", "task_family": "chat"}).json()["added"]
    assert cli.main(["plan", str(file), "--json", "--no-simulate"]) == 0
    planned = capsysbinary.readouterr().out
    assert planned == client.post("/plan", json=EXAMPLE).content
    assert cli.main(["plan", str(file), "--json", "--no-simulate", "--no-measurements"]) == 0
    without = capsysbinary.readouterr().out
    assert without == client.post("/plan", params={"measurements": "false"}, json=EXAMPLE).content
    assert without != planned
    assert cli.main(["evidence", "--remove", key]) == 0
    assert capsysbinary.readouterr().out.decode() == f"{key}: removed from the store\n"
    assert client.post("/plan", json=EXAMPLE).content == without


def test_a_review_says_whether_its_plan_was_made_with_these_measurements(client: Client) -> None:
    client.post("/measurements", json=MEASUREMENT | {"lane": "fp8"})
    plan = client.post("/plan", params={"measurements": "false"}, json=EXAMPLE).json()
    pages = [
        client.get(f"/plans/{plan['id']}/review", params={"measurements": said}).text for said in ("true", "false")
    ]
    assert plan["catalog_digest"][:12] in pages[1]
    assert pages[0] != pages[1]


def test_own_rows_are_listed_and_forgotten(client: Client) -> None:
    documents = [MEASUREMENT | {"quantized": 80.0 + number} for number in range(3)]
    keys = client.post("/measurements", json=documents).json()["added"]
    assert client.post("/measurements", json=documents[0]).json() == {"added": [], "known": [keys[0]]}
    listed = client.get("/measurements", params={"limit": 2}).json()
    assert ([row["id"] for row in listed["measurements"]], listed["total"]) == (sorted(keys)[:2], 3)
    assert {row["id"] for row in client.get("/evidence?own=true").json()["rows"]} == set(keys)
    assert client.delete(f"/measurements/{keys[0]}").status_code == 204
    assert client.delete(f"/measurements/{keys[0]}").status_code == 404
    assert client.get("/measurements").json()["total"] == 2


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b"{", "$"),
        (b"", "$"),
        (b"\xff", "$"),
        (b"[]", "$"),
        (b"5", "$"),
        (b"[5]", "$[0]"),
        (json.dumps(MEASUREMENT | {"baseline": -1}).encode(), "$.baseline"),
        (json.dumps([MEASUREMENT, MEASUREMENT | {"lane": "awq-int9"}]).encode(), "$[1].lane"),
        (json.dumps([MEASUREMENT, MEASUREMENT | {"stderr": "x"}]).encode(), "$[1].stderr"),
    ],
)
def test_bad_measurements_are_400_with_their_path_and_keep_nothing(client: Client, body: bytes, path: str) -> None:
    before = client.get("/health").json()["catalog_digest"]
    answer = client.post("/measurements", content=body)
    assert (answer.status_code, answer.json()["path"]) == (400, path)
    assert client.get("/measurements").json()["total"] == 0
    assert client.get("/health").json()["catalog_digest"] == before


def test_too_many_at_once_is_413(client: Client) -> None:
    assert client.post("/measurements", content=b" " * (1 << 20) + b"[]").status_code == 413


@pytest.mark.parametrize(
    ("question", "path", "known"),
    [
        ({"lane": "awq-int9"}, "lane", "awq-int4"),
        ({"task": "poetry"}, "task", "chat"),
        ({"size": "8"}, "size", "8B"),
        ({"context": "far"}, "context", "32k"),
        ({"limit": "0"}, "limit", ""),
        ({"own": "perhaps"}, "own", ""),
    ],
)
def test_an_unknown_question_is_400_and_names_what_is_known(
    client: Client, question: dict[str, str], path: str, known: str
) -> None:
    answer = client.get("/evidence", params=question)
    assert (answer.status_code, answer.json()["path"]) == (400, path)
    assert known in answer.json()["detail"]


def test_the_examples_of_the_schema_work(client: Client) -> None:
    paths = client.get("/schema").json()["paths"]
    sent = paths["/measurements"]["post"]["requestBody"]["content"]["application/json"]
    assert client.post("/measurements", json=sent["example"]).status_code == 200
    asked = {each["name"]: each.get("example") for each in paths["/evidence"]["get"]["parameters"]}
    assert {
        "lane",
        "task",
        "size",
        "context",
        "model",
        "recipe",
        "source",
        "own",
        "limit",
        "measurements",
    } == asked.keys()
    answer = client.get("/evidence", params={name: value for name, value in asked.items() if value})
    assert answer.json()["estimate"]["loss_pct"]["unit"] == "%"
    assert answer.json()["rows"] != []


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(alphabet="a8B.\x00é:k-", max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*MEASUREMENT, "id", "x"]), inner, max_size=4)
    ),
    max_leaves=8,
)
FUZZ = tried(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(ANYTHING, st.dictionaries(st.sampled_from([*MEASUREMENT, "params", "id", "method"]), ANYTHING, max_size=3))
def test_no_document_breaks_the_server(client: Client, anything: Any, changes: dict[str, Any]) -> None:
    for document in (anything, MEASUREMENT | changes, [MEASUREMENT, anything]):
        answer = client.post("/measurements", content=json.dumps(document).encode())
        assert answer.status_code in (200, 400), (document, answer.text)
        if answer.status_code == 400:
            assert answer.json()["path"].startswith("$")
    assert client.get("/evidence?own=true&limit=10000").status_code == 200


@FUZZ
@given(
    st.dictionaries(
        st.sampled_from(["lane", "task", "size", "context", "model", "recipe", "source", "own", "limit"]),
        st.text(max_size=12) | st.sampled_from(["fp8", "rag", "8B", "32k", "1", "true"]),
    )
)
def test_no_question_breaks_the_server(client: Client, question: dict[str, str]) -> None:
    assert client.get("/evidence", params=question).status_code in (200, 400)
