"""Receipts say what ran, and never that something ran which did not."""

from __future__ import annotations

import json
import tempfile
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

import msgspec
import numpy as np
import pytest

from catalog.errors import BadInput, NotFound
from catalog.inventory import Host, Inventory
from planner import service
from planner.proving import receipt, recipe
from planner.proving.answers import Answer, Faults, Sampling, Side
from planner.proving.receipt import Receipt, Result, State
from planner.proving.steps import Program
from planner.running import verify
from planner.running.runner import Ran
from tests.verify.questions import question

WHEN = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
HERE = Inventory(probed_at="2026-11-21T12:00:00Z", host=Host(system="linux", machine="x86_64", cpu="`a` | b"))
STATES: tuple[State, ...] = ("done", "kept", "failed", "refused", "cancelled", "not run")


def about(asked: recipe.Asked) -> verify.Run:
    return verify.Run(question=asked, inventory=HERE, reproduce=("lanewise", "verify", "a b"), clock=lambda: WHEN)


def results(program: Program, states: dict[str, State]) -> tuple[Result, ...]:
    """Every step ended well but those that `states` names."""
    return tuple(
        Result(
            id=step.id,
            state=state,
            because="" if state in receipt.ENDED_WELL else "why",
            made=dict.fromkeys(step.makes, "0" * 64) if state in receipt.ENDED_WELL else {},
            read=dict.fromkeys(step.reads, "1" * 64),
        )
        for step in program.steps
        for state in [states.get(step.id, "done")]
    )


def written(states: dict[str, State], **ran: bool) -> tuple[Program, Receipt]:
    asked = question("gptq-int4", neutral=("/data/wiki.txt",))
    program = recipe.program(asked)
    with tempfile.TemporaryDirectory() as folder:
        for step in program.steps:
            if step.makes[0].endswith("answers.json"):
                plain_answers(Path(folder) / step.makes[0])
            elif step.makes[0].endswith("faults.json"):
                no_faults(Path(folder) / step.makes[0])
            elif step.gate:
                statistics(Path(folder) / step.makes[0])
        whole = Ran(results=results(program, states), **ran), Path(folder)
        return program, verify.receipt_of(program, about(asked), whole, WHEN)


def plain_answers(path: Path) -> None:
    """What a side answers that has no fault."""
    path.parent.mkdir(parents=True)
    said = tuple(Answer(task="smoke", item=str(place), text="yes", tokens=1, stopped="end") for place in range(20))
    made = Side(schema=1, model="m", model_sha256="0", backend="transformers", sampling=Sampling(), answers=said)
    path.write_bytes(msgspec.json.encode(made))


def no_faults(path: Path) -> None:
    """What a look into sound files finds."""
    path.parent.mkdir(parents=True)
    path.write_bytes(msgspec.json.encode(Faults(faults=())))


def statistics(path: Path) -> None:
    """What the scorer writes of two sides that say the same."""
    path.parent.mkdir(parents=True)
    same = np.full((400, 16), -2.0)
    arrays = {"base_logprob": same, "cand_logprob": same, "kl": 0 * same, "dp": 0 * same, "agrees": same < 0}
    header = np.array(json.dumps({"texts": ["a.txt", "b.txt"]}))
    np.savez(path, **arrays, broken=same > 0, text=np.repeat([0, 1], 200), header=header)


@pytest.mark.parametrize(("one", "two"), list(product(STATES, STATES)))
def test_a_gate_is_measured_only_where_all_its_steps_ended_well(one: State, two: State) -> None:
    program, made = written({"compare-own-512": one, "compare-neutral-512": two})
    found = {gate.gate: gate for gate in made.gates}
    well = one in receipt.ENDED_WELL and two in receipt.ENDED_WELL
    for gate, run in program.measures.items():
        expected = well or run != "kld_mean@512"
        assert found[gate].measured == expected
        assert (found[gate].verdict == "pass") == expected
    assert {gate for gate, each in found.items() if not each.measured} == {each.gate for each in made.not_tested}
    for gate in found.values():
        assert set(gate.by) <= {each.id for each in made.steps if each.state in receipt.ENDED_WELL}


def test_gates_that_no_step_measures_are_never_measured() -> None:
    _, made = written({})
    tasks = [gate for gate in made.gates if gate.gate in ("task:chat", "flip_rate")]
    assert len(tasks) == 2
    assert not any(gate.measured for gate in tasks)
    assert all("--task FILE" in gate.because for gate in tasks)
    _, unseen = written({"inspect": "failed"})
    assert [gate.verdict for gate in unseen.gates if gate.gate == "smoke"] == ["inconclusive"]
    _, none = written({"answers-smoke-candidate": "failed"})
    (smoke,) = (gate for gate in none.gates if gate.gate == "smoke")
    assert (smoke.measured, smoke.verdict) == (False, "inconclusive")


def test_weights_and_data_of_steps_that_did_not_end_are_not_in_it() -> None:
    _, made = written({"candidate": "failed", "tokens-own-512": "refused"})
    assert not any(path.startswith("candidate/") for path in made.artefacts)
    assert any(path.startswith("original/") for path in made.artefacts)
    _, none = written(dict.fromkeys([step.id for step in recipe.program(question("gptq-int4")).steps], "not run"))
    assert none.artefacts == {}
    assert none.ended == "finished" or not any(gate.measured for gate in none.gates)


@pytest.mark.parametrize(
    ("states", "ran", "ended"),
    [
        ({}, {}, "finished"),
        ({"candidate": "failed"}, {}, "failed"),
        ({"candidate": "refused"}, {}, "failed"),
        ({"candidate": "cancelled"}, {"cancelled": True}, "cancelled"),
        ({"compare-own-2048": "not run"}, {"late": True}, "out of budget"),
        ({"compare-own-2048": "not run"}, {"late": True, "decided": True}, "decided"),
    ],
)
def test_how_a_run_ended(states: dict[str, State], ran: dict[str, bool], ended: str) -> None:
    assert written(states, **ran)[1].ended == ended


def test_a_receipt_survives_its_document_and_its_page_holds_every_gate(tmp_path: Path) -> None:
    _, made = written({"candidate": "failed"})
    path = tmp_path / "x" / verify.RECEIPT
    path.parent.mkdir()
    path.write_bytes(service.encode(made))
    ((found, read),) = verify.receipts(tmp_path)
    assert found == path
    assert service.encode(read) == service.encode(made)
    page = verify.page(made).decode()
    for gate in made.gates:
        assert gate.gate.replace("_", "\\_") in page
    for step in made.steps:
        assert f"| {step.id} | {step.state} |" in page
    assert r"\`a\` \| b" in page
    assert "lanewise verify 'a b'" in page


def test_folders_without_receipts_and_broken_ones_are_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="lanewise verify"):
        verify.receipts(tmp_path / "none")
    assert verify.receipts(tmp_path) == ()
    (tmp_path / verify.RECEIPT).write_text('{"schema": 1}')
    with pytest.raises(BadInput, match="not a receipt of this version"):
        verify.receipts(tmp_path)


def test_receipts_are_strict() -> None:
    _, made = written({})
    document = msgspec.json.decode(service.encode(made))
    document["judge"] = "somebody"
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(document, Receipt)
