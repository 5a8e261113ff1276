"""The classes by which fitted speed parameters deviate: engine generation, kernel path, backend, architecture."""

from __future__ import annotations

import re
from typing import Literal

from msgspec import Struct

from catalog.accelerator import Accelerator
from catalog.engine import Kernel

Family = Literal["serving", "llama.cpp"]


def generation_of(engine: str, version: str) -> str:
    """The generation of an engine whose host code and kernels share a fit; a blank version is the middle one."""
    number = re.search(r"(\d+)\.(\d+)", version)
    minor = int(number[2]) if number else 0
    build = re.match(r"b(\d+)", version)
    if engine == "vllm":
        late = number is not None and (int(number[1]) > 0 or minor >= 14)
        return "vllm-2026" if late else "vllm-2024" if number and minor < 8 else "vllm-2025"
    if engine == "tensorrt-llm":
        old = "2024" in version or re.match(r"0\.1|TensorRT (9|10\.[12])\b", version)
        return "tensorrt-llm-2024" if old else "tensorrt-llm-2025"
    if engine == "llama.cpp":
        first = int(build[1]) if build else 0
        return (
            "llama.cpp-2024"
            if "2024" in version or 0 < first < 4500
            else "llama.cpp-2025"
            if 0 < first < 7000
            else "llama.cpp-2026"
        )
    return f"{engine}-2025"


class Setup(Struct, frozen=True, kw_only=True):
    """What decides the classes of a case beside its device and kernel."""

    engine: str
    generation: str
    lane: str
    moe: bool
    backend: str = ""
    """llama.cpp: cuda, hip, vulkan, metal, cpu; empty for the device's usual one."""
    flash_attention: bool = True
    hipblaslt: bool | None = None


def family_of(engine: str) -> Family:
    """llama.cpp runs one sequence at a time on kernels of its own; the others batch."""
    return "llama.cpp" if engine == "llama.cpp" else "serving"


def classes(setup: Setup, kernel: Kernel, device: Accelerator) -> tuple[str, ...]:
    """The `level=class` entries that apply; the file decides which parameters they move."""
    levels = _llama_levels(setup, device) if setup.engine == "llama.cpp" else _serving_levels(setup, kernel, device)
    return tuple(f"{level}={name}" for level, name in levels.items() if name)


def architecture_family(device: Accelerator) -> str:
    """`cdna` of cdna3, `apple` of apple-m4."""
    return re.split(r"[-\d]", device.architecture)[0]


def halves_accumulation(device: Accelerator) -> bool:
    """GeForce cards run the matrix units at half rate when they accumulate in fp32, the rate the catalogue states."""
    return device.name.startswith("GeForce")


DUAL_ISSUE = ("rdna3", "rdna3.5", "rdna4", "cdna3", "cdna4")
"""AMD architectures whose fp32 rate counts two instructions at once; integer instructions go one by one."""


def halves_integers(device: Accelerator) -> bool:
    """Integer instructions run at half the fp32 rate, and block formats are unpacked with integers.

    CUDA programming guide, arithmetic throughput: 64 integer lanes beside 128 fp32 lanes from capability 8.6 to 10; as
    many of both before (7.0 to 8.0) and from 12.0 on.
    """
    capability = device.cuda_capability
    return 8.6 <= capability < 12.0 if capability is not None else device.architecture in DUAL_ISSUE


OWN_INSTRUCTIONS = (9.0, 12.0)
"""CUDA capabilities whose full matrix rate needs instructions of their own (wgmma, tcgen05), which Marlin does not use;
from 12.0 on GeForce, RTX PRO and GB10 run Ampere's instructions again."""


def _serving_levels(setup: Setup, kernel: Kernel, device: Accelerator) -> dict[str, str]:
    capability = device.cuda_capability or 0
    older = kernel.name.startswith("marlin") and OWN_INSTRUCTIONS[0] <= capability < OWN_INSTRUCTIONS[1]
    return {
        "engine": setup.engine,
        "generation": setup.generation,
        "path": kernel.path,
        "architecture": architecture_family(device),
        "accumulation": "halved" if halves_accumulation(device) else "",
        "experts": f"{setup.generation}/{kernel.path}" if setup.moe else "",
        "instructions": "ampere on newer" if older else "",
        "unpacking": "in the kernel" if kernel.path.endswith("weight-only") else "",
    }


def _llama_levels(setup: Setup, device: Accelerator) -> dict[str, str]:
    usual = {"nvidia": "cuda", "amd": "hip", "apple": "metal"}.get(device.vendor, "vulkan")
    backend = setup.backend or ("cpu" if device.kind == "cpu" else usual)
    age = setup.generation[-4:]
    return {
        "backend": backend,
        "weights": _weights(setup.lane),
        "attention": f"{backend}/{'flash' if setup.flash_attention else 'plain'}/{age}",
        "blas": {True: "hipblaslt", False: "rocblas", None: ""}[setup.hipblaslt] if backend == "hip" else "",
        "age": age,
        "architecture": architecture_family(device),
    }


def _weights(lane: str) -> str:
    """Blocks of three bits and fewer take more operations per byte."""
    if lane in ("gguf:F16", "gguf:BF16"):
        return "16-bit"
    return "small blocks" if re.search(r":(UD-)?I?Q[123]_", lane) else "blocks"
