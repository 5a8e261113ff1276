"""The cache in real engines' hands: llama-perplexity's numbers for quantized caches, and e4m3 bit by bit."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from planner.proving import judge
from planner.proving.judge import OF_TOKENS, Windows
from tests.tools import scorer
from tests.tools.environment import run
from tests.tools.gguf_models import gguf_model
from tests.tools.llamacpp import llamacpp
from tests.tools.quantizer import Made, quantize
from tests.verify import test_score
from tests.verify.test_score_real import CONTEXT, WORDS, perplexity, text

pytestmark = [pytest.mark.slow, pytest.mark.long]
TYPES = ("q8_0", "q4_0")


def windows_of(stats: Path) -> Windows:
    (windows,) = judge.read(stats.read_bytes(), stats.name)[1].values()
    return windows


def test_llama_cpps_caches_measure_what_llama_perplexity_prints(tmp_path: Path) -> None:
    """The same file with a 16-bit cache and with quantized ones; stored logits in 16 bits are off by 2e-4 as before."""
    tools, base, own = llamacpp(), tmp_path / "f16.gguf", text(tmp_path)
    run(tools.program("llama-quantize"), "--allow-requantize", gguf_model("smollm2-135m"), base, "F16", "1")
    tokens, recorded, stored = tmp_path / "tokens.json", tmp_path / "base", tmp_path / "base.kld"
    given = ("--context", CONTEXT, "--windows", 1000, "--out", tokens)
    scorer.score("llama.cpp", "tokens", "--tokenizer", base, "--text", own, *given)
    common = ("--backend", "llama.cpp", "--threads", 1, "--device", "cpu", "--tokens", tokens, "--model", base)
    scorer.score("llama.cpp", "record", *common, "--cache", "f16", "--out", recorded)
    perplexity(tools, "-m", base, "-f", own, "-fa", "on", "--save-all-logits", stored)
    seen = []
    for name in TYPES:
        stats = tmp_path / f"{name}.npz"
        header = scorer.score("llama.cpp", "compare", *common, "--cache", name, "--against", recorded, "--out", stats)
        assert header["cache"]["asked"] == name
        flags = ("-fa", "on", "-ctk", name, "-ctv", name, "--kl-divergence-base", stored, "--kl-divergence")
        printed = perplexity(tools, "-m", base, *flags)
        said = {key: float(re.search(words, printed)[1]) for key, words in WORDS.items()}  # type: ignore[index]
        windows = windows_of(stats)
        assert np.exp(-windows.cand_logprob.mean()) == pytest.approx(said["ppl"], rel=1e-4)
        assert OF_TOKENS["kld_mean"](windows).value == pytest.approx(said["kld_mean"], rel=0.02, abs=1e-4)
        seen.append(OF_TOKENS["kld_mean"](windows))
    assert 0 < seen[0].lower < seen[0].upper < seen[1].lower
    with pytest.raises(RuntimeError, match=r"--cache fp8: llama\.cpp keeps"):
        scorer.score("llama.cpp", "record", *common, "--cache", "fp8", "--out", recorded)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Llama, the same with scales for an FP8 cache, windows, and what the latter says with a whole cache."""
    made = tmp_path_factory.mktemp("cache")
    assert set(quantize(made, ["dense"], [Made(geometry="dense", scheme="FP8_DYNAMIC", cache=True)]).values()) == {""}
    rng = np.random.default_rng(0)
    own = made / "text.txt"
    own.write_text(" ".join(f"w{word}" for word in rng.integers(0, 4096, 4000)))
    given = ("--context", 128, "--windows", 12, "--out", made / "tokens.json")
    scorer.score("transformers", "tokens", "--tokenizer", made / "dense", "--text", own, *given)
    for name in ("dense", CACHED):
        score(made, "record", name, "16", made / f"base-{name}")
    return made


CACHED = "dense-FP8_DYNAMIC-KV"


def score(made: Path, verb: str, model: str, cache: str, out: Path) -> dict[str, object]:
    given = ("--backend", "transformers", "--model", made / model, "--tokens", made / "tokens.json", "--out", out)
    against = ("--against", made / f"base-{model}") if verb == "compare" else ()
    return scorer.score("transformers", verb, *given, *against, "--cache", cache)


def compare(made: Path, model: str, cache: str) -> tuple[dict[str, object], Windows]:
    header = score(made, "compare", model, cache, made / "stats.npz")
    return header, windows_of(made / "stats.npz")


def test_a_whole_cache_loses_nothing_and_an_fp8_one_a_little(folder: Path) -> None:
    _, whole = compare(folder, "dense", "16")
    header, rounded = compare(folder, "dense", "fp8")
    assert float(whole.kl.max()) < 1e-9
    assert 0 < float(rounded.kl.mean()) < 0.05
    assert header["cache"]["scales"] == "none: 1.0"  # type: ignore[index]


def test_a_checkpoints_own_cache_is_rounded_once_by_its_scales(folder: Path) -> None:
    _, whole = compare(folder, CACHED, "16")
    header, own = compare(folder, CACHED, "auto")
    _, asked = compare(folder, CACHED, "fp8")
    assert float(whole.kl.max()) < 1e-9
    assert float(own.kl.mean()) > 0
    assert np.array_equal(own.kl, asked.kl)
    assert header["cache"]["scales"]["layers"] == 2  # type: ignore[index]
    assert 0 < header["cache"]["scales"]["lowest"] < 1  # type: ignore[index]


def test_what_is_not_simulated_is_refused_by_name(folder: Path) -> None:
    with pytest.raises(RuntimeError, match="--cache q8_0: simulated are fp8, fp8_e4m3"):
        score(folder, "record", "dense", "q8_0", folder / "no")
    config = folder / CACHED / "config.json"
    kept = config.read_text()
    read = json.loads(kept)
    read["quantization_config"]["kv_cache_scheme"]["strategy"] = "attn_head"
    config.write_text(json.dumps(read))
    try:
        with pytest.raises(RuntimeError, match="e4m3 with one static scale is simulated"):
            score(folder, "record", CACHED, "auto", folder / "no")
    finally:
        config.write_text(kept)


ROUNDED = """
import json, sys
sys.path.insert(0, sys.argv[1])
import torch
from score_cache import rounding
from transformers import LlamaConfig
cache = rounding(LlamaConfig(num_hidden_layers=1), {0: (float(sys.argv[2]), 1.0)})
values = torch.tensor(json.loads(sys.argv[3])).reshape(1, 1, -1, 1)
keys, _ = cache.update(values, values, 0)
print(json.dumps(keys.flatten().tolist()))
"""


@pytest.mark.parametrize("scale", [1.0, 0.125, 0.03])
def test_each_value_is_the_nearest_of_e4m3_and_overflow_is_held(tmp_path: Path, scale: float) -> None:
    rng = np.random.default_rng(1)
    values = np.concatenate([rng.normal(0, 40, 300), rng.normal(0, 1e-3, 100), [0.0, 1e9, -1e9, 447.9, 464.1, -470.0]])
    script = tmp_path / "rounded.py"
    script.write_text(ROUNDED)
    given = [scorer.compressor(), script, test_score.WORKERS, scale, json.dumps((values * scale).tolist())]
    done = subprocess.run([*map(str, given)], capture_output=True, text=True, check=True, timeout=120)
    found = np.abs(np.asarray(json.loads(done.stdout)) / np.float32(scale))
    grid = np.unique([(low + step / 8) * 2.0**power for low, power in GRID for step in range(8)])
    grid = grid[grid <= 448]
    held = np.minimum(np.abs(values), 448.0)
    nearest = np.abs(held[:, None] - grid).min(axis=1)
    assert np.abs(found - held) == pytest.approx(nearest, abs=2e-4)
    assert found.max() == pytest.approx(448.0)


GRID = ((0, -6), *((1, power) for power in range(-6, 9)))
"""e4m3: subnormals, then a step of an eighth in each power of two, of which 448 is the last."""
