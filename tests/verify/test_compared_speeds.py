"""Speeds in the table of lanes: those that serving measured, else the plan's, never mixed up."""

from __future__ import annotations

import itertools
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from planner.plan import Candidate
from planner.proving import compared
from planner.proving.compared import Comparison, Lane, Span
from planner.proving.judge_speed import Claim, Serving
from planner.proving.served import Sustained
from planner.running import compared_drawing, compared_report
from tests.verify.questions import MODEL, plan_of
from tests.verify.test_compared import LANES, lane
from tests.verify.test_receipt import written

PACES = (0.004, 0.002, 0.009, 0.003)
SIZES = st.integers(min_value=1, max_value=9)


def paced(found: Lane, seconds: float) -> Lane:
    span = Span(value=seconds, low=seconds / 2, high=seconds * 2)
    return structs.replace(found, served="measured", speeds={"tpot_p50_s": span})


SERVED = tuple(paced(each, pace) for each, pace in zip(LANES, PACES, strict=True))


def claim(name: str, measured: float | None) -> Claim:
    low, high = (None, None) if measured is None else (measured * 0.9, measured * 1.1)
    return Claim(
        name=name, group="latency", unit="s", predicted=1.0, low=0.5, high=2.0, basis="fitted", measured=measured,
        measured_low=low, measured_high=high, verdict="open",
    )  # fmt: skip


def proved(**served: Any) -> Lane:
    _, receipt = written({})
    candidate = plan_of("gptq-int4").choice
    assert isinstance(candidate, Candidate)
    made = Serving(**({"outcome": "measured"} | served))
    return compared.proved(candidate, structs.replace(receipt, served=made), 1.0, "x")


def test_a_row_has_the_speeds_of_its_receipt() -> None:
    row = proved(
        claims=(claim("ttft_p50_s", 0.2), claim("tpot_p50_s", 0.02), claim("e2e_p50_s", 2.0), claim("ready_s", 3.0)),
        output_tokens_per_s=80.0, output_tokens_per_s_low=70.0, output_tokens_per_s_high=90.0, elsewhere="planned on a",
        sustained=Sustained(at_least=4.0, below=4.4, trials=()),
    )  # fmt: skip
    assert row.speeds == {
        "ttft_p50_s": Span(value=0.2, low=pytest.approx(0.18), high=pytest.approx(0.22)),  # type: ignore[arg-type]
        "tpot_p50_s": Span(value=0.02, low=pytest.approx(0.018), high=pytest.approx(0.022)),  # type: ignore[arg-type]
        "output_tokens_per_s": Span(value=80.0, low=70.0, high=90.0),
        "requests_per_s_max": Span(value=4.0, low=4.0, high=4.4),
    }
    assert (row.served, row.elsewhere) == ("measured", "planned on a")


def test_what_was_not_measured_is_no_speed() -> None:
    assert proved(claims=(claim("tpot_p50_s", None),)).speeds == {}
    open_end = proved(sustained=Sustained(at_least=None, below=2.0, trials=()))
    assert open_end.speeds == {"requests_per_s_max": Span(value=2.0, low=None, high=2.0)}
    refused = proved(outcome="not possible here", because="no kernel")
    assert (refused.served, refused.unserved, refused.speeds) == ("not possible here", "no kernel", {})


@given(st.lists(st.tuples(SIZES, SIZES, SIZES), max_size=10))
def test_the_front_of_three_is_what_nothing_beats(points: list[tuple[int, int, int]]) -> None:
    lanes = [paced(lane(str(at), size, loss), time) for at, (size, loss, time) in enumerate(points)]
    kept = {int(name) for name in compared.front(lanes)}
    for at, own in enumerate(points):
        beaten = any(other != own and all(a <= b for a, b in zip(other, own, strict=True)) for other in points)
        assert (at in kept) == (not beaten)


@given(st.lists(st.tuples(SIZES, SIZES, SIZES), min_size=1, max_size=8), st.data())
def test_one_lane_without_a_speed_leaves_speeds_out(points: list[tuple[int, int, int]], data: st.DataObject) -> None:
    """Else a lane that was not served would win or lose by a number that nobody measured."""
    lanes = [paced(lane(str(at), size, loss), time) for at, (size, loss, time) in enumerate(points)]
    without = data.draw(st.integers(0, len(lanes) - 1))
    bare = [structs.replace(each, speeds={}) for each in lanes]
    mixed = [*lanes[:without], bare[without], *lanes[without + 1 :]]
    assert compared.front(mixed) == compared.front(bare)
    assert not compared.paced(mixed)


def printed(lanes: tuple[Lane, ...], capsys: pytest.CaptureFixture[str]) -> str:
    compared_report.show(Comparison(plan_id="0", model=MODEL, lanes=lanes, refused={}), "")
    return capsys.readouterr().out


def test_the_table_calls_what_was_planned_an_estimate(capsys: pytest.CaptureFixture[str]) -> None:
    candidate = plan_of("gptq-int4").choice
    assert candidate is not None
    row = compared.planned(candidate)
    planned = printed((row,), capsys)
    assert planned.count("est.") == 1 + len(compared_report.SPEEDS)
    spans = {
        "ttft_p50_s": Span(value=0.21, low=0.2, high=0.22), "tpot_p50_s": Span(value=0.01234, low=0.012, high=0.013),
        "requests_per_s_max": Span(value=4.0, low=4.0, high=None),
    }  # fmt: skip
    served = structs.replace(row, served="measured", speeds=spans, elsewhere="planned on a, served on b")
    text = " ".join(printed((served,), capsys).split())
    assert text.count("est.") == 1, "only where the columns are explained"
    for cell in ("210 (200 to 220)", "12.3 (12 to 13)", "at least 4", "not of one machine: planned on a, served on b"):
        assert all(word in text for word in cell.split()), cell


def test_a_lane_that_was_not_served_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    row = proved(outcome="not possible here", because="no kernel of it")
    assert "gptq-int4: served: not possible here: no kernel of it" in printed((row,), capsys)


def test_speeds_are_drawn_where_every_lane_has_one(capsys: pytest.CaptureFixture[str]) -> None:
    both, one = printed(SERVED, capsys), printed((*SERVED[:3], LANES[3]), capsys)
    assert both.count("KL nat\n") == 2 > one.count("KL nat\n")
    assert "ms a token" in both
    assert "ms a token" not in one
    assert "smaller, nearer and faster" in both


def test_the_svg_has_a_panel_for_speed_where_every_lane_has_one() -> None:
    texts = []
    for lanes in (SERVED, (*SERVED[:3], LANES[3])):
        svg = compared_drawing.svg(Comparison(plan_id="0", model=MODEL, lanes=lanes, refused={}))
        assert svg is not None
        texts.append(" ".join(ElementTree.fromstring(svg).itertext()))
    assert "ms per output token" in texts[0]
    assert "ms per output token" not in texts[1]
    for each, pace in zip(LANES, PACES, strict=True):
        assert (
            f"{each.lane}: {each.bytes / 2**20:.3g} MiB, {pace * 1000:g} ms a token" in texts[0] or each.bytes is None
        )


def test_a_panel_joins_what_nothing_in_it_beats() -> None:
    points = [found for each in SERVED if (found := compared.pace(each)) is not None]
    kept = sorted(own for own in points if not any(compared.beats(other, own) for other in points))
    assert kept == sorted(kept, key=lambda each: -each[1])
    assert all(a[0] < b[0] and a[1] > b[1] for a, b in itertools.pairwise(kept))
