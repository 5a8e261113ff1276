"""How long a replica takes until it serves: laws, and published start-up times."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.errors import BadInput
from planner import explain, readiness
from planner.plan import Candidate, Estimate
from planner.readiness import Starting
from planner.trace import Num
from tests.plan.asking import ask, catalog, device, planned

MODEL = "meta-llama/Llama-3.1-8B-Instruct"
LOGS = list(csv.DictReader((Path(__file__).parent / "startup_logs.csv").read_text().splitlines()))
VLLM = catalog().engine("vllm", "0.33")


def chosen(name: str = "l40s", model: str = MODEL, hardware: dict[str, Any] | None = None, **more: Any) -> Candidate:
    given = {"accelerators": [device(name, 8)], **(hardware or {})}
    plan = planned(ask(model, hardware=given, **more))
    assert plan.choice is not None, plan.refused
    return plan.choice


def ready(candidate: Candidate) -> tuple[Estimate, Estimate]:
    return candidate.estimates["ready_s"], candidate.estimates["ready_cold_s"]


STARTS = st.builds(
    Starting,
    **{
        name: st.floats(1e8, 1e12) if name.endswith("_bytes") else st.floats(1e8, 1e11)
        for name in ("fetched_bytes", "file_bytes", "device_bytes", "network", "disk", "copy")
    },
    **{name: st.floats(1.0, 100.0) for name in ("layers", "graphs", "process", "profile")},
    **{name: st.floats(0.0, 0.1) for name in ("cached", "capture")},
    compile=st.floats(0.1, 2.0),
)


@settings(max_examples=60, deadline=None)
@given(STARTS)
def test_a_cold_start_is_a_warm_one_and_more(start: Starting[float]) -> None:
    assert readiness.cold_s(start) >= readiness.warm_s(start) >= start.process + start.file_bytes / start.disk


@settings(max_examples=60, deadline=None)
@given(STARTS, st.sampled_from(["network", "disk", "copy"]), st.floats(1.1, 9.0))
def test_nothing_that_is_faster_makes_it_later(start: Starting[float], name: str, more: float) -> None:
    better = Starting(**{f: getattr(start, f) * (more if f == name else 1) for f in Starting.__dataclass_fields__})
    assert readiness.cold_s(better) <= readiness.cold_s(start)
    assert readiness.warm_s(better) <= readiness.warm_s(start)


@settings(max_examples=30, deadline=None)
@given(STARTS)
def test_traced_numbers_say_the_same_and_keep_their_units(start: Starting[float]) -> None:
    told = Starting(
        **{
            name: Num(getattr(start, name), readiness.UNITS.get(name, {"s": 1}), name=name, source="a test")
            for name in Starting.__dataclass_fields__
        }
    )
    assert float(readiness.cold_s(told)) == pytest.approx(readiness.cold_s(start))
    assert dict(readiness.warm_s(told).unit) == {"s": 1}


def test_vllm_captures_the_graphs_that_it_logs() -> None:
    assert readiness.graphs(VLLM, 256) == 51 + 35  # "PIECEWISE=51 (largest=512), FULL=35 (largest=256)"
    assert readiness.graphs(VLLM, 1024) == 51 + 51
    assert readiness.graphs(catalog().engine("llama.cpp"), 4) == 0


def test_a_machine_without_a_way_to_the_hub_downloads_nothing() -> None:
    fields = {"hardware": {"network_gbit_per_s": 1.0, "disk_gib_per_s": 1.0}, "lanes": ["bf16"]}
    warm, cold = ready(chosen(**fields))
    warm_inside, cold_inside = ready(chosen(air_gapped=True, **fields))
    assert warm_inside.value == warm.value
    assert cold.value - cold_inside.value == pytest.approx(16.06e9 / (1e9 / 8), rel=0.01)


def test_weights_quantized_while_loading_are_read_in_sixteen_bits() -> None:
    merged = {"qps": 1.0, "lora": {"merged": True}}
    online = chosen(lanes=["fp8"], model="mistralai/Mistral-7B-Instruct-v0.3", workload=merged)
    plain = chosen(lanes=["bf16"], model="mistralai/Mistral-7B-Instruct-v0.3", workload=merged)
    assert online.recipe.online
    assert ready(online)[0].value == pytest.approx(ready(plain)[0].value, rel=0.1)


def test_what_is_stated_is_not_assumed_and_narrows_the_interval() -> None:
    guessed, stated = ready(chosen()), ready(chosen(hardware={"network_gbit_per_s": 2.0, "disk_gib_per_s": 1.0}))
    assert guessed[1].value == stated[1].value
    assert (guessed[1].basis, stated[1].basis) == ("assumed", "published")
    assert stated[1].high - stated[1].low < guessed[1].high - guessed[1].low
    paths = [each.path for each in planned(ask(MODEL, device("l40s"))).assumptions]
    assert {"hardware.network_gbit_per_s", "hardware.disk_gib_per_s"} <= set(paths)


def test_the_derivation_ends_where_the_estimate_does() -> None:
    plan = planned(ask(MODEL, device("l40s")))
    assert plan.choice is not None
    steps = {step.name: step for step in plan.derivation}
    for name in ("ready_s", "ready_cold_s"):
        assert steps[name].value == pytest.approx(plan.choice.estimates[name].value, rel=1e-5)
    assert "vllm issue" in str(steps["start_process"].source)
    assert explain.unit_of("ready_s") == {"s": 1}


@pytest.mark.parametrize("name", ["network_gbit_per_s", "disk_gib_per_s"])
def test_a_rate_of_nothing_is_refused_by_its_path(name: str) -> None:
    with pytest.raises(BadInput, match="a rate above 0"):
        ask(MODEL, hardware={"accelerators": [device("l40s")], name: 0})


def part(log: dict[str, str], name: str) -> tuple[float, float, float]:
    """(low, value, high) of a part for the published start."""
    row = next(
        row
        for row in VLLM.starts
        if row.part == name and not row.on.kinds and row.exists(log["version"] if name == "cached" else "0.33")
    )
    layers, graphs = float(log["layers"] or 1), float(log["graphs"] or 1)
    size = {"process": 1.0, "copy": float(log["gib"] or 1), "profile": 1.0, "capture": layers * graphs}.get(
        name, layers
    )
    return row.low * size, row.value * size, row.high * size


def test_published_starts_lie_within_the_intervals() -> None:
    """The constants were read off this very table, so this says that they hold it, not that they foresee."""
    inside = []
    for log in LOGS:
        low, _, high = part(log, log["part"])
        measured = float(log["seconds"])
        inside.append(low * 0.99 <= measured <= high * 1.01)
        assert low / 2 <= measured <= high * 2, log
    assert sum(inside) / len(inside) >= 0.8


def test_the_values_are_in_the_middle_of_what_is_published() -> None:
    for name in {log["part"] for log in LOGS}:
        ratios = [math.log(float(log["seconds"]) / part(log, name)[1]) for log in LOGS if log["part"] == name]
        assert abs(sorted(ratios)[len(ratios) // 2]) < 0.45, name
