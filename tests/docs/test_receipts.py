"""The receipts that are kept in the documentation: readable, whole, and nobody's paths in them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from planner.proving.receipt import ENDED_WELL
from planner.running import verify

FOLDER = Path(__file__).parents[2] / "docs" / "receipts"
KEPT = sorted(FOLDER.glob("*.json"))


def test_there_are_receipts_of_seven_lanes_and_more() -> None:
    assert len({verify.read(path).lane for path in KEPT}) >= 7


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_a_kept_receipt_is_whole(path: Path) -> None:
    made = verify.read(path)
    assert made.ended == "finished"
    assert all(each.state in ENDED_WELL for each in made.steps)
    assert all(re.fullmatch("[0-9a-f]{64}", content) for content in (*made.artefacts.values(), *made.data.values()))
    measured = [gate for gate in made.gates if gate.measured]
    assert measured
    assert all(check.upper is not None for gate in measured for check in gate.checks if gate.gate != "smoke")
    assert path.with_suffix(".md").exists()


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_no_path_of_a_machine_is_left(path: Path) -> None:
    for file in (path, path.with_suffix(".md")):
        assert not re.search(r"[\"' ]/(root|home|tmp|Users)/", file.read_text())
