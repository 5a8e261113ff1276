"""llama-server's compute buffer on a CPU: what builds logged, and what today's reserves for models of any width."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from planner import memory
from planner.observe import formats
from planner.observe.beside import compared
from planner.observe.deployment import Said, deployment
from planner.observe.observed import observations
from planner.oracles import outline
from planner.work import Layout, shape
from tests.memory.offloaded import LLAMA
from tests.plan.asking import catalog
from tests.tools.llamacpp import llamacpp

LOGS = Path(__file__).parents[1] / "observe" / "logs"
SMALL = "HuggingFaceTB/SmolLM2-135M-Instruct"
MIB = 2.0**20


@pytest.mark.parametrize(
    ("log", "within"),
    [("llama-server-0.3.36", 0.002), ("llama.cpp-b10068", 0.002), ("llama.cpp-b4798", 0.03), ("llama.cpp-b8672", 0.06)],
)
def test_builds_before_and_after_logits_per_slot(log: str, within: float) -> None:
    """14.51 MiB after 102.51 for the same start: the law has both."""
    reading = formats.read((LOGS / f"{log}.log").read_bytes(), log)
    version = log.rpartition("-")[2]
    said = Said(model=SMALL, accelerator="desktop-ddr5", lane="gguf:Q4_1", engine_version=version)
    about = deployment(reading, said, catalog())
    (row,) = (row for row in observations([reading], about) if row.metric == "compute_buffer_mib")
    (found,) = compared([row], catalog())
    assert found.predicted == pytest.approx(row.value, rel=within)


def law(name: str, context: int, slots: int, chunk: int) -> float:
    """MiB of llama-server with nothing but a CPU."""
    fixed = memory.accounting(catalog().engine("llama.cpp"), "cpu")
    sizes = (context / slots, float(chunk), float(slots))
    return (
        memory.llamacpp_graph_bytes(shape(catalog().model(name)), Layout(tensor=1.0, pipeline=1.0), fixed, sizes) / MIB
    )


def test_more_slots_need_more_logits_and_never_more_than_a_micro_batch() -> None:
    sizes = [law(LLAMA, 2048 * slots, slots, 512) for slots in (1, 64, 256, 512, 1024)]
    assert sizes == sorted(sizes)
    assert sizes[-1] == sizes[-2]
    assert sizes[-1] > 2 * sizes[0]


@pytest.mark.slow
@pytest.mark.parametrize("start", [(2048, 1, 512), (4096, 4, 512), (2048, 2, 256)], ids=str)
@pytest.mark.parametrize(
    ("name", "above"),
    [(LLAMA, 0.001), ("meta-llama/Llama-3.2-1B-Instruct", 0.001), ("Qwen/Qwen3-8B", 0.001), ("Qwen/Qwen3-0.6B", 0.08)],
)
def test_llama_server_reserves_what_the_law_says(
    name: str, above: float, start: tuple[int, int, int], tmp_path: Path
) -> None:
    context, slots, chunk = start
    path = outline.write(replace(catalog().model(name), id=name), "Q8_0", tmp_path / "outline.gguf")
    seen = reserved(path, {"-c": context, "-np": slots, "-ub": chunk, "-b": chunk}, tmp_path / "log")
    assert -0.001 < law(name, context, slots, chunk) / seen - 1 < above


def reserved(path: Path, flags: dict[str, Any], log: Path) -> float:
    """MiB that llama-server prints before it looks at the weights, which are a hole."""
    words = [str(word) for pair in flags.items() for word in pair]
    program = str(llamacpp().built("llama-server"))
    more = ["--no-warmup", "-lv", "4", "--fit", "off", "-fa", "on", "--device", "none", "-ngl", "0", "--no-repack"]
    with log.open("wb") as out:
        server = subprocess.Popen([program, "-m", str(path), *words, *more, "--port", "0"], stdout=out, stderr=out)
        try:
            for _ in range(600):
                found = re.search(rb"CPU compute buffer size = +([\d.]+)", log.read_bytes())
                if found or server.poll() is not None:
                    break
                time.sleep(0.1)
        finally:
            server.kill()
            server.wait()
    assert found, log.read_text(errors="replace")[-2000:]
    return float(found[1])
