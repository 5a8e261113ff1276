"""How to make a lane when no published checkpoint fits: algorithm, groups, what stays 16-bit, what to calibrate on.

The numbers are the defaults of llm-compressor 0.14 and llama.cpp's tools; domain, language and chat format follow the
workload, because a recipe calibrated on other text protects other weights.
"""

from __future__ import annotations

from collections.abc import Mapping

from catalog import tensors
from catalog.model import Model
from planner import lanes
from planner.lanes import Method
from planner.plan import Calibration, Make
from planner.rules.recipes import LENGTH, SAMPLES
from planner.rules.rule import Pairing

ASKED = "asked for by name"
CHUNKS = 128
"""Of 512 tokens for an importance matrix (assumed: llama.cpp's examples use 100 and more)."""
DATA_FREE = ("FP8_DYNAMIC", "FP8_BLOCK", "W8A16", "NVFP4A16", "MXFP4", "MXFP4A16", "MXFP8")
"""Schemes that llm-compressor 0.14 makes from the weights alone (its data-free pipeline)."""
IMATRIX_BELOW = 5.0
"""Bits of a GGUF type below which an importance matrix pays: Llama-3-8B Q4_K_S +2.9 % perplexity with and +4.3 %
without, Q3_K_M +8.1 % and +10.5 %, Q2_K +39 % and +57 %; Q5 and above print no difference (llama.cpp README)."""
PUBLIC = {
    "chat": "ultrachat_200k",
    "instruction": "ultrachat_200k",
    "multilingual": "ultrachat_200k",
    "code": "evolcodealpaca",
    "": "open_platypus",
}
"""Text of the domain where one has none of one's own: data sets registered in llm-compressor 0.14 that no gate of ours
is measured on (gsm8k and wikitext are registered too)."""


def make(pairing: Pairing) -> Make | None:
    """What has to be done for this lane; None where a checkpoint is taken as published."""
    if pairing.artifact is not None:
        return None
    method, model = pairing.method, pairing.model
    online = method.recipe.online
    return Make(
        tool=method.tool,
        scheme=method.scheme,
        because=_because(pairing),
        algorithm=method.recipe.algorithm,
        symmetric=method.recipe.symmetric,
        group_size=lanes.group_size(method, model),
        ignore=() if online or method.tool != "llm-compressor" else ignored(model),
        calibration=None if online else calibration(pairing),
        imatrix=method.tool == "llama-quantize" and pairing.lane.bits < IMATRIX_BELOW,
        host_ram_bytes=0.0 if online else 2.0 * pairing.params,
    )


def _because(pairing: Pairing) -> str:
    lora = pairing.settled.load.lora
    if lora is not None and lora.merged:
        return "the adapter is merged into the 16-bit weights first: no published checkpoint contains it"
    if pairing.method.recipe.online:
        return "quantized by the engine while it loads"
    if pairing.passed_over is not None:
        algorithm = pairing.method.recipe.algorithm
        return f"{pairing.passed_over.repo} is expected to lose more than is tolerated, {algorithm} less"
    return "no trusted checkpoint is published"


def ignored(model: Model) -> tuple[str, ...]:
    """Layers that stay 16-bit: llm-compressor quantizes the output matrix and routers unless they are named."""
    routers = ("re:.*mlp.gate$",) if model.moe is not None else ()
    vision = ("re:.*vision.*",) if model.extra_params else ()
    return ("lm_head", *routers, *vision)


def calibration(pairing: Pairing) -> Calibration | None:
    """What to calibrate on; None for schemes that are made from the weights alone."""
    load = pairing.settled.load
    return calibrated_on(pairing.method, pairing.lane.bits, load.mix, load.languages)


def calibrated_on(
    method: Method, bits: float, mix: Mapping[str, float], languages: Mapping[str, float]
) -> Calibration | None:
    """The same for any method of a lane of so many bits, under shares of task families and of languages."""
    gguf = method.tool == "llama-quantize"
    if method.scheme in DATA_FREE or method.tool not in ("llm-compressor", "llama-quantize"):
        return None
    if gguf and bits >= IMATRIX_BELOW:
        return None
    return Calibration(
        domains=dict(sorted(mix.items())),
        languages=dict(sorted(languages.items())),
        chat_format=chat_format(mix),
        samples=CHUNKS if gguf else SAMPLES,
        sequence_length=512 if gguf else LENGTH,
        public=public(mix),
    )


def another(method: Method, model: Model, mix: Mapping[str, float], languages: Mapping[str, float]) -> Make:
    """A method of the lane that the user asked for in place of the plan's."""
    return Make(
        tool=method.tool,
        scheme=method.scheme,
        because=ASKED,
        algorithm=method.recipe.algorithm,
        symmetric=method.recipe.symmetric,
        group_size=lanes.group_size(method, model),
        ignore=ignored(model) if method.tool == "llm-compressor" else (),
        calibration=calibrated_on(method, IMATRIX_BELOW, mix, languages),
        host_ram_bytes=2.0 * tensors.params(tensors.inventory(model)),
    )


def chat_format(mix: Mapping[str, float]) -> bool:
    """Whether the text goes through the chat template: wherever the model answers people or calls tools."""
    return any(mix.get(family, 0.0) > 0 for family in ("chat", "instruction", "tool_use", "multilingual"))


def public(mix: Mapping[str, float]) -> tuple[str, ...]:
    """Public sets of the mix's domains, the largest share first."""
    ordered = sorted(mix, key=lambda family: (-mix[family], family))
    return tuple(dict.fromkeys(PUBLIC.get(family, PUBLIC[""]) for family in ordered))


def kind_of_text(make: Make) -> str:
    """What the calibration text should be like, in words."""
    asked = make.calibration
    if asked is None:
        return "of your own kind"
    shares = ", ".join(f"{share:.0%} {family}" for family, share in asked.domains.items())
    tongues = "" if set(asked.languages) == {"en"} else f" in {', '.join(sorted(asked.languages))}"
    form = " through the chat template" if asked.chat_format else ""
    return f"of your own kind ({shares}{tongues}){form}, none of it from your evaluation"


def converting(folder: str, out: str) -> tuple[str, ...]:
    """Arguments of convert_hf_to_gguf.py for the 16-bit file."""
    return (folder, "--outtype", "f16", "--outfile", out)


def importance_text() -> Calibration:
    """What an importance matrix is measured on where the plan asks for none but the type needs one."""
    return Calibration(domains={}, languages={}, chat_format=False, samples=CHUNKS, sequence_length=512, public=())


def measuring(original: str, text: str, out: str, chunks: int | None) -> tuple[str, ...]:
    """Arguments of llama-imatrix."""
    return ("-m", original, "-f", text, "-o", out, *(("--chunks", str(chunks)) if chunks else ()))


def quantizing(original: str, out: str, kind: str, matrix: str | None) -> tuple[str, ...]:
    """Arguments of llama-quantize."""
    return (*(("--imatrix", matrix) if matrix else ()), original, out, kind)
