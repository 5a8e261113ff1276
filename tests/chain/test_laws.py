"""What must hold between lanes, and between our numbers and other programs', on the receipts of the chain."""

from __future__ import annotations

import json
import os
import re
import subprocess
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from planner.proof import OWN_TEXT
from planner.proving import judge
from planner.proving.bounds import Numbers
from planner.proving.judge import OF_TOKENS, Windows
from tests.chain import world
from tests.chain.lanes import CONTEXT, LANES
from tests.tools import scorer
from tests.tools.environment import run
from tests.tools.llamacpp import llamacpp
from tests.verify.test_score_real import WORDS, final, perplexity

pytestmark = pytest.mark.slow
ONE_SHOT = scorer.SCRIPT.with_name("oneshot.py")
LOUD = Path(scorer.__file__).with_name("loud_channels.py")
OFFLINE = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def divergence(name: str) -> tuple[float, float, float]:
    """(lower bound, mean, upper bound) of the mean divergence, nat."""
    found = OF_TOKENS["kld_mean"](world.verified(name).windows())
    return found.lower, found.value, found.upper


@pytest.mark.parametrize(
    "order",
    [
        ("gguf-Q8_0", "gguf-Q5_K_M", "gguf-Q4_K_M", "gguf-Q2_K"),
        ("gguf-Q8_0", "gguf-Q5_K_M", "gguf-IQ4_XS", "gguf-Q2_K"),
        ("int8-w8a8", "gptq-int4"),
        ("int8-w8a8", "awq-int4"),
        ("fp8", "nvfp4"),
        ("fp8", "gptq-int4"),
    ],
)
def test_fewer_bits_are_further_away(order: tuple[str, ...]) -> None:
    """So surely that the bounds do not meet."""
    measured = [divergence(name) for name in order]
    for nearer, further in pairwise(measured):
        assert nearer[2] < further[0], dict(zip(order, measured, strict=True))


def test_a_cache_in_eight_bits_adds_to_the_loss() -> None:
    assert divergence("fp8")[1] < divergence("fp8-kv")[1]


def rounded(name: str, scheme: str) -> Windows:
    """The same scheme and groups without calibration, scored on the lane's own tokens against its own baseline."""
    lane, folder = world.verified(name).folder, world.folder() / f"rtn-{scheme}"
    words = ("--scheme", scheme, "--algorithm", "rtn", "--group-size", 128, "--ignore", "lm_head", "--out", folder)
    run(scorer.compressor(), ONE_SHOT, "--model", world.model().model, *words, **OFFLINE)
    return compared(lane, folder / "model", folder / "stats.npz")


def compared(lane: Path, model: Path, out: Path) -> Windows:
    """A model on the tokens of a lane, against the baseline that was recorded for it."""
    tokens, base = lane / f"tokens-own-{CONTEXT}" / "tokens.json", lane / f"baseline-own-{CONTEXT}" / "base"
    given = ("--model", model, "--tokens", tokens, "--against", base, "--out", out)
    scorer.score("transformers", "compare", "--backend", "transformers", *given)
    (windows,) = judge.read(out.read_bytes(), out.name)[1].values()
    return windows


def saved(name: str, scheme: str) -> tuple[float, float]:
    """(mean, standard error) of what calibration saves of rounding's divergence, nat: window by window on the same
    tokens."""
    made = json.loads((world.verified(name).folder / "candidate" / "made.json").read_text())
    assert (made["scheme"], made["rows"] > 0) == (scheme, True)
    return spread((rounded(name, scheme).kl - world.verified(name).windows().kl).mean(axis=1))


def spread(each: Numbers) -> tuple[float, float]:
    """(mean, its standard error)."""
    return float(each.mean()), float(each.std(ddof=1) / np.sqrt(len(each)))


def test_gptq_beats_rounding_to_nearest() -> None:
    mean, error = saved("gptq-int4", "W4A16")
    assert mean > 3 * error


def test_awq_is_no_worse_than_rounding_to_nearest() -> None:
    """It saves 0.0003 of 0.0125 nat here, 1.2 standard errors: a model of this size has no loud channels that AWQ's
    scales would protect."""
    mean, error = saved("awq-int4", "W4A16_ASYM")
    assert mean > -3 * error


def test_awq_beats_rounding_to_nearest_where_channels_are_loud() -> None:
    """The same function bit by bit, one channel in fifty 16 times as loud: 0.012 nat where rounding loses 0.027."""
    folder, lane = world.folder() / "loud", world.verified("awq-int4").folder
    folder.mkdir(exist_ok=True)
    if not (folder / "model").exists():
        run(scorer.compressor(), LOUD, world.model().model, folder / "model", **OFFLINE)
    text = ("--calibration", lane / "calibration" / "rows.json", "--length", 256)
    scheme = ("--scheme", "W4A16_ASYM", "--group-size", 128, "--ignore", "lm_head")
    found = {}
    for algorithm, given in (("rtn", ()), ("awq", text)):
        out = folder / algorithm
        run(
            scorer.compressor(), ONE_SHOT, "--model", folder / "model", *scheme, "--algorithm", algorithm, *given,
            "--out", out, **OFFLINE,
        )  # fmt: skip
        found[algorithm] = compared(lane, out / "model", out / "stats.npz").kl.mean(axis=1)
    assert float(compared(lane, folder / "model", folder / "stats.npz").kl.mean()) == 0.0
    mean, error = spread(found["rtn"] - found["awq"])
    assert mean > 3 * error


@pytest.mark.parametrize("name", ["fp8", "int8-w8a8", "gptq-int4", "nvfp4"])
def test_numbers_are_those_that_transformers_itself_computes(name: str) -> None:
    """Divergence to a thousandth, perplexities to 1e-5, agreement to 2e-3 of all places."""
    found = world.verified(name)
    tokens = found.folder / f"tokens-own-{CONTEXT}" / "tokens.json"
    script = Path(scorer.__file__).with_name("direct_kl.py")
    words = [scorer.compressor(), script, world.model().model, found.folder / "candidate" / "model", tokens]
    done = subprocess.run(
        [*map(str, words)], env=os.environ | OFFLINE, capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, done.stderr[-2000:]
    direct, own = json.loads(done.stdout), found.windows()
    assert float(own.kl.mean()) == pytest.approx(direct["kl"], rel=1e-3)
    assert OF_TOKENS["ppl_ratio"](own).value == pytest.approx(direct["ppl"][1] / direct["ppl"][0], rel=1e-5)
    assert float(own.agrees.mean()) == pytest.approx(direct["top1"], abs=2e-3)


@cache
def stored() -> tuple[Path, Path, float]:
    """The whole text in both programs: our folder, llama-perplexity's logits, and the perplexity that it ends with."""
    lane, folder = world.verified("gguf-Q8_0").folder, world.folder() / "whole"
    folder.mkdir()
    base, text = lane / "baseline" / "model.gguf", world.model().held_out
    given = ("--text", text, "--context", CONTEXT, "--windows", 10_000, "--out", folder / "tokens.json")
    scorer.score("llama.cpp", "tokens", "--tokenizer", base, *given)
    common = ("--backend", "llama.cpp", "--device", "cpu", "--tokens", folder / "tokens.json")
    scorer.score("llama.cpp", "record", *common, "--model", base, "--out", folder / "base")
    flags = ("-m", base, "-f", text, "--save-all-logits", folder / "base.kld")
    return folder, folder / "base.kld", final(perplexity(llamacpp(), *flags, context=CONTEXT))


@pytest.mark.parametrize("name", ["gguf-Q4_K_M", "gguf-IQ4_XS", "gguf-Q2_K"])
def test_numbers_are_those_that_llama_perplexity_prints(name: str) -> None:
    """Tolerances of tests/verify/test_score_real.py: its stored logits have 16 bits and end 16 nat below the best."""
    folder, logits, whole = stored()
    model, stats = world.verified(name).folder / "candidate" / "model.gguf", folder / f"{name}.npz"
    common = ("--backend", "llama.cpp", "--device", "cpu", "--tokens", folder / "tokens.json")
    scorer.score("llama.cpp", "compare", *common, "--model", model, "--against", folder / "base", "--out", stats)
    (own,) = judge.read(stats.read_bytes(), name)[1].values()
    flags = ("-m", model, "--kl-divergence-base", logits, "--kl-divergence")
    printed = perplexity(llamacpp(), *flags, context=CONTEXT)
    said = {key: float(re.search(pattern, printed)[1]) for key, pattern in WORDS.items()}  # type: ignore[index]
    assert float(np.exp(-own.base_logprob.mean())) == pytest.approx(whole, rel=1e-4)
    assert float(np.exp(-own.cand_logprob.mean())) == pytest.approx(said["ppl"], rel=1e-4)
    assert OF_TOKENS["kld_mean"](own).value == pytest.approx(said["kld_mean"], rel=0.02, abs=1e-4)
    assert OF_TOKENS["kld_p99"](own).value == pytest.approx(said["kld_p99"], rel=0.06)
    assert OF_TOKENS["top1_agreement"](own).value == pytest.approx(said["top1"], abs=0.8)


@pytest.mark.parametrize("name", LANES)
def test_a_receipt_says_what_its_raw_numbers_say(name: str) -> None:
    found = world.verified(name)
    own = found.windows()
    for gate in found.receipt.gates:
        for check in gate.checks:
            if check.text == OWN_TEXT and check.statistic in OF_TOKENS and check.value is not None:
                assert check.value == pytest.approx(OF_TOKENS[check.statistic](own).value, rel=1e-9)
