"""The scorer on real models: llama-perplexity's numbers, transformers' numbers, and both backends on one model.

The first half of each window is context only on every side. llama-perplexity is run one window at a time (`-b`), as the
scorer does; its baseline is stored in 16 bits over each place's own range, the scorer's in 32.
"""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import pytest

from planner.proving import judge
from planner.proving.bounds import Measured
from planner.proving.judge import OF_TOKENS, Windows
from tests.tools import scorer
from tests.tools.environment import run
from tests.tools.gguf_models import gguf_model
from tests.tools.llamacpp import Tools, llamacpp

pytestmark = pytest.mark.slow
TYPES = ("Q8_0", "Q4_K_M", "Q2_K")
CONTEXT = 256
LETTERS = 9_500
"""Of Python's own help: nine windows."""


def text(folder: Path, letters: int = LETTERS) -> Path:
    file = folder / "text.txt"
    file.write_text("\n\n".join(topics[name] for name in sorted(topics))[:letters])
    return file


@dataclass(frozen=True)
class Compared:
    """One type: the scorer's windows, and what llama-perplexity printed of the same."""

    windows: Windows
    said: dict[str, float]

    def of(self, statistic: str) -> Measured:
        return OF_TOKENS[statistic](self.windows)


WORDS = {
    "ppl": r"Mean PPL\(Q\) +: +([\d.]+)",
    "ppl_base": r"Mean PPL\(base\) +: +([\d.]+)",
    "ppl_ratio": r"Mean PPL\(Q\)/PPL\(base\) +: +([\d.]+)",
    "kld_mean": r"Mean +KLD: +([-\d.]+)",
    "kld_median": r"Median +KLD: +([-\d.]+)",
    "kld_p99": r"99\.0% +KLD: +([-\d.]+)",
    "top1": r"Same top p: +([\d.]+)",
}


def final(printed: str) -> float:
    """The perplexity that llama-perplexity ends with."""
    return float(re.search(r"Final estimate: PPL = ([\d.]+)", printed)[1])  # type: ignore[index]


ENDED = re.compile(r"Same top p:|Final estimate: PPL")
"""The last line of either result."""


def perplexity(tools: Tools, *flags: object, context: int = CONTEXT) -> str:
    """What llama-perplexity prints. It leaves without waiting for its own log's thread, so that a run in twelve lost
    its last lines on a busy machine (llama.cpp issue 22142): it is asked again then, at most five times."""
    command = [tools.built("llama-perplexity"), "-c", context, "-b", context, "-t", 1, *flags]
    for _ in range(6):
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, timeout=900)
        assert done.returncode == 0, done.stderr[-2000:]
        if ENDED.search(done.stdout + done.stderr):
            return done.stdout + done.stderr
    raise AssertionError(f"no result in six runs: {(done.stdout + done.stderr)[-2000:]}")


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Compared]:
    """SmolLM2 in 16 bits as the baseline, and three types made of it."""
    folder, tools = tmp_path_factory.mktemp("gguf"), llamacpp()
    quantize, base, own = tools.program("llama-quantize"), folder / "f16.gguf", text(folder)
    run(quantize, "--allow-requantize", gguf_model("smollm2-135m"), base, "F16", "1")
    tokens, recorded = folder / "tokens.json", folder / "base"
    given = ("--context", CONTEXT, "--windows", 1000, "--out", tokens)
    made = scorer.score("llama.cpp", "tokens", "--tokenizer", base, "--text", own, *given)
    common = ("--backend", "llama.cpp", "--threads", 1, "--device", "cpu", "--tokens", tokens)
    scorer.score("llama.cpp", "record", *common, "--model", base, "--out", recorded)
    stored = folder / "base.kld"
    printed = perplexity(tools, "-m", base, "-f", own, "--save-all-logits", stored)
    whole = final(printed)
    found = {}
    for name in TYPES:
        model, stats = folder / f"{name}.gguf", folder / f"{name}.npz"
        run(quantize, base, model, name, "1")
        scorer.score("llama.cpp", "compare", *common, "--model", model, "--against", recorded, "--out", stats)
        printed = perplexity(tools, "-m", model, "--kl-divergence-base", stored, "--kl-divergence")
        said = {key: float(re.search(words, printed)[1]) for key, words in WORDS.items()}  # type: ignore[index]
        said["ppl_final"] = whole
        _, (windows,) = (read := judge.read(stats.read_bytes(), name))[0], read[1].values()
        assert windows.count == made["texts"][0]["windows_there"] >= 8
        found[name] = Compared(windows, said)
        model.unlink()
    for large in (base, stored, recorded / "logprobs.npy"):
        large.unlink()
    return found


@pytest.mark.parametrize("name", TYPES)
def test_a_gguf_file_measures_what_llama_perplexity_prints(compared: dict[str, Compared], name: str) -> None:
    """Perplexities are equal as printed where no stored logits take part. In 16 bits, no word is more than 16 nat below
    a place's best one: the baseline looks 2e-4 better there, and divergences are off by as much."""
    own, said = compared[name], compared[name].said
    base, candidate = (np.exp(-side.mean()) for side in (own.windows.base_logprob, own.windows.cand_logprob))
    assert base == pytest.approx(said["ppl_final"], rel=1e-5)
    assert candidate == pytest.approx(said["ppl"], rel=1e-4)
    assert base == pytest.approx(said["ppl_base"], rel=5e-4)
    assert own.of("ppl_ratio").value == pytest.approx(said["ppl_ratio"], rel=5e-4)
    assert own.of("kld_mean").value == pytest.approx(said["kld_mean"], rel=0.02, abs=1e-4)
    assert judge.kld_median(own.windows) == pytest.approx(said["kld_median"], rel=0.05, abs=1e-4)
    assert own.of("kld_p99").value == pytest.approx(said["kld_p99"], rel=0.06)
    assert own.of("top1_agreement").value == pytest.approx(said["top1"], abs=0.8)


def test_fewer_bits_are_further_away(compared: dict[str, Compared]) -> None:
    """Q8_0 before Q4_K_M before Q2_K, and so surely that the bounds do not meet."""
    measured = [compared[name].of("kld_mean") for name in TYPES]
    assert measured[0].upper < measured[1].lower
    assert measured[1].upper < measured[2].lower
    agreed = [compared[name].of("top1_agreement").value for name in TYPES]
    assert agreed == sorted(agreed, reverse=True)


@dataclass(frozen=True)
class Tiny:
    """A small Llama of random weights as a folder, its windows, and its recorded baseline."""

    folder: Path

    def score(self, backend: str, command: str, model: str, *words: object) -> dict[str, object]:
        own = ("--threads", 1) if backend == "llama.cpp" else ()
        given = ("--backend", backend, "--model", self.folder / model, "--tokens", self.folder / "tokens.json")
        return scorer.score(backend, command, *given, "--device", "cpu", *own, *words)

    def compare(self, backend: str, model: str) -> Windows:
        stats = self.folder / "stats.npz"
        self.score(backend, "compare", model, "--against", self.folder / "base", "--out", stats)
        (windows,) = judge.read(stats.read_bytes(), model)[1].values()
        return windows


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    folder = tmp_path_factory.mktemp("tiny")
    own = text(folder, 30_000)
    run(scorer.compressor(), Path(scorer.__file__).with_name("tiny_llama.py"), folder / "model", own)
    given = ("--context", 128, "--windows", 20, "--seed", 3, "--out", folder / "tokens.json")
    scorer.score("transformers", "tokens", "--tokenizer", folder / "model", "--text", own, *given)
    made = Tiny(folder)
    made.score("transformers", "record", "model", "--out", folder / "base")
    return made


@pytest.fixture(scope="module")
def converted(tiny: Tiny) -> Path:
    """The same weights as a GGUF file, in 32 bits."""
    file = tiny.folder / "model.gguf"
    scorer.convert(tiny.folder / "model", file)
    return file


def test_bos_takes_the_first_place_as_in_llama_perplexity(tiny: Tiny, converted: Path) -> None:
    own, tokens, base, stats = (tiny.folder / name for name in ("text.txt", "bos.json", "bos", "bos.npz"))
    given = ("--text", own, "--context", 128, "--windows", 1000, "--out", tokens)
    made = scorer.score("llama.cpp", "tokens", "--tokenizer", converted, *given)
    assert made["bos"] == 1
    common = ("--backend", "llama.cpp", "--model", converted, "--tokens", tokens, "--threads", 1, "--device", "cpu")
    scorer.score("llama.cpp", "record", *common, "--out", base)
    scorer.score("llama.cpp", "compare", *common, "--against", base, "--out", stats)
    (windows,) = judge.read(stats.read_bytes(), "bos")[1].values()
    printed = final(perplexity(llamacpp(), "-m", converted, "-f", own, context=128))
    assert np.exp(-windows.cand_logprob.mean()) == pytest.approx(printed, rel=2e-5)
    assert float(windows.kl.max()) == 0


@pytest.mark.usefixtures("converted")
def test_both_backends_agree_on_one_model(tiny: Tiny) -> None:
    """llama.cpp keeps its cache in 16 bits, transformers here in 32: that is what is left between them."""
    windows = tiny.compare("llama.cpp", "model.gguf")
    assert float(windows.kl.mean()) < 3e-6
    assert float(np.abs(windows.dp).max()) < 1e-3
    assert float(windows.agrees.mean()) > 0.99


def test_the_same_model_again_differs_in_nothing(tiny: Tiny) -> None:
    windows = tiny.compare("transformers", "model")
    assert float(windows.kl.max()) < 1e-9
    assert float(windows.agrees.min()) == 1


SCHEMES = """
import sys
from llmcompressor import oneshot
from llmcompressor.modifiers.quantization import QuantizationModifier
base, *made = sys.argv[1:]
for scheme in made:
    recipe = QuantizationModifier(targets="Linear", scheme=scheme, ignore=["lm_head"])
    oneshot(model=base, recipe=recipe, output_dir=f"{base}-{scheme}")
"""


def test_compressed_checkpoints_measure_what_transformers_itself_computes(tiny: Tiny) -> None:
    """FP8 and INT4 of llm-compressor; the rounding to four bits is further away."""
    script = tiny.folder / "schemes.py"
    script.write_text(SCHEMES)
    run(scorer.compressor(), script, tiny.folder / "model", "FP8_DYNAMIC", "W4A16", HF_HUB_OFFLINE="1")
    seen = {}
    for scheme in ("FP8_DYNAMIC", "W4A16"):
        name = f"model-{scheme}"
        windows = tiny.compare("transformers", name)
        direct = direct_kl(tiny, name)
        assert float(windows.kl.mean()) == pytest.approx(direct["kl"], rel=1e-3)
        ratio = OF_TOKENS["ppl_ratio"](windows).value
        assert ratio == pytest.approx(direct["ppl"][1] / direct["ppl"][0], rel=1e-5)
        assert float(windows.agrees.mean()) == pytest.approx(direct["top1"], abs=2e-3)
        seen[scheme] = OF_TOKENS["kld_mean"](windows)
    assert seen["FP8_DYNAMIC"].lower > 1e-6
    assert seen["FP8_DYNAMIC"].upper < seen["W4A16"].lower


def direct_kl(tiny: Tiny, candidate: str) -> dict[str, object]:
    words = [scorer.compressor(), Path(scorer.__file__).with_name("direct_kl.py"), tiny.folder / "model"]
    command = [*words, tiny.folder / candidate, tiny.folder / "tokens.json"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    made: dict[str, object] = json.loads(done.stdout)
    return made


def test_chat_lines_go_through_the_template(tiny: Tiny) -> None:
    lines = [{"messages": [{"role": "user", "content": "how are you? " * 40}]}] * 3
    file, out = tiny.folder / "chat.jsonl", tiny.folder / "chat.json"
    file.write_text("\n".join(map(json.dumps, lines)))
    given = ("--text", file, "--context", 64, "--windows", 2, "--out", out)
    made = scorer.score("transformers", "tokens", "--tokenizer", tiny.folder / "model", *given)
    assert (made["texts"][0]["documents"], made["texts"][0]["windows"]) == (3, 2)


def test_what_cannot_be_scored_is_refused_by_name(tiny: Tiny) -> None:
    with pytest.raises(RuntimeError, match=r"score.py: .*text\.txt: llama\.cpp could not load it"):
        tiny.score("llama.cpp", "record", "text.txt", "--out", tiny.folder / "no")
    with pytest.raises(RuntimeError, match=r"score.py: .*text\.txt: the transformers backend takes a folder"):
        tiny.score("transformers", "record", "text.txt", "--out", tiny.folder / "no")
