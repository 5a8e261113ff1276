"""Every representative candidate's launch files, byte for byte. `make golden` rewrites them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from planner import resources
from planner.launch import TARGETS
from planner.render import files, write
from tests.launch.candidates import CASES, REASONS, facts

GOLDEN = Path(__file__).parent.parent / "golden" / "launch"


@pytest.mark.parametrize("name", CASES)
def test_launch_files_are_the_golden_ones(name: str) -> None:
    case = CASES[name]
    rendered = files(case.candidate, facts(case.candidate), case.options, REASONS)
    if os.environ.get("LANEWISE_GOLDEN") == "write":
        write(GOLDEN / name, rendered)
    for file, content in rendered:
        assert content.decode() == (GOLDEN / name / file.target / file.name).read_text(), file.name


def test_no_golden_file_is_left_over() -> None:
    expected = {
        f"{name}/{file.target}/{file.name}"
        for name, case in CASES.items()
        for file, _ in files(case.candidate, facts(case.candidate), case.options, REASONS)
    }
    assert {str(path.relative_to(GOLDEN)) for path in GOLDEN.rglob("*") if path.is_file()} == expected


def test_every_target_is_a_folder_of_templates() -> None:
    folders = {path.name for path in resources.templates().iterdir() if path.name in {t.name for t in TARGETS}}
    assert folders == {target.name for target in TARGETS}
    for target in TARGETS:
        templates = {path.name.removesuffix(".j2") for path in (resources.templates() / target.name).iterdir()}
        assert templates == set(target.files)


def test_same_input_gives_the_same_bytes() -> None:
    case = CASES["fp8-h100-tp2"]
    once, again = (files(case.candidate, facts(case.candidate), case.options, REASONS) for _ in range(2))
    assert once == again


def test_scripts_alone_are_executable(tmp_path: Path) -> None:
    case = CASES["awq-a10g"]
    paths = write(tmp_path, files(case.candidate, facts(case.candidate), case.options))
    assert {path.name for path in paths if path.stat().st_mode & 0o111} == {"serve.sh"}
