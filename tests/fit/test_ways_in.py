"""The question by command line and by REST: one document, exit codes, faults with their place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from litestar import Litestar
from litestar.testing import TestClient

from planner import cli
from planner.api import create_app
from planner.api.schema import ASK
from planner.headroom.picture import Headroom
from planner.oracles import vllm_cache
from planner.settings import Settings

WORDS = ("fit", "Qwen/Qwen3-32B", "--on", "h100-sxm5-80", "--lane", "fp8", "--context", "32768")
Client = TestClient[Litestar]


@pytest.fixture(autouse=True)
def _own_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LANEWISE_DATA_DIR", str(tmp_path / "data"))


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    own = Settings(catalog_dir=tmp_path / "catalog", database_url=f"sqlite:///{tmp_path / 'plans.sqlite3'}")
    with TestClient(create_app(own)) as client:
        yield client


def test_rest_and_command_line_answer_the_same_bytes(
    client: Client, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert cli.main([*WORDS, "--json"]) == 0
    answer = client.post("/fit", json=ASK)
    assert answer.status_code == 200
    assert answer.content == capsysbinary.readouterr().out
    assert msgspec.json.decode(answer.content, type=Headroom).starts


def test_a_fault_is_a_document_with_its_path(client: Client) -> None:
    answer = client.post("/fit", json=ASK | {"context": 0})
    assert answer.status_code == 400
    assert answer.json()["path"] == "$.context"


def test_a_stored_inventory_can_be_asked_about(client: Client) -> None:
    path = Path(__file__).parents[2] / "examples" / "inventories" / "a100s.json"
    kept = client.post("/inventories", content=path.read_bytes()).json()["id"]
    answer = client.post("/fit", json=ASK | {"hardware": {"inventory_id": kept}}).json()
    assert answer["probed_at"] == json.loads(path.read_bytes())["probed_at"]
    assert answer["outcomes"][0]["picture"]["free_bytes"] is not None


def test_the_schema_knows_the_question_and_the_answer(client: Client) -> None:
    schema = client.get("/schema").json()
    body = schema["paths"]["/fit"]["post"]["requestBody"]["content"]["application/json"]
    assert body == {"schema": {"$ref": "#/components/schemas/Ask"}, "example": ASK}
    assert {"Ask", "Headroom", "Outcome", "Picture"} <= schema["components"]["schemas"].keys()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ((), 0),
        (("--context", "40960", "--kv-cache", "fp8"), 0),
        (("--utilization", "0.5"), 3),
        (("--tensor-parallel", "2"), 2),
        (("--context", "0"), 2),
        (("--set", "hardware.reserved.memory_gib=70"), 3),
        (("--set", "nothing=1"), 2),
        (("--here",), 2),
    ],
)
def test_exit_codes(words: tuple[str, ...], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*WORDS, *words]) == code
    told = capsys.readouterr()
    assert (told.err == "") is (code != 2)
    assert ("Starts" in told.out) is (code == 0)


def test_without_a_place_it_asks_for_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fit", "Qwen/Qwen3-8B"]) == 2
    assert "--on ACCELERATOR[:COUNT]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--lane", "fp8"), "an environment of its own"),
        (("--lane", "gguf:Q4_K_M"), "llama-fit-params"),
        (("--lane", "fp8", "--engine-version", "vllm=0.19"), "the oracle is vLLM 0.33.0"),
    ],
)
def test_an_oracle_that_cannot_be_asked_says_so(
    words: tuple[str, ...],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if says != "an environment of its own":
        (tmp_path / vllm_cache.FOLDER).mkdir()
        (tmp_path / vllm_cache.FOLDER / "ready").touch()
    monkeypatch.setenv("LANEWISE_TOOLS_DIR", str(tmp_path))
    assert cli.main(["fit", "Qwen/Qwen3-8B", "--on", "h100-sxm5-80", "--oracle", *words]) == 2
    assert says in capsys.readouterr().err


def test_all_lanes_are_a_table_with_the_refused_below(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fit", "Qwen/Qwen3-8B", "--on", "b200-sxm", "--context", "16384"]) == 0
    told = capsys.readouterr().out
    assert "refused H101" in told
    rows = [line.split() for line in told.splitlines() if " x b200-sxm" in line]
    assert len(rows) > 10
    assert all("yes" in row for row in rows)


def test_a_picture_names_what_is_missing_and_what_to_change(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fit", "meta-llama/Llama-3.1-8B-Instruct", "--on", "rtx4090", "--lane", "bf16"]) == 3
    told = capsys.readouterr().out
    assert "first missing: one sequence of 131,072 tokens" in " ".join(told.split())
    assert "H202" in told
    assert "×" in told
    assert "--context 40" in told
