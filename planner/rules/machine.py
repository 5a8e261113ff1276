"""H rules about one machine as it is now: image against driver, health, what is free, what is installed."""

from __future__ import annotations

from catalog.engine import Build, Engine
from catalog.units import GIB
from planner.rules.rule import Device, Pairing, Says, Shown, rule

IN_USE = 0.05
"""Share of a device's memory that others hold before it is said."""
CAPPED = 0.98
"""Power limit over the default below which a device is slower than its data sheet."""


@rule("H113", "refuse")
def not_compiled_for_the_device(case: Pairing) -> Says | None:
    """Refuses an engine version of which no published image has machine code for the device.

    Why: it would stop with "no kernel image is available for execution on the device", whatever its kernels declare: the
    images of vLLM 0.33 are CUDA 13 builds, which dropped compute capability 7.0 (V100) and older.
    Articles: A3: GGUF wins "exactly when GPUs aren't the answer". A V100 is a GPU for which vLLM 0.33 has no code;
    llama.cpp serves it (A3-117).
    Source: fat binaries of the published wheels, in the engine's data file.
    Fires: --model Qwen/Qwen3-8B --on v100-sxm2-32 --qps 0.2 --engines vllm
    Silent: --model Qwen/Qwen3-8B --on v100-sxm2-32 --qps 0.2 --engines vllm --engine-version vllm=0.19
    """
    device = case.device.accelerator
    if case.engine.made_for(device):
        return None
    builds = _builds(case.engine, case.device)
    if not builds:
        return None
    return Says(
        because=f"no image of {case.engine.id} {case.engine.version} has code for compute capability {device.compute_capability}{_instead(case)}",
        facts={"compute_capability": device.compute_capability, "images": [build.image for build in builds]},
        source=builds[0].source,
    )


@rule("H108", "refuse")
def driver_too_old(case: Pairing) -> Says | None:
    """Refuses an engine version of which no image starts with the driver that was probed, and names one that does.

    Why: CUDA 13 needs driver 580, CUDA 12 needs 525: an image that does not match the driver never starts.
    Source: NVIDIA CUDA compatibility (minor version compatibility); CUDA version of each image in the engine's data file.
    Fires: --model Qwen/Qwen3-8B --inventory examples/inventories/a100s-driver-470.json --qps 1
    Silent: --model Qwen/Qwen3-8B --inventory examples/inventories/a100s.json --qps 1
    """
    driver = case.device.driver
    if driver is None:
        return None
    made = case.engine.made_for(case.device.accelerator)
    if not made or any(build.starts_with(driver) for build in made):
        return None
    oldest = min(made, key=lambda build: build.min_driver or "")
    return Says(
        because=f"driver {driver} is older than {oldest.min_driver}, the oldest that {case.engine.id} {case.engine.version} starts with{_instead(case)}",
        facts={"driver": driver, "min_driver": oldest.min_driver, "image": oldest.image},
        source=oldest.source,
    )


@rule("H109", "warn")
def another_image_for_the_driver(case: Pairing) -> Says | None:
    """Warns where the usual image of the engine needs a newer driver than was probed, and names the one that runs.

    Why: the default image would not start; a build of the same version for an older CUDA does.
    Source: NVIDIA CUDA compatibility; images in the engine's data file.
    Fires: --model Qwen/Qwen3-8B --inventory examples/inventories/a100s-driver-550.json --qps 1
    Silent: --model Qwen/Qwen3-8B --inventory examples/inventories/a100s.json --qps 1
    """
    driver = case.device.driver
    if driver is None:
        return None
    made, runs = case.engine.made_for(case.device.accelerator), case.engine.image(case.device.accelerator, driver)
    if runs is None or runs is made[0]:
        return None
    note = f" ({runs.note})" if runs.note else ""
    return Says(
        because=f"{made[0].image} needs driver {made[0].min_driver}, this machine has {driver}: use {runs.image}{note}",
        facts={"driver": driver, "min_driver": made[0].min_driver, "image": runs.image},
        source=runs.source,
    )


@rule("H114", "warn")
def another_version_is_installed(case: Shown) -> Says | None:
    """Warns where the machine has another version of the engine than the plan is made for.

    Why: flags, kernels and memory accounting differ between versions; `engine_versions` plans for the installed one where
    its facts are known.
    Articles: A2 asks for vLLM 0.4 or later; the plan's facts are of 0.33 and say nothing of other versions (A2-091c).
    Source: the probe.
    Fires: --model Qwen/Qwen3-8B --inventory examples/inventories/h100-older-vllm.json --qps 1
    Silent: --model Qwen/Qwen3-8B --inventory examples/inventories/h100-older-vllm.json --qps 1 --engine-version vllm=0.19
    """
    machine, engine = case.pairing.device.machine, case.pairing.engine
    found = [each.version for each in machine.engines if each.id == engine.id and each.version] if machine else []
    if not found or engine.version in found:
        return None
    return Says(
        because=f"{engine.id} {', '.join(found)} is installed, the plan is made for {engine.version}",
        facts={"installed": found, "planned": engine.version},
        source="the probe",
    )


@rule("H115", "refuse")
def disk_too_small(case: Pairing) -> Says | None:
    """Refuses a checkpoint that is larger than the free disk of the probed machine.

    Why: the download would stop half way. A lane that is quantized while loading needs room for the 16-bit original.
    Source: the probe; sizes from tensor shapes.
    Fires: --model Qwen/Qwen3-32B --inventory examples/inventories/h100-small-host.json --qps 0.2
    Silent: --model Qwen/Qwen3-32B --inventory examples/inventories/h100.json --qps 0.2
    """
    machine = case.device.machine
    if machine is None:
        return None
    free = machine.host.disk_free_bytes
    original = case.artifact is None or case.lane.family == "16-bit"
    needed = case.params * (16 if original else case.lane.bits) / 8
    if free is None or needed <= free:
        return None
    return Says(
        because=f"about {needed / 1e9:.0f} GB have to be downloaded, {free / 1e9:.0f} GB of disk are free",
        facts={"needed_bytes": round(needed), "disk_free_bytes": round(free)},
        source="the probe",
    )


@rule("H116", "warn")
def host_memory_too_small_to_quantize(case: Shown) -> Says | None:
    """Warns where a lane has to be made and the probed host cannot hold the 16-bit weights meanwhile.

    Why: llm-compressor keeps the model in host memory and moves one layer at a time to the device.
    Articles: A3 has AWQ calibrate in 10-20 minutes on one GPU, GPTQ in hours. Measured for 8B: 10 and 23-30 minutes
    (derekl35). Neither article mentions host memory: the 16-bit weights and, for 70B, 4.9 GB of Hessians per layer must
    fit.
    Source: llm-compressor 0.14 sequential onloading.
    Fires: --model Qwen/Qwen3-14B --inventory examples/inventories/h100-small-host.json --qps 0.2 --lanes w4a16 --max-loss 20 --set workload.lora.merged=true
    Silent: --model Qwen/Qwen3-14B --inventory examples/inventories/h100-small-host.json --qps 0.2 --lanes fp8
    """
    machine, made = case.pairing.device.machine, case.make
    ram = machine.host.ram_bytes if machine is not None else None
    if made is None or ram is None or made.host_ram_bytes <= ram:
        return None
    return Says(
        because=f"{made.tool} keeps {made.host_ram_bytes / GIB:.0f} GiB of 16-bit weights in host memory, this machine has {ram / GIB:.0f}: make the checkpoint elsewhere",
        facts={"host_ram_bytes": round(made.host_ram_bytes), "ram_bytes": round(ram)},
        source="llm-compressor 0.14: weights stay on the CPU, one decoder layer at a time on the device",
    )


@rule("H117", "warn")
def memory_errors(case: Shown) -> Says | None:
    """Warns of a device that has counted uncorrectable memory errors since its driver was loaded.

    Why: each ended a process or spoiled its data; more tend to follow.
    Source: the probe (NVML volatile uncorrected ECC errors).
    Fires: --model Qwen/Qwen3-8B --inventory examples/inventories/a100s-errors.json --qps 1
    Silent: --model Qwen/Qwen3-8B --inventory examples/inventories/a100s.json --qps 1
    """
    counted = {str(gpu.index): gpu.uncorrected_errors for gpu in case.pairing.device.gpus if gpu.uncorrected_errors}
    if not counted:
        return None
    named = ", ".join(f"{errors} on device {index}" for index, errors in counted.items())
    return Says(
        because=f"uncorrectable memory errors: {named}", facts={"uncorrected_errors": counted}, source="the probe"
    )


@rule("H118", "refuse")
def waits_for_a_reset(case: Pairing) -> Says | None:
    """Refuses a device that waits for a reset: pages to retire, rows to remap, or a remapping that failed.

    Why: until then faulty memory stays in use; after a failed remapping the device must be replaced.
    Source: NVIDIA GPU memory error management (row remapping, page retirement).
    Fires: --model Qwen/Qwen3-8B --inventory examples/inventories/a100-needs-reset.json --qps 1
    Silent: --model Qwen/Qwen3-8B --inventory examples/inventories/a100s-errors.json --qps 1
    """
    if not case.device.gpus:
        return None
    waiting = [gpu.index for gpu in case.device.gpus if gpu.needs_reset]
    if not waiting:
        return None
    return Says(
        because=f"device {', '.join(map(str, waiting))} has memory to retire or remap: reset or replace it first",
        facts={"waiting": waiting},
        source="the probe",
    )


@rule("H119", "warn")
def power_is_capped(case: Shown) -> Says | None:
    """Warns of a power limit below the device's default: prompts and large batches run slower than estimated.

    Why: the estimates are fitted to devices at their default limit.
    Source: the probe.
    Fires: --model Qwen/Qwen3-8B --inventory examples/inventories/h100-capped.json --qps 1
    Silent: --model Qwen/Qwen3-8B --inventory examples/inventories/h100.json --qps 1
    """
    for gpu in case.pairing.device.gpus:
        limit, usual = gpu.power_limit_w, gpu.power_default_w
        if limit is not None and usual is not None and limit < CAPPED * usual:
            return Says(
                because=f"device {gpu.index} is limited to {limit:.0f} W of {usual:.0f} W: expect less than estimated",
                facts={"power_limit_w": limit, "power_default_w": usual},
                source="the probe",
            )
    return None


@rule("H124", "note")
def others_hold_memory(case: Shown) -> Says | None:
    """Notes memory that other processes hold, or that is reserved: the plan uses what is free.

    Why: vLLM refuses to start when less is free than the share it was told to claim.
    Source: the probe, or the request's `reserved`; vllm v1/worker/gpu_worker.py init_device.
    Fires: --model Qwen/Qwen3-8B --on h100-sxm5-80 --qps 0.2 --set hardware.reserved.memory_gib=20
    Silent: --model Qwen/Qwen3-8B --inventory examples/inventories/h100.json --qps 0.2
    """
    device = case.pairing.device
    if device.memory is None or device.free is None or device.free >= (1 - IN_USE) * device.memory:
        return None
    holders = sorted({process.name or str(process.pid) for gpu in device.gpus for process in gpu.processes})
    by = f" by {', '.join(holders)}" if holders else ""
    return Says(
        because=f"{(device.memory - device.free) / GIB:.1f} of {device.memory / GIB:.1f} GiB are taken{by}: planned on the rest",
        facts={"free_bytes": round(device.free), "memory_bytes": round(device.memory)},
        source="the probe" if device.machine is not None else "the request",
    )


@rule("H125", "note")
def memory_is_shared_with_the_system(case: Shown) -> Says | None:
    """Notes a device that shares its memory with the CPU: what the system takes is missing.

    Why: GB10, Jetson and Apple report no memory of their own; vLLM then takes what the system calls available.
    Source: vllm 0.33 platforms: on unified-memory devices free = available host memory.
    Fires: --model Qwen/Qwen3-8B --on gb10 --qps 0.1
    Silent: --model Qwen/Qwen3-8B --on l4 --qps 0.1
    """
    accelerator = case.pairing.device.accelerator
    if accelerator.kind != "unified" or case.pairing.device.machine is not None:
        return None
    return Says(
        because=f"{accelerator.name} shares its memory with the system: probe it for what is free (`lanewise probe`)",
        source=accelerator.source,
    )


def _builds(engine: Engine, device: Device) -> list[Build]:
    """Images for devices of this maker."""
    return [build for build in engine.builds if device.accelerator.vendor in build.on.vendors]


def _instead(case: Pairing) -> str:
    """An engine version and its image that run here, as the end of a sentence; the same engine and new ones first."""
    device, driver, own = case.device.accelerator, case.device.driver, case.engine.id
    others = [engine for engine in reversed(case.known) if engine is not case.engine and engine.planned]
    for engine in sorted(others, key=lambda engine: engine.id != own):
        build = engine.image(device, driver)
        if build is not None:
            pin = f"engine_versions.{own}={engine.version}" if engine.id == own else f"{engine.id} {engine.version}"
            return f"; {build.image} runs ({pin})"
    return "; update the driver" if driver is not None else ""
