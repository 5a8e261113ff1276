"""The interpreters that the scorer runs in, and the converter of model folders: made once, beside the other tools."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.tools import llamacpp
from tests.tools.environment import environment, run, tool

SCRIPT = Path(__file__).parents[2] / "planner" / "workers" / "score.py"
TIMEOUT_S = 900.0


def binding() -> Path:
    """An interpreter with llama-cpp-python over llama.cpp's own build: nothing is compiled."""
    return interpreter("llama.cpp")


def compressor() -> Path:
    """llm-compressor's interpreter: torch, transformers and compressed-tensors."""
    return interpreter("llm-compressor")


def interpreter(tool_id: str) -> Path:
    found = tool(tool_id).python
    assert found is not None
    return found


def score(backend: str, *words: object) -> dict[str, Any]:
    """What `score.py` says it did. Raises RuntimeError with what it wrote to stderr where it refuses."""
    python = binding() if backend == "llama.cpp" else compressor()
    env = os.environ | {"LLAMA_CPP_LIB_PATH": str(llamacpp.llamacpp().bin), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [str(python), str(SCRIPT), *map(str, words)],
        env=env, capture_output=True, text=True, check=False, timeout=TIMEOUT_S,
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-2000:])
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def convert(folder: Path, file: Path) -> None:
    """llama.cpp's own converter, in 32 bits: the converter asks for sentencepiece, whatever the tokenizer is."""

    def install(target: Path) -> None:
        run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", target / "lib", "sentencepiece")

    library = environment("sentencepiece", install) / "lib"
    script = llamacpp.llamacpp().source / "convert_hf_to_gguf.py"
    run(compressor(), script, folder, "--outtype", "f32", "--outfile", file, PYTHONPATH=str(library))
