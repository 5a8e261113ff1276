"""llama.cpp's own count beside ours, as the command line asks for it. Slow: needs the tools."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from planner import cli, memory
from planner.headroom.picture import Headroom, Outcome
from tests.tools.gguf_models import gguf_model
from tests.tools.llamacpp import llamacpp

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def logits_of_every_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """As llama-fit-params counts them; llama-server keeps those of one token per slot (decision 0042)."""
    own = memory.accounting

    def counted(*words: Any, **more: Any) -> memory.Accounting[float]:
        return replace(own(*words, **more), graph_slot_outputs=0.0)

    monkeypatch.setattr(memory, "accounting", counted)


def asked(capsysbinary: pytest.CaptureFixture[bytes], *words: str) -> Outcome:
    llamacpp()
    assert cli.main(["fit", *words, "--oracle", "--json"]) == 0
    (found,) = msgspec.json.decode(capsysbinary.readouterr().out, type=Headroom).outcomes
    return found


def agrees(found: Outcome) -> None:
    assert found.oracle is not None
    assert [each.place for each in found.oracle.places] == [each.place for each in found.places]
    for theirs, ours in zip(found.oracle.places, found.places, strict=True):
        mib = 2**20
        assert ours.weight_bytes == pytest.approx(theirs.weight_bytes, rel=0.005, abs=mib)
        assert ours.cache_bytes == pytest.approx(theirs.cache_bytes, rel=0.005, abs=mib)
        assert ours.compute_bytes == pytest.approx(theirs.compute_bytes, rel=0.2, abs=mib)


def test_a_model_that_is_not_here_is_counted_as_an_outline(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    words = ("--lane", "gguf:Q4_K_M", "--context", "16384", "--tensor-split", "3,2", "--cpu-experts", "4")
    found = asked(capsysbinary, "Qwen/Qwen3-30B-A3B", "--on", "l4:2", *words)
    agrees(found)
    assert found.oracle is not None
    total = sum(place.weight_bytes for place in found.places)
    assert found.oracle.file_bytes == pytest.approx(total, rel=1e-5)


def test_a_file_that_is_here_is_counted_itself(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    agrees(asked(capsysbinary, str(gguf_model("smollm2-135m")), "--on", "l4", "--lane", "gguf:Q4_1"))
