"""From a candidate to the engine's words: what is written, what is left out, and what is refused."""

from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import replace

from catalog.engine import Engine
from catalog.errors import BadInput, Unsupported
from planner import engines
from planner.launch import LaunchOptions, target_of
from planner.plan import Candidate, Finding, Make, Recipe, Tie
from planner.render import Reasons, files
from tests.launch.candidates import CASES, LLAMA_8B, MADE, engine, facts, llamacpp, pool, published, settings, vllm


def flags(candidate: Candidate, options: LaunchOptions) -> dict[str, object]:
    return dict(engines.launch(candidate, facts(candidate), options).settings)


def readme(candidate: Candidate, options: LaunchOptions, reasons: Reasons | None = None) -> str:
    return files(candidate, facts(candidate), options, reasons)[-1][1].decode()


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.candidate.recipe.online])
def test_quantized_checkpoints_get_no_quantization_flag(name: str) -> None:
    assert "quantization" not in flags(CASES[name].candidate, CASES[name].options)


@pytest.mark.parametrize(
    ("recipe", "flag"),
    [("fp8-dynamic", "fp8_per_channel"), ("fp8-static", "fp8_per_tensor"), ("fp8-block", "fp8_per_block")],
)
def test_online_quantization_is_spelt_as_vllm_0_33_does(recipe: str, flag: str) -> None:
    online = Recipe(name=recipe, algorithm="RTN", online=True)
    candidate = vllm("fp8", online, "cutlass-fp8", pool("h100-sxm5-80", settings(8192, 8)))
    assert flags(candidate, LaunchOptions(model=LLAMA_8B))["quantization"] == flag


def test_no_launch_writes_a_flag_that_is_gone() -> None:
    for case in CASES.values():
        gone = {row.name for row in facts(case.candidate).flags if row.until}
        assert len(gone) > 5
        launch = engines.launch(case.candidate, facts(case.candidate), case.options)
        assert not gone & {word.partition("=")[0] for word in launch.argv}


def test_a_flag_that_the_version_lacks_is_an_error_not_a_line() -> None:
    case = CASES["fp8-moe-ep-h200"]
    known = facts(case.candidate)
    without = tuple(row for row in known.flags if row.name != "--enable-expert-parallel")
    with pytest.raises(Unsupported, match=r"vllm 0\.33\.0 has no flag --enable-expert-parallel"):
        engines.launch(case.candidate, msgspec.structs.replace(known, flags=without), case.options)


def test_each_llama_server_slot_holds_the_longest_request() -> None:
    for length, slots in ((8192, 4), (16000, 3), (1, 1)):
        candidate = llamacpp("gguf:Q8_0", "ggml-cuda", pool("rtx4090", settings(length, slots)))
        written = flags(candidate, LaunchOptions(model="m.gguf"))
        context = written["ctx-size"]
        assert isinstance(context, int)
        assert context % (256 * slots) == 0
        assert length <= context // slots < length + 256


def test_a_single_gpu_plan_touches_no_second_gpu() -> None:
    one = flags(llamacpp("gguf:Q8_0", "ggml-cuda", pool("rtx4090", settings(4096, 1))), LaunchOptions(model="m.gguf"))
    none = flags(llamacpp("gguf:Q8_0", "ggml-cpu", pool("epyc-9654", settings(4096, 1))), LaunchOptions(model="m.gguf"))
    assert one["split-mode"] == "none"
    assert (none["device"], none["n-gpu-layers"]) == ("none", 0)


@pytest.mark.parametrize("change", [{"tensor_parallel": 2}, {"data_parallel": 2}])
def test_llama_cpp_splits_layers_only(change: dict[str, int]) -> None:
    candidate = llamacpp("gguf:Q8_0", "ggml-cuda", pool("rtx4090", settings(4096, 1), **change))
    with pytest.raises(Unsupported, match="pipeline_parallel alone"):
        flags(candidate, LaunchOptions(model="m.gguf"))


def test_speculation_is_one_json_object_and_not_for_llama_cpp() -> None:
    chosen = msgspec.structs.replace(settings(4096, 1), speculative="ngram")
    with pytest.raises(BadInput, match="expected a JSON object"):
        flags(
            vllm("bf16", CASES["bf16-a100-tp4-pp2"].candidate.recipe, "cublas-bf16", pool("l4", chosen)),
            LaunchOptions(model="m"),
        )
    with pytest.raises(Unsupported, match="speculative decoding under"):
        flags(llamacpp("gguf:Q8_0", "ggml-cuda", pool("l4", chosen)), LaunchOptions(model="m.gguf"))


@pytest.mark.parametrize(
    ("name", "port"), [("awq-a10g", 80), ("awq-a10g", 65536), ("gguf-cpu", 0), ("gguf-cpu", 70000)]
)
def test_ports_that_the_engine_refuses_are_refused_here(name: str, port: int) -> None:
    case = CASES[name]
    with pytest.raises(BadInput, match=rf"found {port} - at `\$\.launch\.port`"):
        engines.launch(case.candidate, facts(case.candidate), msgspec.structs.replace(case.options, port=port))


def test_engines_without_launch_files_are_refused_by_name() -> None:
    sglang = engine("sglang")
    candidate = msgspec.structs.replace(CASES["awq-a10g"].candidate, engine="sglang", engine_version=sglang.version)
    with pytest.raises(Unsupported, match="sglang is estimated only"):
        engines.launch(candidate, sglang, LaunchOptions(model="m"))
    with pytest.raises(Unsupported, match=r"no launch files for sglang; there are some for vllm, llama\.cpp"):
        target_of("sglang")


def test_facts_of_another_version_are_a_bug() -> None:
    case = CASES["awq-a10g"]
    with pytest.raises(ValueError, match=r"facts of llama\.cpp 0\.3\.36 for vllm 0\.33\.0"):
        engines.launch(case.candidate, engine("llama.cpp-0.3.36"), case.options)


def test_what_cannot_be_launched_yet_is_refused_by_name() -> None:
    case = CASES["awq-a10g"]
    two = msgspec.structs.replace(case.candidate, pools=case.candidate.pools * 2)
    with pytest.raises(Unsupported, match="2 pools"):
        engines.launch(two, facts(two), case.options)
    with pytest.raises(Unsupported, match="GGUF files, not fp8"):
        flags(llamacpp("fp8", "ggml-cuda", pool("l4", settings(4096, 1))), case.options)
    online = Recipe(name="gptq", algorithm="GPTQ", online=True)
    with pytest.raises(Unsupported, match="gptq"):
        flags(vllm("w4a16", online, "marlin weight-only", pool("l4", settings(4096, 1))), case.options)


def test_air_gapped_asks_the_engines_for_no_network() -> None:
    assert dict(engines.launch(*_case("fp8-kv-h100")).env)["HF_HUB_OFFLINE"] == "1"
    assert engines.launch(*_case("gguf-two-gpus")).settings["offline"] is True


def test_aiter_kernels_are_switched_on() -> None:
    recipe = Recipe(name="native", algorithm="QAT", training="native")
    candidate = vllm("mxfp4", recipe, "aiter-mxfp4 weight-only", pool("mi355x", settings(4096, 8)))
    assert engines.launch(candidate, facts(candidate), LaunchOptions(model="openai/gpt-oss-120b")).env == {
        "VLLM_ROCM_USE_AITER": "1"
    }


def test_the_readme_says_how_the_weights_come() -> None:
    expected = {
        "fp8-h100-tp2": "hf download --revision 4a3f0d2b RedHatAI/Meta-Llama-3.1-70B-Instruct-FP8-dynamic",
        "fp8-online-l40s-replicas": "The engine quantizes the original while it loads.",
        "fp8-kv-h100": "already on the serving machine",
        "w4a16-to-make-4090": "GPTQModifier(targets='Linear', scheme='W4A16'",
        "gguf-cpu": "hf download --include '*Q4_K_M*' bartowski/Meta-Llama-3.1-8B-Instruct-GGUF",
        "gguf-two-gpus": "bring that cache along",
        "gguf-m3-max": "llama-quantize ./original-f16.gguf ./Qwen3-8B-Q5_K_M.gguf Q5_K_M",
        "gguf-file": "already on the serving machine",
    }
    for name, text in expected.items():
        assert text in readme(CASES[name].candidate, CASES[name].options), name


@pytest.mark.parametrize(("kind", "needs"), [("IQ2_XS", True), ("Q4_K_M", False)])
def test_small_types_get_an_importance_matrix(kind: str, needs: bool) -> None:
    make = Make(tool="llama-quantize", scheme=kind, because="none published")
    candidate = llamacpp(f"gguf:{kind}", "ggml-cuda", pool("l4", settings(4096, 1)), make=make)
    page = readme(candidate, LaunchOptions(model=LLAMA_8B, revision="abc"))
    assert "hf download --revision abc --local-dir ./original meta-llama/Llama-3.1-8B-Instruct" in page
    assert ("llama-imatrix" in page) == ("llama-quantize --imatrix ./imatrix.gguf" in page) == needs


def test_a_recipe_names_the_folder_that_the_script_opens() -> None:
    case = CASES["w4a16-to-make-4090"]
    launch = engines.launch(*_case("w4a16-to-make-4090"))
    assert f"output_dir={launch.model!r}" in readme(case.candidate, case.options)


@pytest.mark.parametrize(
    ("recipe", "make", "text"),
    [
        (
            Recipe(name="awq", algorithm="AWQ"),
            replace(MADE, algorithm="AWQ", scheme="W4A16_ASYM"),
            "[AWQModifier(), QuantizationModifier(targets='Linear', scheme='W4A16_ASYM'",
        ),
        (
            Recipe(name="fp8-dynamic", algorithm="RTN"),
            Make(tool="llm-compressor", scheme="FP8_DYNAMIC", because="none published", algorithm="round to nearest"),
            "[QuantizationModifier(targets='Linear', scheme='FP8_DYNAMIC', ignore=['lm_head'])]",
        ),
        (Recipe(name="gptq", algorithm="GPTQ"), replace(MADE, group_size=64), "[GPTQModifier(config_groups={'group_0'"),
        (Recipe(name="gptq", algorithm="GPTQ"), replace(MADE, scheme="W8A16", group_size=64), "{'num_bits': 8,"),
    ],
)
def test_recipes_compile(recipe: Recipe, make: Make, text: str) -> None:
    candidate = vllm("fp8", recipe, "cutlass-fp8", pool("l4", settings(4096, 8)), make=make)
    page = readme(candidate, LaunchOptions(model='it\'s "quoted"\n```\\'))
    source = page.partition("python\n")[2].partition("\n```")[0]
    compile(source, "recipe", "exec")
    assert text in source
    assert ("dataset=" in source) == (make.calibration is not None)


def test_the_readme_tells_why() -> None:
    case = CASES["awq-a10g"]
    tie = Tie(
        lane="awq-int4", engine="vllm", accelerator="a10g", objective=1.0, slo_met_at_bad_end=True, loss_pct=1.234,
        published=True, headroom=0.2, devices=1,
    )  # fmt: skip
    finding = Finding(rule="H7", effect="warn", because="a | <b>bold</b> `claim`\n# not a title", source="a paper")
    gated = msgspec.structs.replace(published("meta/gated", "meta"), gated=True)
    candidate = msgspec.structs.replace(case.candidate, artifact=gated)
    page = readme(candidate, case.options, Reasons(plan_id="p1", findings=(finding,), tie=(tie,), sources=("row 7",)))
    assert "- warn H7: a \\| \\<b\\>bold\\</b\\> \\`claim\\` \\# not a title Source: a paper" in page
    assert "| `awq-int4` | vllm | `a10g` | yes | 1.23 | yes | 1 |" in page
    assert "Plan `p1`." in page
    assert "- row 7" in page
    assert "accept its licence (llama3.1)" in page
    assert "| `ttft_p95_s` | 412 ms (300 to 600) | fitted |" in page
    assert "| `kv_pool_bytes` | 30 GiB (28 to 31) | fitted |" in page


def _case(name: str) -> tuple[Candidate, Engine, LaunchOptions]:
    case = CASES[name]
    return case.candidate, facts(case.candidate), case.options
