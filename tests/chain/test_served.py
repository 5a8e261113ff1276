"""Lanes of one small model, each served by its engine from its rendered launch file, loaded, read and judged."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from planner.proving import judge_speed
from planner.proving.judge_speed import Serving
from planner.proving.receipt import ENDED_WELL, Receipt
from planner.running import runstate
from tests.chain import serving
from tests.chain.lanes import LANES, lanewise

pytestmark = pytest.mark.slow
TIMES = ("ttft_p50_s", "tpot_p50_s", "e2e_p50_s")
MEMORY = {"vllm": ("kv_pool_bytes",), "llama.cpp": ("weight_bytes", "activation_bytes", "kv_needed_bytes")}
"""Claims that the engine's own log measures here."""


def engine(receipt: Receipt) -> str:
    return receipt.engine.partition(" ")[0]


def served(name: str) -> tuple[Receipt, Serving]:
    found = serving.served(name)
    assert found.code == 0, found.err[-3000:]
    receipt = found.receipt
    assert receipt.served is not None
    return receipt, receipt.served


@pytest.mark.parametrize("name", serving.SERVED)
def test_a_lane_is_served_from_its_launch_file_and_its_receipt_is_complete(name: str) -> None:
    receipt, made = served(name)
    assert (receipt.ended, receipt.lane) == ("finished", LANES[name].lane)
    assert all(each.state in ENDED_WELL for each in receipt.steps)
    assert (made.outcome, made.because, made.elsewhere) == ("measured", "", "")
    assert (made.repeats, made.requests) == (3, 3 * serving.REQUESTS)
    assert all(re.fullmatch(r"no end within [\d.]+ s", error) for error in made.errors), "a busy machine answers late"
    assert sum(made.errors.values()) <= made.requests // 4
    assert made.output_tokens_per_s > 0
    assert made.memory_peak_bytes > 2**20
    claims = {each.name: each for each in made.claims}
    for name_ in (*MEMORY[engine(receipt)], *TIMES, "ready_s", "running_sequences"):
        assert claims[name_].measured is not None, name_
        assert claims[name_].verdict != "open", (name_, claims[name_].because)
    for time in TIMES:
        claim = claims[time]
        assert claim.measured_low is not None
        assert claim.measured_high is not None
        assert 0 < claim.measured_low <= claim.measured <= claim.measured_high
    assert [each.name for each in made.objectives] == ["ttft_p90_s", "tpot_p90_s"]
    for each in made.objectives:
        assert each.measured_s is not None
        assert each.because if each.verdict == "open" else (each.measured_s <= each.limit_s) == (each.verdict == "kept")
    assert made.sustained is not None
    assert made.sustained.trials
    assert all(each.because for each in made.claims if each.verdict != "inside")


@pytest.mark.parametrize("name", serving.SERVED)
def test_a_receipt_says_which_term_was_off_and_what_the_engine_took(name: str) -> None:
    receipt, made = served(name)
    assert made.off == judge_speed.off(made.claims)
    assert made.printed
    assert made.unread == 0
    if engine(receipt) == "vllm":
        assert made.kernels


@pytest.mark.parametrize("name", serving.SERVED)
def test_launch_file_and_weights_are_named_by_hash(name: str) -> None:
    receipt, _ = served(name)
    found = serving.served(name)
    folder = runstate.Folder(found.folder, "", runstate.State())
    step = next(each for each in receipt.steps if each.id == "served")
    assert set(step.made) == {"served/launch", "served/measured.json", "served/server.log"}
    weights = {path: made for path, made in receipt.artefacts.items() if path.startswith("candidate/")}
    assert weights
    for path, content in {**step.made, **weights}.items():
        assert folder.content(found.folder / path) == content


@pytest.mark.parametrize("name", [name for name in serving.SERVED if not LANES[name].recipe])
def test_what_was_started_is_what_the_plan_renders(name: str, tmp_path: Path) -> None:
    """`lanewise plan --out` writes for every user the files that were started here, byte for byte; the README beside
    them lists a stored plan's estimates in another order. With --recipe the weights are others than the plan's."""
    served(name)
    request = serving.plan(name).with_name(serving.plan(name).name.replace(".plan.", ".request."))
    rendered = tmp_path / "rendered"
    own = {"LANEWISE_CATALOG_DIR": str(serving.catalogue())}
    done = lanewise("plan", request, "--out", rendered, cwd=tmp_path, **own)
    assert done.returncode == 0, done.stderr
    launched = serving.served(name).folder / "served" / "launch"
    files = [path.relative_to(launched) for path in launched.rglob("*") if path.is_file() and path.suffix != ".md"]
    assert {path.name for path in files} >= {"serve.sh"}
    for path in files:
        assert (launched / path).read_bytes() == (rendered / path).read_bytes(), path
