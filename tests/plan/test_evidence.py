"""A question of the evidence: filters compose, the estimate is the plan's, and what is shown is what was measured."""

from __future__ import annotations

import io
import math
from statistics import median
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from catalog import measurement
from catalog.errors import BadInput
from catalog.evidence import METRICS, TASK_FAMILIES, Evidence
from catalog.load import Catalog, load
from planner import evidence, evidence_report, search
from planner.evidence import Answer
from planner.lanes import BY_ID
from planner.quality import PROXIES
from planner.request import Request

CATALOG = load()
EVERY = evidence.MOST_ROWS
FULL: dict[str, Any] = {"lane": "awq-int4", "task": "code", "size": "8B"}


def ask(catalog: Catalog = CATALOG, **question: Any) -> Answer:
    return evidence.answer(evidence.question(catalog, **question), catalog)


def ids(**question: Any) -> list[str]:
    return [row.id for row in ask(limit=EVERY, **question).rows]


def own(quantized: float, **changes: Any) -> tuple[Evidence, ...]:
    """A measurement of one's own: of awq-int4 on Qwen3-8B, in code."""
    stated: dict[str, Any] = {"model": "Qwen/Qwen3-8B", "lane": "awq-int4", "task": "own", "task_family": "code"}
    return measurement.read_json(
        msgspec.json.encode(stated | {"baseline": 80, "quantized": quantized} | changes), CATALOG
    )


FILTERS: dict[str, st.SearchStrategy[Any]] = {
    "lane": st.sampled_from(["fp8", "gptq-int4", "nvfp4", "kv:fp8", "gguf:Q4_K_M"]),
    "task": st.sampled_from(["code", "rag", "long_context", "ppl", "tool_use"]),
    "size": st.sampled_from(["8B", "70e9", "0.5b"]),
    "context": st.sampled_from(["2048", "32k", "128k"]),
    "model": st.sampled_from(["llama", "Qwen/Qwen3-8B", "meta-llama/Llama-3.1-8B-Instruct"]),
    "recipe": st.sampled_from(["gptq", "qat", "fp8-dynamic"]),
    "source": st.sampled_from(["RedHatAI", "github.com", "vllm"]),
    "own": st.just(True),
}
QUESTION = st.fixed_dictionaries({}, optional=FILTERS).filter(
    lambda asked: not {"lane", "task", "size"} <= asked.keys()
)


@settings(deadline=None, max_examples=150)
@given(QUESTION, QUESTION)
def test_filters_compose(first: dict[str, Any], second: dict[str, Any]) -> None:
    """What passes several filters passes each of them, and nothing else does; the order stays."""
    together = first | second
    if {"lane", "task", "size"} <= together.keys():
        return
    apart = [set(ids(**{name: value})) for name, value in together.items()]
    assert ids(**together) == [key for key in ids() if all(key in found for found in apart)]


def test_without_a_filter_every_row_is_there_and_a_limit_cuts_the_list_alone() -> None:
    assert ids() == [row.id for row in CATALOG.evidence]
    cut, whole = ask(source="RedHatAI", limit=3), ask(source="RedHatAI", limit=EVERY)
    assert (cut.rows, cut.total, cut.sources) == (whole.rows[:3], whole.total, whole.sources)


@pytest.mark.parametrize("question", [{"task": "math"}, {"lane": "nvfp4"}, {"model": "Qwen"}, FULL])
def test_sources_sum_up_the_rows_that_count(question: dict[str, Any]) -> None:
    found = ask(limit=EVERY, **question)
    counted = [row for row in found.rows if row.grade != "C" and row.recovery is not None]
    assert sum(source.rows for source in found.sources) == len(counted)
    for source in found.sources:
        recoveries = [row.recovery for row in counted if row.citation == source.citation if row.recovery is not None]
        assert (source.low, source.high) == (min(recoveries), max(recoveries))
        assert source.median == pytest.approx(median(recoveries), abs=0.005)


@pytest.mark.parametrize("lane", ["fp8", "int8-w8a8", "awq-int4", "gptq-int4", "nvfp4"])
@pytest.mark.parametrize("task", ["code", "rag", "long_context"])
def test_the_nearest_rows_are_of_the_lane_and_its_kin(lane: str, task: str) -> None:
    found = ask(lane=lane, task=task, size="8B", limit=EVERY)
    kin = {"awq-int4", "gptq-int4", "w4a16"} if lane.endswith("int4") else {lane}
    assert {row.lane for row in found.rows} <= kin
    assert [row.id for row in found.rows if row.recovery is None or row.grade == "C"] == []
    if "of any task" not in found.selection:
        assert {row.task_family for row in found.rows} <= {task, PROXIES.get(task)}
        assert len(found.sources) >= evidence.ENOUGH


def test_the_search_is_widened_no_farther_than_two_sources_demand() -> None:
    for lane in ("fp8", "awq-int4", "nvfp4"):
        for size in ("0.5B", "8B", "400B"):
            found = ask(lane=lane, task="code", size=size, limit=EVERY)
            reach = next(each for each in evidence.REACHES if each.words == found.selection)
            narrower = evidence.REACHES[: evidence.REACHES.index(reach)]
            asked = evidence.question(CATALOG, lane=lane, task="code", size=size)
            able = [
                row
                for row in CATALOG.evidence
                if row.lane in evidence._kin(lane) and row.counts and row.recovery is not None
            ]
            for less in narrower:
                assert len({row.citation for row in able if evidence._within(asked, row, less)}) < evidence.ENOUGH
            for row in found.rows:
                assert abs(math.log2((row.params or 0) / (asked.size or 0))) <= math.log2(reach.size)


@pytest.mark.parametrize("lane", ["w4a16", "fp8", "int8-w8a8"])
@pytest.mark.parametrize("task", ["code", "knowledge", "rag"])
def test_the_estimate_is_the_one_that_plans_are_made_with(lane: str, task: str) -> None:
    model = "meta-llama/Llama-3.1-8B-Instruct"
    document = {
        "model": model,
        "workload": {
            "qps": 0.1,
            "prompt_tokens": {"mean": 3000, "p95": 3000},
            "output_tokens": {"mean": 1096, "p95": 1096},
            "context_tokens_max": 4096,
            "mix": {task: 1.0},
        },
        "hardware": {"accelerators": [{"id": "a100-sxm4-80", "count": 2}]},
        "lanes": [lane],
        "engines": ["vllm"],
        "quality": {"max_loss_pct": 50},
    }
    plan = search.plan(msgspec.convert(document, Request), CATALOG)
    assert plan.choice is not None
    assert plan.choice.kv_cache_dtype == "auto"
    size, recipe = str(CATALOG.model(model).total_params), plan.choice.recipe.name
    found = ask(lane=lane, task=task, size=size, context="4096", model=model, recipe=recipe).estimate
    assert found is not None
    assert found.loss_pct == plan.choice.quality[task]


def test_families_without_rows_name_their_proxies() -> None:
    for task, proxy in PROXIES.items():
        found = ask(lane="fp8", task=task, size="8B")
        assert found.estimate is not None
        assert found.estimate.proxy == proxy
        assert found.estimate.unverified
        assert f"{proxy} stands in for {task}" in found.assumed[0]
        assert ids(task=task) == ids(task=proxy)


def test_every_lane_is_estimated_with_a_citation_or_an_assumption_or_says_why_not() -> None:
    for lane in evidence.lanes(CATALOG):
        for task in (*TASK_FAMILIES, *METRICS):
            found = ask(lane=lane, task=task, size="8B")
            if found.estimate is None:
                assert found.assumed[0].startswith("no estimate: ")
            else:
                assert found.estimate.citations
                assert found.estimate.loss_pct.low <= found.estimate.loss_pct.value <= found.estimate.loss_pct.high
    assert {lane for lane in evidence.lanes(CATALOG) if not lane.startswith("kv:")} == BY_ID.keys()


def test_own_rows_come_first_change_the_estimate_and_can_be_left_out() -> None:
    bare, mine = ask(**FULL), CATALOG.with_measurements(own(40.0))
    found = ask(mine, **FULL)
    assert (found.rows[0].own, found.rows[0].recovery) == (True, 50.0)
    assert found.estimate is not None
    assert bare.estimate is not None
    assert found.estimate.loss_pct.value > bare.estimate.loss_pct.value
    assert found.catalog_digest != bare.catalog_digest
    assert ask(mine.unmeasured, **FULL) == bare
    assert [row.id for row in ask(mine, own=True).rows] == [own(40.0)[0].id]


def test_a_far_context_is_judged_on_long_documents_too() -> None:
    near, far = ask(**FULL, context="16k"), ask(**FULL, context="64k")
    assert near.estimate is not None
    assert far.estimate is not None
    assert (near.estimate.family, far.estimate.family) == ("code", "long_context")
    assert far.estimate.loss_pct.value >= near.estimate.loss_pct.value


@pytest.mark.parametrize(
    ("question", "field", "known"),
    [
        ({"lane": "int4"}, "lane", "awq-int4, gptq-int4"),
        ({"task": "poetry"}, "task", "chat, code"),
        ({"size": "big"}, "size", "8B, 0.5b or 70e9"),
        ({"context": "long"}, "context", "32k or 32768"),
        ({"limit": 0}, "limit", "1 to"),
    ],
)
def test_what_is_unknown_is_refused_by_what_is_known(question: dict[str, Any], field: str, known: str) -> None:
    with pytest.raises(BadInput, match=known) as refused:
        ask(**question)
    assert refused.value.path == field


def test_names_may_be_spelled_as_people_do() -> None:
    assert ask(lane="AWQ-INT4", task="Code", size="8b", context="32K") == ask(**FULL, context="32768")
    assert ids(model="Meta-Llama-3.1-8B") == ids(model="meta-llama/Llama-3.1-8B") != []


def printed(found: Answer, width: int) -> list[str]:
    out = Console(file=io.StringIO(), width=width, highlight=False)
    evidence_report.show(found, out)
    assert isinstance(out.file, io.StringIO)
    return [line.rstrip() for line in out.file.getvalue().splitlines()]


@pytest.mark.parametrize("width", [80, 110, 200])
@pytest.mark.parametrize(
    "question", [FULL, {**FULL, "task": "rag", "context": "32k"}, {"task": "math"}, {"lane": "nf4"}, {}]
)
def test_what_is_printed_fits_and_cites_every_source(width: int, question: dict[str, Any]) -> None:
    found = ask(**question)
    lines = printed(found, width)
    assert [line for line in lines if len(line) > width] == []
    text = "".join("".join(line.split()) for line in lines)
    for row in found.rows:
        assert row.id in text
        assert "".join(row.citation.split()) in text
    for source in found.sources[: evidence_report.LINES]:
        assert "".join(source.citation.split()) in text


def bars(found: Answer, width: int) -> list[str]:
    """The drawn part of each line: the estimate's, then the sources'."""
    drawing = evidence_report.Drawing(found, width)
    numbers = evidence_report._numbers(found)
    start = width - drawing.columns
    return [line.replace("\\[", "[")[start:] for line in drawing.lines(numbers)][1:-1]


@settings(deadline=None, max_examples=40)
@given(st.integers(60, 240), st.sampled_from(["code", "math", "knowledge", "reasoning", "long_context"]))
def test_the_estimate_and_the_sources_stand_on_one_axis(width: int, task: str) -> None:
    found = ask(lane="awq-int4", task=task, size="8B")
    assert found.estimate is not None
    estimate, *sources = bars(found, width)
    middle = 100 - found.estimate.loss_pct.value
    for drawn, source in zip(sources, found.sources, strict=False):
        assert drawn.count("●") == 1
        if source.median < middle:
            assert drawn.index("●") <= estimate.index("◆")
        if source.median > middle:
            assert drawn.index("●") >= estimate.index("◆")
        ends = [drawn.index(mark) for mark in "├‹●┤›" if mark in drawn]
        assert ends == sorted(ends)


def test_an_empty_answer_says_what_to_do() -> None:
    assert "--add" in "\n".join(printed(ask(own=True), 80))
