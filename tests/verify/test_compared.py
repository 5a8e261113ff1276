"""Lanes of one request side by side: rows are what receipts hold, and the front is what nothing beats."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.errors import BadInput, NotFound
from planner import cli
from planner.plan import Plan
from planner.proving import compared
from planner.proving.checks import Check
from planner.proving.compared import Comparison, Lane
from planner.proving.loading import SERVED
from planner.proving.receipt import Receipt
from planner.proving.steps import Program
from planner.running import compared_drawing, compared_report, comparing, verify
from tests.verify.questions import MODEL, OWN, plan_of
from tests.verify.test_receipt import written

SIZES = st.integers(min_value=1, max_value=40)


def lane(name: str, size: float | None, loss: float | None) -> Lane:
    check = None if loss is None else divergence(loss)
    return Lane(lane=name, engine="vllm 0", recipe="x", ended="finished", verdict="pass", bytes=size, divergence=check)


def divergence(value: float, on: str = "") -> Check:
    return Check(
        text=on, statistic="kld_mean", unit="nat", value=value, lower=value / 2, upper=value * 2, relation="<=",
        limit=1.0, samples=100, samples_of="windows", verdict="pass", because="",
    )  # fmt: skip


@given(st.lists(st.tuples(SIZES, SIZES), max_size=12))
def test_the_front_is_what_nothing_beats(points: list[tuple[int, int]]) -> None:
    lanes = [lane(str(place), size, loss) for place, (size, loss) in enumerate(points)]
    kept = compared.front(lanes)
    by_name = {each.lane: point for each, point in zip(lanes, points, strict=True)}
    for name, (size, loss) in by_name.items():
        beaten = any((a <= size and b <= loss) and (a, b) != (size, loss) for a, b in points)
        assert (name in kept) == (not beaten)
    placed = [by_name[name] for name in kept]
    assert all(one[0] <= other[0] and one[1] >= other[1] for one, other in pairwise(placed))


def test_lanes_that_were_not_measured_are_on_no_front() -> None:
    lanes = (lane("a", 5.0, 0.1), lane("b", None, 0.1), lane("c", 4.0, None))
    assert compared.front(lanes) == ("a",)


def test_a_row_holds_what_its_receipt_holds() -> None:
    _, receipt = written({})
    candidate = plan_of("gptq-int4").choice
    assert candidate is not None
    row = compared.proved(candidate, receipt, 123.0, "gptq-int4/receipt.json")
    checks = [check for gate in receipt.gates for check in gate.checks if check.statistic == "kld_mean"]
    assert row.divergence in checks
    assert row.divergence.value == max(check.value for check in checks if check.value is not None)
    assert (row.verdict, row.ended, row.bytes) == (receipt.verdict, receipt.ended, 123.0)
    assert row.planned["weight_bytes"] == candidate.estimates["weight_bytes"]


def test_numbers_of_steps_that_did_not_run_are_not_shown() -> None:
    program, _ = written({})
    states = {step.id: "failed" for step in program.steps if step.gate}
    _, receipt = written(states)  # type: ignore[arg-type]
    candidate = plan_of("gptq-int4").choice
    assert candidate is not None
    assert compared.proved(candidate, receipt, None, "").divergence is None


def test_every_lane_is_planned_alone_and_refused_with_its_rule() -> None:
    plan = plan_of("fp8")
    plans, refused = comparing.planned(plan, ("fp8", "mxfp4", "gguf:Q8_0"), OWN)
    assert {name: found.choice.lane for name, found in plans.items() if found.choice} == {"fp8": "fp8"}
    assert refused["mxfp4"].startswith("Q")
    assert set(refused) == {"mxfp4", "gguf:Q8_0"}
    assert plans["fp8"].request | {"lanes": None} == plan.request | {"lanes": None}


def test_an_unknown_lane_is_named() -> None:
    with pytest.raises(BadInput, match="no lane is called fp7"):
        comparing.lanes_of("fp8, fp7")
    assert comparing.lanes_of(" fp8,gguf:Q2_K ") == ("fp8", "gguf:Q2_K")


def test_a_lane_that_cannot_be_run_takes_no_other_with_it(tmp_path: Path) -> None:
    plan = plan_of("gptq-int4")
    found = {name: plan_of(name) for name in ("gptq-int4", "fp8", "int8-w8a8")}
    ran: list[str] = []
    _, receipt = written({})

    def prove(each: Plan, folder: Path) -> Receipt:
        assert each.choice is not None
        ran.append(folder.name)
        if each.choice.lane == "fp8":
            raise NotFound("llm-compressor is not installed")
        made = folder / "candidate" / "model"
        made.mkdir(parents=True)
        (made / "model.safetensors").write_bytes(b"0" * 700)
        (made / "tokenizer.json").write_bytes(b"0" * 50)
        return msgspec.structs.replace(receipt, lane=each.choice.lane)

    made = comparing.run(plan, (found, {"mxfp4": "Q201: x"}), tmp_path, prove)
    assert ran == ["gptq-int4", "fp8", "int8-w8a8"]
    rows = {row.lane: row for row in made.lanes}
    assert rows["fp8"].ended is None
    assert "not installed" in rows["fp8"].because
    assert rows["gptq-int4"].bytes == 700.0
    assert msgspec.json.decode((tmp_path / comparing.TABLE).read_bytes(), type=Comparison) == made


def test_a_cancelled_lane_ends_the_comparison_with_what_it_has(tmp_path: Path) -> None:
    _, receipt = written({}, cancelled=True)
    found = {name: plan_of(name) for name in ("gptq-int4", "fp8")}
    made = comparing.run(plan_of("fp8"), (found, {}), tmp_path, lambda *_: receipt)
    assert [row.ended for row in made.lanes] == ["cancelled", None]


LANES = (
    lane("fp8", 160e6, 0.03),
    lane("int8-w8a8", 160e6, 0.013),
    lane("w4a16", 111e6, 0.25),
    lane("gguf:Q8_0", 140e6, 0.004),
)


def test_the_drawing_has_every_measured_lane_in_its_place() -> None:
    lines = compared_report.drawn(LANES).splitlines()
    place = {each.lane: next(row for row, line in enumerate(lines) if each.lane in line) for each in LANES}
    assert place["w4a16"] < place["fp8"] < place["int8-w8a8"] < place["gguf:Q8_0"]
    assert max(map(len, lines)) <= compared_report.WIDTH + 10
    assert compared_report.drawn(LANES[:1]) == ""


def test_the_svg_says_in_words_what_it_draws() -> None:
    made = Comparison(plan_id="0", model=MODEL, lanes=LANES, refused={})
    svg = compared_drawing.svg(made)
    assert svg is not None
    assert svg == compared_drawing.svg(made)
    text = " ".join(ElementTree.fromstring(svg).itertext())
    assert all(each.lane in text for each in LANES)
    alone = msgspec.structs.replace(made, lanes=LANES[:1])
    assert compared_drawing.svg(alone) is None


def test_what_is_asked_of_serving_is_asked_of_every_lane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--serve` with `--all-lanes`: each lane's program ends with its load."""
    asked: dict[str, tuple[str, ...]] = {}

    def run(steps: Program, about: verify.Run, *_: object) -> Receipt:
        asked[steps.lane] = tuple(step.id for step in steps.steps)
        assert about.served is not None
        return written({})[1]

    monkeypatch.setattr(verify, "run", run)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "plan.json"
    path.write_bytes(msgspec.json.encode(plan_of("fp8")))
    assert cli.main(["verify", str(path), "--all-lanes", "fp8,int8-w8a8", "--serve"]) == 0
    assert set(asked) == {"fp8", "int8-w8a8"}
    assert all(steps[-1] == SERVED for steps in asked.values())
