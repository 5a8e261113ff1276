"""What lanes come to when all is given that their plans ask for: a pass, a failure, or a number that is missing."""

from __future__ import annotations

import pytest

from planner.proving.receipt import GateResult
from tests.chain import given, world
from tests.chain.lanes import LANES, run

pytestmark = pytest.mark.slow
TASKS = ("task:chat", "task:summarization")
FEW = 20


def further(gate: GateResult) -> int:
    """Items that are missing."""
    return max(each.further or 0 for each in gate.checks)


@pytest.mark.parametrize("name", ["gguf-Q8_0", "fp8", "int8-w8a8"])
def test_eight_bits_pass(name: str) -> None:
    found = world.verified(name)
    receipt = found.receipt
    assert (found.code, receipt.verdict) == (0, "pass"), receipt.because
    gates = {each.gate: each for each in receipt.gates}
    assert all(gates[task].verdict == "pass" for task in (*TASKS, "smoke", "flip_rate"))
    check = gates["task:chat"].checks[0]
    assert check.lower >= check.limit


def test_two_bits_do_not_pass() -> None:
    """They fail, or the receipt says how many items more would decide."""
    found = world.verified("gguf-Q2_K")
    receipt = found.receipt
    assert receipt.verdict in ("fail", "inconclusive")
    assert found.code == (3 if receipt.verdict == "fail" else 0)
    open_ = [each for each in receipt.gates if each.gate in TASKS and each.verdict != "pass"]
    assert open_
    assert all(each.verdict == "fail" or further(each) > 0 for each in open_)
    screens = {each.gate.partition("@")[0]: each.verdict for each in receipt.gates if not each.decides}
    assert screens["kld_mean"] == "fail"


@pytest.mark.parametrize("name", LANES)
def test_verdicts_follow_from_the_gates_that_decide(name: str) -> None:
    receipt = world.verified(name).receipt
    deciders = [each.verdict for each in receipt.gates if each.decides]
    assert all(each.measured for each in receipt.gates if each.decides)
    wanted = "fail" if "fail" in deciders else "pass" if set(deciders) == {"pass"} else "inconclusive"
    assert receipt.verdict == wanted


def test_few_items_are_inconclusive_with_a_number() -> None:
    """Twenty items resolve no two points, and the receipt says how many more would."""
    world.verified("gguf-Q4_K_M")
    task = given.items(world.model().held_out, world.folder() / "few.jsonl", FEW)
    found = run(
        world.plan("gguf-Q4_K_M"), world.folder() / "few", "--text", world.model().held_out, "--task", task,
        "--calibration", world.model().chats, "--reuse", world.folder() / "runs",
    )  # fmt: skip
    assert found.code == 0, found.err[-2000:]
    gates = {each.gate: each for each in found.receipt.gates}
    assert gates["task:chat"].verdict == "inconclusive"
    assert further(gates["task:chat"]) > FEW
    assert found.receipt.verdict == "inconclusive"
