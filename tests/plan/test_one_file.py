"""A new GPU and a new model are one data file each, without code."""

from __future__ import annotations

from pathlib import Path

from catalog.load import load
from tests.plan.asking import ask, device, planned

GPU = """
[[accelerator]]
id = "newcard-64"
name = "New Card 64GB"
vendor = "nvidia"
kind = "gpu"
architecture = "hopper"
compute_capability = "9.0"
memory = "64 GB"
bandwidth = "2.5 TB/s"
fp32 = "50 TFLOP/s"
bf16 = "600 TFLOP/s"
fp16 = "600 TFLOP/s"
fp8 = "1200 TFLOP/s"
int8 = "1200 TFLOP/s"
native = ["bf16", "fp16", "fp8", "int8"]
pcie = "5.0x16"
source = "a data sheet"
confidence = "A"
"""
MODEL = """
[[model]]
id = "someone/New-13B"
family = "new"
architecture = "LlamaForCausalLM"
attention = "gqa"
layers = 40
hidden = 5120
heads = 40
kv_heads = 8
head_dim = 128
intermediate = 13824
vocab = 128256
max_position = 32768
tied = false
total_params = 1.37e10
source = "its config.json"
confidence = "A"
"""


def test_a_new_gpu_and_a_new_model_are_planned_from_two_files(tmp_path: Path) -> None:
    for folder, name, text in (("accelerators", "new.toml", GPU), ("models", "new.toml", MODEL)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(text)
    facts = load(overlay=tmp_path)
    plan = planned(ask("someone/New-13B", device("newcard-64", 2, usd_per_hour=1.5)), facts)
    assert plan.choice is not None
    assert plan.choice.pools[0].accelerator == "newcard-64"
    assert plan.catalog_digest != load().digest
