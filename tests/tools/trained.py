"""A full-precision Llama that is really trained, kept beside the tools: minutes once, then a folder.

It is made anew where the script, the text that this Python has, or what trains it differs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.tools import trained_llama
from tests.tools.environment import environment, run
from tests.tools.scorer import compressor

SCRIPT = Path(trained_llama.__file__)
PACKAGES = ("torch", "transformers", "sentencepiece")
THREADS = "2"
TIMEOUT_S = 1800.0


@dataclass(frozen=True)
class Trained:
    """The model's folder, text that it never saw, and chats of what it saw."""

    folder: Path

    @property
    def model(self) -> Path:
        return self.folder / "model"

    @property
    def held_out(self) -> Path:
        return self.folder / "held-out.txt"

    @property
    def chats(self) -> Path:
        return self.folder / "chats.jsonl"

    @property
    def facts(self) -> dict[str, Any]:
        """Parameters, steps, seconds, perplexities."""
        found: dict[str, Any] = json.loads((self.folder / "trained.json").read_text())
        return found


def trained() -> Trained:
    """The model, trained when it is not there yet."""

    def make(folder: Path) -> None:
        offline = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": THREADS}
        run(compressor(), SCRIPT, folder, timeout_s=TIMEOUT_S, **offline)

    return Trained(environment(f"trained-llama-{key()}", make))


def key() -> str:
    """Of everything that the weights depend on, but for the machine's own arithmetic."""
    parts = [SCRIPT.read_text(), trained_llama.corpus_hash(), *versions(compressor())]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def versions(python: Path) -> Iterator[str]:
    """Packages of an interpreter that is not started for this."""
    for name in PACKAGES:
        found = sorted(python.parents[1].glob(f"lib/python*/site-packages/{name}-*.dist-info"))
        assert found, f"{python} has no {name}"
        yield found[-1].name
