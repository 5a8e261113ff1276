"""`lanewise verify` and `lanewise receipts` from the outside."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from catalog.errors import NotFound
from planner import cli, service
from planner.proving.steps import Program
from planner.running import commands
from tests.models import stored
from tests.verify.questions import plan_of


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LANEWISE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("LANEWISE_TOOLS_DIR", str(tmp_path / "tools"))
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "plan.json"
    path.write_bytes(service.encode(plan_of("gptq-int4")))
    return path


def text(folder: Path) -> str:
    path = folder / "own.txt"
    path.write_text("a text")
    return str(path)


def test_a_dry_run_prints_the_program_and_runs_nothing(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify", str(plan), "--dry-run", "--json"]) == 0
    program = msgspec.json.decode(capsys.readouterr().out, type=Program)
    assert program.plan_id == json.loads(plan.read_text())["id"]
    assert len(program.missing) == 2
    assert cli.main(["verify", str(plan), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    for step in program.steps:
        assert step.id in shown
    for each in program.left_out:
        assert each.gate in shown
    assert "missing" in shown
    assert not (plan.parent / "lanewise-runs").exists()


def test_a_request_is_planned_first(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request = plan.with_name("request.json")
    request.write_bytes(msgspec.json.encode(plan_of("gguf:Q8_0").request))
    assert cli.main(["verify", str(request), "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["lane"] == "gguf:Q8_0"


def test_running_without_tools_is_refused_before_anything_starts(
    plan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = text(plan.parent)
    assert cli.main(["verify", str(plan), "--text", own, "--calibration", own]) == 1
    said = capsys.readouterr().err
    assert "llm-compressor" in said
    assert "installed" in said
    assert "needed by calibration" in said
    assert not (plan.parent / "lanewise-runs").exists()


def test_running_without_text_says_what_is_missing(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify", str(plan)]) == 2
    said = capsys.readouterr().err
    assert "--text FILE" in said
    assert "--calibration FILE" in said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--lane", "nvfp4"], "shows no candidate of 'nvfp4'"),
        (["--recipe", "awq"], "gptq-int4 is made here by gptq, not by 'awq'"),
        (["--text", "gone.txt"], "no such file"),
        (["--original", "./gone"], "no such folder or file"),
        (["--budget", "0"], "minutes above 0"),
        (["--budget", "nan"], "minutes above 0"),
    ],
)
def test_bad_input_is_named(plan: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str) -> None:
    assert cli.main(["verify", str(plan), "--dry-run", *words]) == 2
    assert says in capsys.readouterr().err


def test_a_budget_without_room_is_refused_by_name(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = text(plan.parent)
    assert cli.main(["verify", str(plan), "--text", own, "--calibration", own, "--budget", "0.01"]) == 2
    assert "the budget has room for no gate" in capsys.readouterr().err


def test_costs_of_this_machine(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify", str(plan), "--dry-run", "--here", "--json"]) == 0
    here = json.loads(capsys.readouterr().out)
    assert cli.main(["verify", str(plan), "--dry-run", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert [step["id"] for step in here["steps"]] == [step["id"] for step in planned["steps"]]
    assert max(step["gpus"] for step in planned["steps"]) == 1


def test_receipts_of_a_folder_that_is_not_there(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["receipts"]) == 1
    assert "written by `lanewise verify`" in capsys.readouterr().err


class Nothing:
    """No tool is installed."""

    def python(self, tool: str) -> Path:
        raise NotFound(tool)

    def program(self, tool: str, name: str) -> Path:
        raise NotFound(tool)

    def versions(self, tool: str) -> dict[str, str]:
        raise NotFound(tool)


def test_placeholders_are_whole_heads_of_words() -> None:
    places = {"{run}": "/r", "{out}": "/o"}
    asked = ("{run}", "{run}/a", "/x/{run}", "{run}x/a", "{other}/a", "{out}/{run}")
    told = ("/r", "/r/a", "/x/{run}", "{run}x/a", "{other}/a", "/o/{run}")
    assert commands.resolved(asked, Nothing(), places) == told
    with pytest.raises(NotFound):
        commands.resolved(("{python:vllm}",), Nothing(), places)


def test_an_original_for_a_plan_without_gates_is_refused(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An FP8 folder of unknown shapes is planned as its owner's own format: nothing would be compared, and a receipt
    that passes would claim that something was."""
    config = stored.LLAMA_8B | {"num_hidden_layers": 7, "quantization_config": {"quant_method": "fp8"}}
    folder = stored.checkpoint(plan.parent / "copy", config, dtype="F8_E4M3")
    request = plan.with_name("copy.json")
    request.write_bytes(msgspec.json.encode(plan_of("fp8", str(folder)).request))
    words = ["--dry-run", "--original", str(plan.parent)]
    assert cli.main(["verify", str(request), *words]) == 2
    assert "has no gates" in capsys.readouterr().err
