"""How long tools take: rates of one trial, and how far they may be off. Seconds, bytes, parameters, tokens.

The trial: SmolLM2-135M on two cores of an EPYC without a GPU, llm-compressor 0.14.0.1, llama.cpp of llama-cpp-python
0.3.36, November 2026; its table stands in docs/decisions/0031. Carried to another size, each is assumed.
"""

from __future__ import annotations

from planner.plan import Estimate
from planner.spread import between

DOUBT = 4.0
"""Factor either way (assumed): one model, one machine."""
GPU_FACTOR = 200.0
"""By which a GPU quantizes and scores faster than those two cores (assumed)."""
START_S = 6.0
"""Of a process that imports torch and a model: 6 s around a one-shot of 0.6 s."""
DATA_FREE = 4.5e-9
"""Seconds per parameter to round: 0.6 s."""
PER_TOKEN = {
    "": 7.6e-12, "nvfp4": 1.3e-11, "gptq": 3.3e-11, "smoothquant": 4.8e-11, "awq": 1.1e-10, "autoround": 1.1e-10,
}  # fmt: skip
"""Seconds per parameter and token of calibration: 64 x 256 tokens in 16.9, 27.9 and 107 s (static FP8, NVFP4,
SmoothQuant with GPTQ), 32 x 256 in 36.5 and 124.6 s (GPTQ, AWQ). AutoRound was not tried: as AWQ, assumed."""
SCORED = {"transformers": 1.8e-11, "llama.cpp": 9.4e-12}
"""Seconds per parameter and token for log-probabilities: 8 x 512 tokens in 3 to 22 s, 20 x 512 in 13 s."""
WRITTEN = {"transformers": 2.4e-10, "llama.cpp": 1.2e-10}
"""Seconds per parameter and token of an answer, eight side by side (assumed)."""
IMPORTANCE = 8.6e-12
"""The same of llama-imatrix: 40 x 512 tokens in 23.7 s."""
CONVERTED = 2.0e-8
"""Seconds per byte of convert_hf_to_gguf.py: 6.4 to 17.2 s for 271 MB, most of it start-up."""
BLOCKS = {"IQ": 1.44e-7, "Q8_0": 9e-9, "": 4.1e-8}
"""Seconds per parameter of llama-quantize: IQ4_XS 19.5 s, Q8_0 1.2 s, K-quants 4.4 to 7.2 s."""
EXAMINED = 1.3e-8
"""Seconds per byte of a quantized checkpoint that is looked into with numpy: 1.5 s for 113 MB in 210 small weights."""
HASHED = 1e9
"""Bytes hashed per second (assumed)."""


def about(seconds: float) -> Estimate:
    """An estimate from these rates."""
    return between(seconds / DOUBT, seconds, seconds * DOUBT, "assumed", "s")


def fetched(size: float, network: float) -> Estimate:
    """A repository over a network of so many bytes a second, then hashed."""
    return about(size / network + size / HASHED)


def found(size: float) -> Estimate:
    """Files that are here already, hashed."""
    return about(size / HASHED)


def rounded(params: float, gpus: int) -> Estimate:
    """A one-shot from the weights alone."""
    return about(START_S + params * DATA_FREE / _faster(gpus))


def calibrated(params: float, tokens: float, kind: str, gpus: int) -> Estimate:
    """A one-shot over so many tokens; `kind` = the slowest modifier, "" for plain observers."""
    return about(START_S + params * (DATA_FREE + tokens * PER_TOKEN[kind]) / _faster(gpus))


def tokenized(tokens: float) -> Estimate:
    """Text to token ids: a process's start, and 100,000 tokens a second (assumed)."""
    return about(START_S + tokens / 1e5)


def scored(params: float, tokens: float, backend: str) -> Estimate:
    """Log-probabilities of every position on a CPU."""
    return about(START_S + params * tokens * SCORED[backend])


def answered(params: float, tokens: tuple[float, float], backend: str, gpus: int) -> Estimate:
    """Prompts read and answers written, in tokens; answers are taken to be as long as they may be."""
    prompt, answer = tokens
    return about(START_S + params * (prompt * SCORED[backend] + answer * WRITTEN[backend]) / _faster(gpus))


def converted(size: float) -> Estimate:
    """A checkpoint of `size` bytes to 16-bit GGUF."""
    return about(START_S + size * CONVERTED)


def importance(params: float, tokens: float, gpus: int) -> Estimate:
    """An importance matrix."""
    return about(1.0 + params * tokens * IMPORTANCE / _faster(gpus))


def blocked(params: float, kind: str) -> Estimate:
    """llama-quantize to a type; it runs on the CPU."""
    rate = next(rate for prefix, rate in BLOCKS.items() if kind.startswith(prefix))
    return about(1.0 + params * rate)


def examined(size: float) -> Estimate:
    """A look into the files of a checkpoint."""
    return about(1.0 + size * EXAMINED)


def _faster(gpus: int) -> float:
    return GPU_FACTOR if gpus else 1.0
