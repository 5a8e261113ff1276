"""Starts of llama.cpp whose buffers llama-fit-params has counted: eleven architectures, all kinds of flags.

`fit_params.csv` keeps what the tool of 0.3.36 printed for each, on stand-ins for GPUs (rpc-server).
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path

from planner import memory
from planner.offload import Buffers, Offload, Split, Start
from planner.work import shape
from tests.plan.asking import catalog

RECORDED = Path(__file__).with_name("fit_params.csv")
MIB = 2**20
Counted = tuple[int, int, int]
"""Model, cache, compute in whole MiB."""


@dataclass(frozen=True)
class Case:
    """One start."""

    model: str
    kind: str
    start: Start
    split: Split = field(default_factory=Split)

    @property
    def flags(self) -> tuple[str, ...]:
        start, split = self.start, self.split
        cache = {2.0: "f16", 8.5 / 8: "q8_0"}[start.cell_bytes]
        flags = ["-c", f"{start.context:.0f}", "-fa", "on" if start.fused else "off", "-ctk", cache, "-ctv", cache]
        flags += ["-np", str(start.slots), "-ub", f"{start.chunk:.0f}", "-b", "2048"]
        flags += ["-ngl", str(split.layers)] if split.layers is not None else []
        flags += ["-ncmoe", str(split.cpu_experts)] if split.cpu_experts else []
        return (*flags, *(("-ts", ",".join(f"{part:g}" for part in split.shares)) if len(split.shares) > 1 else ()))

    @property
    def name(self) -> str:
        return f"{self.model.rpartition('/')[2]} {self.kind} {' '.join(self.flags)}"

    def ours(self) -> list[Buffers]:
        model = catalog().model(self.model)
        fixed = memory.accounting(catalog().engine("llama.cpp"), None)
        return Offload(model, self.kind, shape(model), fixed, self.split).buffers(self.start)


LLAMA, MISTRAL = "meta-llama/Llama-3.1-8B-Instruct", "mistralai/Mistral-Small-3.2-24B-Instruct-2506"
EXPERTS, GEMMA, OSS = "Qwen/Qwen3-30B-A3B", "google/gemma-3-27b-it", "openai/gpt-oss-20b"
LATENT, HYBRID, DELTA = "deepseek-ai/DeepSeek-V2-Lite-Chat", "Qwen/Qwen3-Next-80B-A3B-Instruct", "Qwen/Qwen3.5-27B"
CASES = (
    Case(LLAMA, "Q4_K_M", Start(context=8192)),
    Case(LLAMA, "Q4_K_M", Start(context=8192, fused=False)),
    Case(LLAMA, "Q4_K_M", Start(context=32768, slots=4)),
    Case(LLAMA, "IQ4_XS", Start(context=32768, cell_bytes=8.5 / 8)),
    Case(LLAMA, "Q4_K_M", Start(context=16384, chunk=2048)),
    Case(LLAMA, "Q4_K_M", Start(context=8192), Split(layers=20)),
    Case(LLAMA, "Q4_K_M", Start(context=8192, fused=False), Split(layers=0)),
    Case(LLAMA, "Q4_K_M", Start(context=16384), Split(shares=(3, 1))),
    Case(LLAMA, "Q4_K_M", Start(context=16384, fused=False), Split(shares=(1, 1))),
    Case(LLAMA, "Q6_K", Start(context=16384), Split(shares=(1, 1), layers=25)),
    Case(MISTRAL, "Q4_K_M", Start(context=131072)),
    Case(MISTRAL, "Q4_K_M", Start(context=32768, fused=False)),
    Case(EXPERTS, "Q4_K_M", Start(context=32768)),
    Case(EXPERTS, "Q4_K_M", Start(context=32768, fused=False)),
    Case(EXPERTS, "Q4_K_M", Start(context=16384), Split(cpu_experts=24)),
    Case(EXPERTS, "Q4_K_M", Start(context=16384), Split(cpu_experts=48)),
    Case(GEMMA, "Q4_K_M", Start(context=32768)),
    Case(GEMMA, "Q4_K_M", Start(context=32768, fused=False), Split(shares=(1, 1))),
    Case(OSS, "MXFP4", Start(context=131072)),
    Case(OSS, "MXFP4", Start(context=65536, slots=8, cell_bytes=8.5 / 8)),
    Case(OSS, "MXFP4", Start(context=8192, fused=False), Split(layers=12)),
    Case(LATENT, "Q4_K_M", Start(context=32768)),
    Case(LATENT, "Q4_K_M", Start(context=32768, fused=False)),
    Case(HYBRID, "Q4_K_M", Start(context=65536)),
    Case(HYBRID, "Q4_K_M", Start(context=65536, slots=4)),
    Case(HYBRID, "Q4_K_M", Start(context=16384), Split(shares=(1, 1), cpu_experts=30)),
    Case(DELTA, "Q6_K", Start(context=32768)),
)
UNSEEN = (
    Case("Qwen/Qwen3-0.6B", "Q8_0", Start(context=40960)),
    Case("Qwen/Qwen2.5-72B-Instruct", "Q4_K_M", Start(context=32768), Split(shares=(1, 1))),
    Case("meta-llama/Llama-3.1-70B-Instruct", "IQ2_XS", Start(context=8192, fused=False), Split(layers=60)),
    Case("mistralai/Mixtral-8x7B-Instruct-v0.1", "Q5_K_M", Start(context=32768), Split(shares=(2, 1))),
    Case("google/gemma-3-4b-it", "Q4_0", Start(context=8192, slots=2)),
    Case("openai/gpt-oss-120b", "MXFP4", Start(context=131072, slots=2), Split(cpu_experts=20)),
    Case("deepseek-ai/DeepSeek-V3", "Q2_K", Start(context=16384), Split(shares=(1, 1))),
    Case("zai-org/GLM-4.5-Air", "Q4_K_S", Start(context=65536), Split(cpu_experts=45)),
    Case("Qwen/Qwen3.5-397B-A17B", "Q3_K_M", Start(context=32768, slots=2, chunk=1024)),
    Case("HuggingFaceTB/SmolLM2-1.7B-Instruct", "Q4_K_M", Start(context=8192, fused=False)),
)
"""Models that no formula was formed on, but two: DeepSeek-V3 showed the width of latent queries, GLM-4.5-Air that the
host uses the masks' room again."""


def recorded() -> dict[str, list[Counted]]:
    found: dict[str, list[Counted]] = {}
    with RECORDED.open() as file:
        for row in csv.DictReader(file):
            counted = int(row["model_mib"]), int(row["cache_mib"]), int(row["compute_mib"])
            found.setdefault(row["case"], []).append(counted)
    return found


def near(own: float, theirs: int, share: float) -> bool:
    """Within a share of what was printed in whole MiB."""
    mib = own / MIB
    return (theirs - 1) * (1 - share) <= mib <= (theirs + 1) * (1 + share)
