"""`lanewise evidence` as a shell sees it: an answer, own measurements kept and forgotten, bad files refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from catalog import measurement
from catalog.load import load
from planner import cli
from planner.api.schema import MEASUREMENT
from planner.store import Store

ROOT = Path(__file__).parents[2]
HEADER = "model,lane,task,task_family,baseline,quantized"
GOOD = "meta-llama/Llama-3.1-8B-Instruct,fp8,our tests,chat,80,40"
OTHER = "Qwen/Qwen3-8B,kv:fp8,our tests,chat,80,79.5"
MODEL = "meta-llama/Llama-3.1-8B-Instruct"
PLAN = ["plan", "--model", MODEL, "--qps", "1", "--on", "h100-sxm5-80", "--lanes", "fp8", "--max-loss", "90", "--json"]


@pytest.fixture(autouse=True)
def data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("LANEWISE_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


def file(tmp_path: Path, *lines: str) -> str:
    path = tmp_path / "measured.csv"
    path.write_text("\n".join([HEADER, *lines, ""]), encoding="utf-8")
    return str(path)


def document(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert cli.main([*words]) == 0
    return json.loads(capsys.readouterr().out)


def test_an_answer_for_people_has_estimate_rows_sources_and_citations(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evidence", "--lane", "awq-int4", "--task", "code", "--size", "8B", "--context", "32k"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    for expected in ("80 % interval", "unverified", "Q0238", "estim.", "◆", "●", "[1]", "https://"):
        assert expected in printed.out


def test_measurements_change_plans_until_they_are_removed(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = document(capsys, *PLAN)
    assert not data.exists()
    added = document(capsys, "evidence", "--add", file(tmp_path, GOOD, OTHER), "--json")["added"]
    mine = document(capsys, *PLAN)
    assert mine["id"] != before["id"]
    assert mine["choice"]["quality"]["chat"]["value"] > before["choice"]["quality"]["chat"]["value"] + 1
    assert document(capsys, *PLAN, "--no-measurements") == before
    assert [row["id"] for row in document(capsys, "evidence", "--own", "--json")["rows"]] == sorted(added)
    assert document(capsys, "evidence", "--own", "--no-measurements", "--json")["rows"] == []
    again = document(capsys, "evidence", "--add", file(tmp_path, GOOD), "--json")
    assert again == {"added": [], "known": added[:1]}
    assert document(capsys, *PLAN) == mine
    for key in added:
        assert document(capsys, "evidence", "--remove", key, "--json") == {"removed": key}
    assert document(capsys, *PLAN) == before
    assert cli.main(["evidence", "--remove", added[0]]) == 1
    assert added[0] in capsys.readouterr().err


def test_what_became_of_each_row_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evidence", "--add", file(tmp_path, GOOD)]) == 0
    assert "added to" in capsys.readouterr().out
    assert cli.main(["evidence", "--add", file(tmp_path, GOOD, OTHER)]) == 0
    assert [line.split(": ")[1].split()[0] for line in capsys.readouterr().out.splitlines()] == ["added", "kept"]


@pytest.mark.parametrize("kept", [False, True], ids=["first", "more"])
def test_a_file_with_a_bad_row_changes_nothing(
    kept: bool, tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if kept:
        document(capsys, "evidence", "--add", file(tmp_path, OTHER), "--json")
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    bad = [GOOD, GOOD.replace("fp8", "fp9"), GOOD.replace("80", "eighty"), "short"]
    assert cli.main(["evidence", "--add", file(tmp_path, *bad)]) == 2
    printed = capsys.readouterr()
    assert (printed.out, len(printed.err.splitlines())) == ("", 1)
    for place in ("line 3, lane", "line 4, baseline", "line 5", "measured.csv"):
        assert place in printed.err
    assert {path: path.read_bytes() for path in data.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("words", "code", "names"),
    [
        (["--add", "/no/such.csv"], 2, "/no/such.csv"),
        (["--add", "/no/such.csv", "--lane", "fp8"], 2, "--lane"),
        (["--remove", "own-1", "--own"], 2, "--own"),
        (["--remove", "own-1"], 1, "own-1"),
        (["--lane", "int4"], 2, "awq-int4"),
        (["--size", "8"], 2, "8B"),
        (["--limit", "0"], 2, "limit"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    words: list[str], code: int, names: str, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["evidence", *words]) == code
    printed = capsys.readouterr()
    assert (printed.out, len(printed.err.splitlines())) == ("", 1)
    assert names in printed.err
    assert not data.exists()


def test_a_review_leaves_measurements_out_when_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request = tmp_path / "request.json"
    request.write_text(
        json.dumps(
            {"model": "Qwen/Qwen3-8B", "workload": {"qps": 1}, "hardware": {"accelerators": [{"id": "l4", "count": 2}]}}
        )
    )
    assert cli.main(["review", str(request), "--out", str(tmp_path / "before.md")]) == 0
    document(capsys, "evidence", "--add", file(tmp_path, OTHER), "--json")
    assert cli.main(["review", str(request), "--out", str(tmp_path / "mine.md")]) == 0
    assert cli.main(["review", str(request), "--no-measurements", "--out", str(tmp_path / "without.md")]) == 0
    before, mine, without = ((tmp_path / f"{name}.md").read_bytes() for name in ("before", "mine", "without"))
    assert before == without != mine


def test_measurements_of_a_store_are_read_without_its_libraries(data: Path) -> None:
    store = Store(f"sqlite:///{data / 'lanewise.sqlite3'}")
    store.save_measurements(measurement.read_json(json.dumps(MEASUREMENT).encode(), load()))
    store.close()
    code = (
        "import sys; from planner.cli import main; main(sys.argv[1:]);"
        "print([name for name in ('sqlalchemy', 'alembic') if name in sys.modules], file=sys.stderr)"
    )
    words = ["evidence", "--own", "--json"]
    ended = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, check=True)
    assert ended.stderr.decode().strip() == "[]"
    assert json.loads(ended.stdout)["total"] == 1
