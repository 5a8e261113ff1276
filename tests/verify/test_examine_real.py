"""Checkpoints of the real tools: llm-compressor's and llama.cpp's are whole, and what is broken in them is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tools import scorer
from tests.tools.environment import run
from tests.tools.gguf_models import gguf_model
from tests.tools.llamacpp import llamacpp
from tests.tools.quantizer import Made, quantize
from tests.tools.tamper import swapped, tampered
from tests.verify.test_dense import dense
from tests.verify.test_examine import GATE, UP, examine

pytestmark = [pytest.mark.slow, pytest.mark.long]
MADE = (
    Made(geometry="dense", scheme="FP8_DYNAMIC"), Made(geometry="dense", scheme="FP8", cache=True),
    Made(geometry="dense", scheme="W4A16", group=64), Made(geometry="dense", scheme="W4A16_ASYM", group=64),
    Made(geometry="dense", scheme="NVFP4"), Made(geometry="dense", scheme="W8A8"),
    Made(geometry="dense", scheme="FP8_DYNAMIC", group=None, ignore=()),
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("real")
    first, last = MADE[:-1], MADE[-1]
    assert set(quantize(made, ["dense"], first).values()) == {""}
    head = made / "head"
    head.mkdir()
    assert set(quantize(head, ["dense"], [last]).values()) == {""}
    return made


@pytest.mark.parametrize("case", MADE[:-1], ids=lambda case: case.name)
def test_what_llm_compressor_makes_is_whole(case: Made, folder: Path, tmp_path: Path) -> None:
    words = ["--scheme", case.scheme, "--ignore", "lm_head", *(("--group-size", str(case.group)) if case.group else ())]
    cache = ("--cache", "fp8") if case.cache else ()
    faults, seen = examine(tmp_path, folder / case.name, *words, *cache, original=folder / "dense")
    assert faults == []
    assert seen["compared_weights"] == 14
    broken = tampered(folder / case.name, tmp_path / "x", swapped(f"{GATE}.weight_scale", f"{UP}.weight_scale"))
    faults, _ = examine(tmp_path, broken, original=folder / "dense")
    if case.scheme != "FP8":
        assert {each["where"] for each in faults} == {f"{GATE}.weight", f"{UP}.weight"}


def test_an_output_matrix_that_a_tool_quantized_is_a_fault(folder: Path, tmp_path: Path) -> None:
    words = ("--scheme", "FP8_DYNAMIC", "--ignore", "lm_head")
    faults, _ = examine(tmp_path, folder / "head" / MADE[-1].name, *words, original=folder / "head" / "dense")
    assert [(each["where"], each["what"]) for each in faults] == [
        ("lm_head.weight", "is quantized and should be in 16 bits")
    ]


def test_what_llama_quantize_makes_is_whole_and_other_types_and_files_are_not(tmp_path: Path) -> None:
    base, program = tmp_path / "f16.gguf", llamacpp().program("llama-quantize")
    run(program, "--allow-requantize", gguf_model("smollm2-135m"), base, "F16", "1")
    for name in ("Q8_0", "Q4_K_M"):
        made = tmp_path / f"{name}.gguf"
        run(program, base, made, name, "1")
        faults, seen = examine(tmp_path, made, "--type", name, original=base)
        assert faults == []
        assert (seen["file_type"], seen["compared_tensors"]) == (name, 272)
        assert (seen["fallbacks"] > 0) == (name == "Q4_K_M")
    faults, _ = examine(tmp_path, made, "--type", "Q5_K_M", original=base)
    assert [each["where"] for each in faults] == ["general.file_type"]
    whole = made.read_bytes()
    place = whole.index(b"tokenizer.chat_template") + 60
    made.write_bytes(whole[:place] + b"X" + whole[place + 1 :])
    faults, _ = examine(tmp_path, made, original=base)
    assert [each["where"] for each in faults] == ["tokenizer.chat_template"]
    zeros = len(whole) // 2
    made.write_bytes(whole[:zeros] + bytes(4_000_000) + whole[zeros + 4_000_000 :])
    faults, _ = examine(tmp_path, made, original=base)
    assert len(faults) > 3
    assert all("its values are not" in each["what"] or "rows are zero" in each["what"] for each in faults)


def test_weights_made_dense_score_as_the_weights_that_they_stand_for(folder: Path, tmp_path: Path) -> None:
    """transformers opens the dense folder of an FP8 copy whose words are another tool's, and loses as little."""
    source = tmp_path / "published"
    tampered(folder / "dense-FP8_DYNAMIC", source, lambda _: None)
    config = (source / "config.json").read_text().replace('"compressed-tensors"', '"fp8"')
    (source / "config.json").write_text(config)
    said, refusal = dense(source, tmp_path / "dense")
    assert refusal == ""
    assert said["layouts"] == ["fp8"]
    own = tmp_path / "own.txt"
    own.write_text(" ".join(f"w{place * 37 % 4096}" for place in range(2000)))
    tokens, base, stats = tmp_path / "tokens.json", tmp_path / "base", tmp_path / "stats.npz"
    given = ("--text", own, "--context", 64, "--windows", 8, "--out", tokens)
    scorer.score("transformers", "tokens", "--tokenizer", folder / "dense", *given)
    common = ("--backend", "transformers", "--tokens", tokens)
    scorer.score("transformers", "record", *common, "--model", folder / "dense", "--out", base)
    model = ("--model", tmp_path / "dense" / "model")
    header = scorer.score("transformers", "compare", *common, *model, "--against", base, "--out", stats)
    assert header["broken_tokens"] == 0
