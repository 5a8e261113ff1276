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


@pytest.mark.parametrize("name", ["fp8", "int8-w8a8", "gptq-int4", "awq-int4", "gguf-Q8_0", "gguf-Q4_K_M"])
def test_six_lanes_were_served_and_judged(name: str) -> None:
    """On the CPU that they were planned for: claims have verdicts, the launch file and the answers have hashes."""
    made = verify.read(FOLDER / f"{name}.json")
    served = made.served
    assert served is not None
    assert (served.outcome, served.elsewhere) == ("measured", "")
    claims = {claim.name: claim for claim in served.claims}
    for claim in ("ready_s", "ttft_p50_s", "tpot_p50_s", "e2e_p50_s", "running_sequences"):
        assert claims[claim].verdict != "open", claim
    assert any(claim.group == "memory" and claim.verdict != "open" for claim in served.claims)
    assert served.sustained is not None
    step = next(each for each in made.steps if each.id == "served")
    assert {"served/launch", "served/measured.json", "served/server.log"} <= step.made.keys()


def test_a_lane_without_a_kernel_on_cpus_says_so() -> None:
    served = verify.read(FOLDER / "nvfp4.json").served
    assert served is not None
    assert served.outcome == "not possible here"


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_no_path_of_a_machine_is_left(path: Path) -> None:
    for file in (path, path.with_suffix(".md")):
        assert not re.search(r"[\"'` =(]/[\w.]+/", file.read_text())
