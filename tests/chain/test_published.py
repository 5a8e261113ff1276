"""A published artefact: SmolLM2-135M as somebody's 4-bit file, from its package."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chain import world
from tests.chain.lanes import GGUF, Lane, Verified, planned, run
from tests.tools.environment import run as call
from tests.tools.gguf_models import gguf_model
from tests.tools.llamacpp import llamacpp

pytestmark = pytest.mark.slow
PUBLISHED = Lane("gguf:Q4_1", GGUF)


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planned(tmp_path_factory.mktemp("smollm2"), "smollm2", gguf_model("smollm2-135m"), PUBLISHED)


def test_without_its_original_nothing_is_compared(plan: Path, tmp_path: Path) -> None:
    """The file is there and hashed; what would need the 16-bit model is left out by name, and nothing passes."""
    found = run(plan, tmp_path / "run", "--text", world.model().held_out)
    assert found.code in (0, 1, 2), found.err[-3000:]
    receipt = found.receipt
    assert receipt.verdict == "inconclusive"
    assert not any(gate.measured for gate in receipt.gates if gate.gate.startswith(("kld", "top1", "ppl")))
    assert any("--original" in each.because for each in receipt.not_tested)
    assert "candidate/model.gguf" in receipt.artefacts


@pytest.fixture(scope="module")
def against(plan: Path, tmp_path_factory: pytest.TempPathFactory) -> Verified:
    """Against its own weights written out in 16 bits, which is no original: what is left is rounding."""
    folder = tmp_path_factory.mktemp("against")
    base = folder / "f16.gguf"
    call(llamacpp().program("llama-quantize"), "--allow-requantize", gguf_model("smollm2-135m"), base, "F16", "1")
    text = folder / "text.txt"
    text.write_text(world.model().held_out.read_text()[:20_000])
    return run(plan, folder / "run", "--text", text, "--original", base)


def test_against_its_own_weights_it_differs_by_rounding_alone(against: Verified) -> None:
    assert against.code in (0, 3), against.err[-3000:]
    receipt = against.receipt
    assert receipt.ended == "finished"
    assert 0 <= against.divergence < 0.01
    gates = {each.gate: each for each in receipt.gates}
    assert gates["kld_mean@512"].measured
    assert {"original/model.gguf", "candidate/model.gguf"} <= set(receipt.artefacts)
    assert receipt.artefacts["original/model.gguf"] != receipt.artefacts["candidate/model.gguf"]


def test_a_file_whose_tokenizer_lost_its_bytes_is_refused_by_name(tmp_path: Path) -> None:
    """What transformers' reading of the package's file becomes in llama.cpp's converter: every program of llama.cpp
    ends with an exception on the first word of a text."""
    from tests.tools import scorer

    broken = tmp_path / "broken.gguf"
    script = Path(__file__).with_name("lost_bytes.py")
    call(scorer.compressor(), script, world.verified("gguf-Q8_0").folder / "candidate" / "model.gguf", broken)
    text = tmp_path / "text.txt"
    text.write_text("words " * 400)
    given = ("--text", text, "--context", 64, "--windows", 2, "--out", tmp_path / "tokens.json")
    with pytest.raises(RuntimeError, match="tokens of single bytes"):
        scorer.score("llama.cpp", "tokens", "--tokenizer", broken, *given)
