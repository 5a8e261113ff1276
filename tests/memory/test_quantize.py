"""Bytes of GGUF files held to llama-quantize: its plan for every tensor, and the files that it writes."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import gguf
import pytest

from catalog.model import Model
from planner.lanes import mixture, named
from planner.lanes.gguf import listed
from probes import gguf_file
from tests.tools.gguf_models import PACKAGES, gguf_model
from tests.tools.llamacpp import llamacpp

pytestmark = pytest.mark.slow

TYPES = (
    "F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q5_1", "Q5_0", "Q4_K_M", "Q4_K_S", "Q4_1", "Q4_0", "IQ4_NL",
    "IQ4_XS", "MXFP4", "Q3_K_L", "Q3_K_M", "Q3_K_S", "IQ3_M", "IQ3_S", "IQ3_XS", "IQ3_XXS", "Q2_K", "Q2_K_S", "IQ2_M",
    "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ1_M", "IQ1_S", "TQ1_0", "TQ2_0", "Q2_0",
)  # fmt: skip
WRITTEN = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_K_S", "Q4_0", "Q3_K_M", "Q2_K", "IQ4_XS", "MXFP4")
"""Types that need no importance matrix and seconds to write."""
SMALL = "smollm2-135m"
LINE = re.compile(r"\] (\S+) +- \[.*type = +(\S+), size = .*?(?:-> .*\((\S+)\))?$")


@cache
def read(path: Path) -> Model:
    """Reading a tokenizer of 262,144 words takes seconds."""
    return gguf_file.read(path, {})


def ours(path: Path, kind: str) -> dict[str, tuple[str, float]]:
    """Every tensor of the file with the block and the bytes that it gets."""
    model = read(path)
    assigned = mixture.formats(listed(model), kind, named.facts(model), imatrix=False)
    return {each.name: (block.lower(), each.bytes_as(block)) for each, block in assigned}


def quantize(path: Path, kind: str, *more: str) -> str:
    name = "MXFP4_MOE" if kind == "MXFP4" else kind
    flags = ("--allow-requantize", *(() if more else ("--dry-run",)))
    command = (llamacpp().program("llama-quantize"), *flags, path, *more, name)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout + done.stderr


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("name", PACKAGES)
def test_every_tensor_gets_the_block_that_llama_quantize_plans(name: str, kind: str) -> None:
    path = gguf_model(name)
    lines = [found for line in quantize(path, kind).splitlines() if (found := LINE.search(line))]
    planned = {found[1]: (found[3] or found[2]).lower() for found in lines}
    assert planned == {tensor: block for tensor, (block, _) in ours(path, kind).items()}


def in_turn() -> Iterator[Any]:
    """Every type of the small model; of the other every third, and the rest where there is more time."""
    for name, place in product(PACKAGES, range(len(WRITTEN))):
        marks = [pytest.mark.long] if name != SMALL and place % 3 else []
        yield pytest.param(name, WRITTEN[place], marks=marks)


@pytest.mark.parametrize(("name", "kind"), tuple(in_turn()))
def test_a_written_file_has_our_bytes(name: str, kind: str, tmp_path: Path) -> None:
    path, written = gguf_model(name), tmp_path / "written.gguf"
    quantize(path, kind, str(written))
    tensors: list[Any] = gguf.GGUFReader(written).tensors
    assert sum(int(tensor.n_bytes) for tensor in tensors) == sum(size for _, size in ours(path, kind).values())
