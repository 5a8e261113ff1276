"""Every lane for real, from the command to its receipt, on a model that was trained in full precision."""

from __future__ import annotations

import json

import pytest
from gguf import GGUFReader

from planner.proving.receipt import ENDED_WELL
from planner.running import runstate
from tests.chain import world
from tests.chain.lanes import CONTEXT, LANES

pytestmark = pytest.mark.slow
STATISTICS = ("kld_mean", "kld_p99", "top1_agreement", "ppl_ratio", "dp_asymmetry")
FORMATS = {
    "fp8": ("float-quantized", 8), "fp8-kv": ("float-quantized", 8), "int8-w8a8": ("int-quantized", 8),
    "gptq-int4": ("pack-quantized", 4), "awq-int4": ("pack-quantized", 4), "nvfp4": ("nvfp4-pack-quantized", 4),
}  # fmt: skip
BITS = {"Q8_0": (8.4, 8.6), "Q5_K_M": (5.4, 6.0), "Q4_K_M": (4.5, 5.2), "IQ4_XS": (4.2, 4.7), "Q2_K": (2.6, 3.7)}
"""Per weight of a whole file of the trained model: what llama.cpp's README prints for large ones, with room for the
larger share that output and embeddings have here."""


def test_the_model_is_full_precision_and_has_learnt() -> None:
    """A chance over 1,024 words is a perplexity of 1,024; one over the words' own frequencies is about 200."""
    facts = world.model().facts
    assert facts["perplexity"]["held_out"] < 40
    assert facts["perplexity"]["held_out"] < 1.5 * facts["perplexity"]["trained"]
    config = json.loads((world.model().model / "config.json").read_text())
    assert config["dtype"] == "bfloat16"
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert all(config[width] % 256 == 0 for width in ("hidden_size", "intermediate_size", "vocab_size"))


@pytest.mark.parametrize("name", LANES)
def test_a_lane_ends_in_a_receipt_of_what_ran(name: str) -> None:
    found = world.verified(name)
    assert found.code in (0, 3), found.err[-3000:]
    receipt = found.receipt
    assert (receipt.ended, receipt.lane) == ("finished", LANES[name].lane)
    assert all(each.state in ENDED_WELL for each in receipt.steps)
    gates = {each.gate: each for each in receipt.gates}
    for statistic in STATISTICS:
        gate = gates[f"{statistic}@{CONTEXT}"]
        assert gate.measured, gate.because
        assert set(gate.by) == {f"compare-own-{CONTEXT}", f"compare-neutral-{CONTEXT}"}
        assert len(gate.checks) == 2
    assert gates["smoke"].measured
    assert all(each.measured for each in receipt.gates)
    assert [each.gate for each in receipt.not_tested] == ["served"]
    assert (found.folder / "receipt.md").stat().st_size > 1000


@pytest.mark.parametrize("name", LANES)
def test_a_receipt_names_its_weights_by_hash(name: str) -> None:
    found = world.verified(name)
    receipt = found.receipt
    made = "candidate/model.gguf" if name.startswith("gguf") else "candidate/model"
    assert set(receipt.artefacts) >= {"original/model", made}
    folder = runstate.Folder(found.folder, "", runstate.State())
    for path, content in receipt.artefacts.items():
        assert folder.content(found.folder / path) == content
    assert str(world.model().held_out) in receipt.data
    assert {"llm-compressor", "lanewise"} <= receipt.versions.keys()
    assert receipt.hardware["host"]


@pytest.mark.parametrize("kind", ["folders", "files"])
def test_lanes_share_what_is_the_same(kind: str) -> None:
    """One lane reads the text and records the baseline; the others take that from it."""
    found = [world.verified(name).receipt for name in LANES if name.startswith("gguf") == (kind == "files")]
    for step in ("original", f"tokens-own-{CONTEXT}", f"baseline-own-{CONTEXT}", "said-own-baseline"):
        steps = [each for receipt in found for each in receipt.steps if each.id == step]
        assert len(steps) == len(found)
        assert [each.state for each in steps].count("done") <= 1, step
        assert all(each.made == steps[0].made for each in steps)


@pytest.mark.parametrize("name", FORMATS)
def test_a_folder_is_what_its_lane_says(name: str) -> None:
    folder = world.verified(name).folder / "candidate" / "model"
    own = json.loads((folder / "config.json").read_text())["quantization_config"]
    form, bits = FORMATS[name]
    (group,) = own["config_groups"].values()
    assert (own["format"], group["weights"]["num_bits"]) == (form, bits)
    assert own["ignore"] == ["lm_head"]
    assert (own["kv_cache_scheme"] is not None) == (name == "fp8-kv")


@pytest.mark.parametrize("kind", BITS)
def test_a_file_is_what_its_lane_says_and_falls_back_nowhere(kind: str) -> None:
    found = world.verified(f"gguf-{kind}")
    low, high = BITS[kind]
    reader = GGUFReader(found.folder / "candidate" / "model.gguf")
    values = sum(int(tensor.n_elements) for tensor in reader.tensors)
    assert low < 8 * sum(int(tensor.n_bytes) for tensor in reader.tensors) / values < high
    assert "fallback" not in (found.folder / "logs" / "candidate.log").read_text()
