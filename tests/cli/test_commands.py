"""The commands as a shell sees them: exit code, stdout, stderr."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from planner import cli

ROOT = Path(__file__).parents[2]
REQUEST = {
    "model": "meta-llama/Llama-3.1-8B-Instruct",
    "workload": {"qps": 1},
    "hardware": {"accelerators": [{"id": "h100-sxm5-80", "count": 1}]},
}


@pytest.fixture(autouse=True)
def _own_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LANEWISE_DATA_DIR", str(tmp_path / "data"))


@pytest.fixture
def request_file(tmp_path: Path) -> str:
    file = tmp_path / "request.json"
    file.write_text(json.dumps(REQUEST))
    return str(file)


def lanewise(*words: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """A new process, as a user starts it."""
    return subprocess.run(
        [sys.executable, "-m", "planner", *words],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        check=False,
    )


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.startswith("lanewise 0.")


def test_a_plan_is_one_document_on_stdout(request_file: str, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    assert cli.main(["plan", request_file, "--json"]) == 0
    printed = capsysbinary.readouterr()
    plan = json.loads(printed.out)
    assert plan["feasible"] is True
    assert plan["request"]["model"] == REQUEST["model"]
    assert printed.err == b""


def test_a_plan_for_people_names_the_decision(request_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", request_file]) == 0
    printed = capsys.readouterr()
    first = printed.out.splitlines()[0]
    assert first.startswith("Ship ")
    assert "h100-sxm5-80" in first
    assert printed.err == ""


def test_explain_shows_how_numbers_were_made(request_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", request_file, "--json"]) == 0
    steps = json.loads(capsys.readouterr().out)["derivation"]
    assert cli.main(["plan", request_file, "--explain"]) == 0
    shown = capsys.readouterr().out
    assert steps
    assert [step["name"] for step in steps if step["name"] not in shown] == []


def test_what_does_not_fit_is_said_and_told_by_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--model", "meta-llama/Llama-3.1-70B-Instruct", "--qps", "1", "--on", "a10g:1", "--engines", "vllm"]
    assert cli.main(["plan", *words]) == 3
    printed = capsys.readouterr().out
    assert printed.startswith("Nothing fits")
    assert "Ways out" in printed


def test_launch_files_are_written(request_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", request_file, "--json", "--out", str(tmp_path / "launch")]) == 0
    launch = json.loads(capsys.readouterr().out)["launch"]
    written = {path.name for path in (tmp_path / "launch").rglob("*") if path.is_file()}
    assert written == {file["name"] for file in launch}
    assert written


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["plan", "missing.json"], ["missing.json"]),
        (["plan", "--model", "no/such", "--qps", "1", "--on", "l4:1"], ["no/such", "$.model"]),
        (["plan", "--model", REQUEST["model"], "--qps", "1", "--on", "nothing:1"], ["nothing"]),
        (["plan", "--model", REQUEST["model"], "--qps", "-1", "--on", "l4"], ["$.workload.qps"]),
        (["plan", "--model", REQUEST["model"], "--on", "l4"], ["workload"]),
        (["plan", "--model", REQUEST["model"], "--qps", "1", "--on", "l4", "--here"], ["--here"]),
    ],
)
def test_bad_input_is_one_line_that_names_the_place(
    words: list[str], names: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert cli.main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert [name for name in names if name not in printed.err] == []


def test_a_wrong_flag_is_one_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["plan", "--no-such-flag"])
    assert stopped.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


HEAVY = ("litestar", "uvicorn", "sqlalchemy", "alembic", "huggingface_hub", "jinja2", "gguf", "httpx", "matplotlib")


def test_planning_starts_without_what_it_does_not_need(request_file: str) -> None:
    code = (
        "import sys; from planner.cli import main; main(sys.argv[1:]);"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, "plan", request_file, "--json"], cwd=ROOT, capture_output=True, check=True
    )
    assert ended.stderr.decode().strip() == "[]"


def test_the_same_request_gives_the_same_bytes_in_any_process(request_file: str) -> None:
    ended = [lanewise("plan", request_file, "--json", PYTHONHASHSEED=seed) for seed in ("1", "2")]
    assert [one.returncode for one in ended] == [0, 0]
    assert ended[0].stdout == ended[1].stdout


def test_toml_json_and_flags_ask_the_same(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    (tmp_path / "one.json").write_text(json.dumps(REQUEST))
    (tmp_path / "two.toml").write_text(
        f'model = "{REQUEST["model"]}"\nworkload.qps = 1.0\n[[hardware.accelerators]]\nid = "h100-sxm5-80"\ncount = 1\n'
    )
    flags = ["--model", str(REQUEST["model"]), "--qps", "1", "--on", "h100-sxm5-80:1"]
    answers = []
    for words in ([str(tmp_path / "one.json")], [str(tmp_path / "two.toml")], flags):
        assert cli.main(["plan", *words, "--json"]) == 0
        answers.append(capsysbinary.readouterr().out)
    assert len(set(answers)) == 1


def test_a_model_of_ones_own_is_added_and_planned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tuned").mkdir()
    (tmp_path / "tuned" / "config.json").write_text(json.dumps(QWEN3_8B))
    before = _digest(capsys)
    assert cli.main(["catalog", "add", str(tmp_path / "tuned")]) == 0
    assert (tmp_path / "data" / "catalog").is_dir()
    capsys.readouterr()
    assert _digest(capsys) != before
    assert cli.main(["catalog", "models", "tuned", "--json"]) == 0
    (added,) = json.loads(capsys.readouterr().out)
    assert cli.main(["plan", "--model", added["id"], "--qps", "1", "--on", "h100-sxm5-80", "--json"]) == 0


def _digest(capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.main(["plan", "--model", "Qwen/Qwen3-8B", "--qps", "1", "--on", "h100-sxm5-80", "--json"]) == 0
    digest: str = json.loads(capsys.readouterr().out)["catalog_digest"]
    return digest


QWEN3_8B = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "attention_bias": False,
    "head_dim": 128,
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "max_position_embeddings": 40960,
    "num_attention_heads": 32,
    "num_hidden_layers": 36,
    "num_key_value_heads": 8,
    "vocab_size": 151936,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}


def test_a_reader_that_leaves_early_is_no_error() -> None:
    shell = f"'{sys.executable}' -m planner catalog prices | head -n 1"
    ended = subprocess.run(["sh", "-c", shell], cwd=ROOT, capture_output=True, check=False)
    assert ended.stderr == b""


@pytest.mark.parametrize("kind", ["accelerators", "models", "artifacts", "prices", "kernels", "images", "doubts"])
def test_lists_print_as_a_table_and_as_a_document(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["catalog", kind, "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert cli.main(["catalog", kind]) == 0
    assert capsys.readouterr().out.rstrip().endswith(f"{len(entries)} {kind}")
    assert entries


def test_a_query_narrows_a_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["catalog", "accelerators", "h100", "sxm", "--json"]) == 0
    assert [entry["id"] for entry in json.loads(capsys.readouterr().out)] == ["h100-sxm5-80"]


@pytest.mark.parametrize("identifier", ["h100-sxm5-80", "Qwen/Qwen3-8B"])
def test_an_entry_shows_every_field_with_its_source(identifier: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["catalog", "show", identifier, "--json"]) == 0
    entry = json.loads(capsys.readouterr().out)
    assert entry["id"] == identifier
    assert [field["name"] for field in entry["fields"] if not field["source"]] == []
    assert cli.main(["catalog", "show", identifier]) == 0
    assert "[1]" in capsys.readouterr().out


def test_an_unknown_entry_fails_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["catalog", "show", "no-such"]) == 1
    assert "no-such" in capsys.readouterr().err


def test_rules_are_listed_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["rule"]) == 0
    code = capsys.readouterr().out.split()[0]
    assert cli.main(["rule", code.lower()]) == 0
    assert capsys.readouterr().out.startswith(code)
    assert cli.main(["rule", "Z999"]) == 1


def test_predictions_are_written_row_by_row(tmp_path: Path) -> None:
    truth = (ROOT / "catalog" / "data" / "truth" / "speed.csv").read_text(encoding="utf-8").splitlines()[:40]
    (tmp_path / "in.csv").write_text("\n".join(truth) + "\n")
    words = ["--truth", str(tmp_path / "in.csv"), "--out", str(tmp_path / "out.csv")]
    assert cli.main(["predict", "speed", *words]) == 0
    written = (tmp_path / "out.csv").read_text().splitlines()
    assert written[0] == "id,predicted,p10,p90,refused"
    assert [line.split(",")[0] for line in written[1:]] == [line.split(",")[0] for line in truth[1:]]


def test_a_missing_file_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["predict", "speed", "--truth", "/no/such.csv", "--out", str(tmp_path / "out.csv")]) == 2
    assert "/no/such.csv" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_fails_in_one_line(
    request_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert cli.main(["plan", request_file, "--out", str(tmp_path / "file")]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
