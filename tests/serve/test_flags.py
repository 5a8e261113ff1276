"""What is asked of serving on the command line, in the words of the step."""

from __future__ import annotations

import itertools
from pathlib import Path

import msgspec
import pytest

from planner import cli, service
from planner.proving.loading import SERVED
from planner.proving.steps import Program
from tests.verify.questions import plan_of


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LANEWISE_DATA_DIR", str(tmp_path / "data"))
    path = tmp_path / "plan.json"
    path.write_bytes(service.encode(plan_of("gguf:Q8_0")))
    return path


def words(plan: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> dict[str, str]:
    """Of the step that serves."""
    assert cli.main(["verify", str(plan), "--serve-only", "--dry-run", "--json", *flags]) == 0
    program = msgspec.json.decode(capsys.readouterr().out, type=Program)
    command = next(step for step in program.steps if step.id == SERVED).command
    return dict(itertools.pairwise(command))


def test_requests_and_search_are_as_asked(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    usual = words(plan, capsys)
    assert (usual["--requests"], usual["--search-s"]) == ("30", "120")
    asked = words(plan, capsys, "--requests", "7", "--search", "0.5", "--port", "2000")
    assert (asked["--requests"], asked["--search-s"], asked["--port"]) == ("7", "30", "2000")
    assert asked["--repeats"] == usual["--repeats"] == "3"


def test_a_start_at_work_has_longer_than_one_that_is_not(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    usual = words(plan, capsys)
    assert float(usual["--longest-s"]) >= 2 * float(usual["--patience-s"]) > 0


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--serve", "--requests", "4"), "expected 5 to 100000 requests, got 4 - at `--requests`"),
        (("--requests", "10"), "it belongs to --serve or --serve-only - at `--requests`"),
        (("--serve", "--search", "-1"), "expected minutes, 0 or more, got -1 - at `--search`"),
        (("--serve", "--port", "80"), "expected a port from 1024 to 65535, got 80 - at `--port`"),
    ],
)
def test_bad_input_is_named(plan: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], says: str) -> None:
    assert cli.main(["verify", str(plan), "--dry-run", *flags]) == 2
    assert says in capsys.readouterr().err
