"""The machine around the devices: processor, memory, container, disk."""

from __future__ import annotations

from pathlib import Path

from catalog.inventory import Host
from probes import apple, cgroup, cpu, known
from probes.cpu import Cpu
from probes.known import Accelerators, Match
from probes.world import World

GROUP_WORDS = {
    "kubepods": "kubernetes",
    "docker": "docker",
    "libpod": "podman",
    "containerd": "containerd",
    "lxc": "lxc",
}
"""What stands in the path of a container's control group, and whose word it is."""


def read(world: World, accelerators: Accelerators) -> tuple[Host, tuple[str, ...]]:
    """The host, and a sentence for everything that could not be read."""
    chip = _chip(world)
    match = _match(chip, world, accelerators)
    limits, ram = cgroup.read(world), world.ram()
    folder = model_cache(world)
    free = world.disk_free(folder)
    left = ram.available if limits.memory_left is None else min(ram.available, limits.memory_left)
    host = Host(
        system=world.system,
        machine=world.machine,
        cpu=chip.name,
        accelerator=match.key,
        sockets=chip.sockets,
        cores=chip.cores,
        usable_cpus=min(float(world.affinity()), limits.cpus or float("inf")),
        flags=chip.flags,
        memory_channels=chip.memory_channels,
        ram_bytes=ram.total,
        ram_available_bytes=left,
        cgroup_memory_bytes=limits.memory,
        container=container(world),
        disk_path=str(folder),
        disk_free_bytes=free,
        gpu_working_set_bytes=chip.gpu_working_set,
    )
    no_disk = (f"disk: the free space of {folder} cannot be read",)
    return host, (*chip.problems, *((match.because,) if match.because else ()), *(no_disk if free is None else ()))


def _chip(world: World) -> Cpu:
    readers = {"darwin": apple.read, "linux": cpu.linux}
    return readers.get(world.system, cpu.other)(world)


def _match(chip: Cpu, world: World, accelerators: Accelerators) -> Match:
    if chip.name is None:
        return Match(because="CPU: without its name it is not looked up in the catalogue")
    if world.system == "darwin" and chip.name.startswith("Apple"):
        return known.apple(chip.name, chip.gpu_cores, accelerators)
    return known.cpu(chip.name, accelerators)


def model_cache(world: World) -> Path:
    """Where model files go, by the variables that the hub's libraries obey."""
    environ = world.environ
    home = Path(environ.get("HOME") or environ.get("USERPROFILE") or Path.home())
    cache = Path(environ.get("XDG_CACHE_HOME") or home / ".cache")
    hub = environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE")
    found = Path(hub) if hub else Path(environ.get("HF_HOME") or cache / "huggingface") / "hub"
    return home / found.relative_to("~") if found.parts[:1] == ("~",) else found


def container(world: World) -> str | None:
    """What kind of container this is; None outside of one."""
    if "KUBERNETES_SERVICE_HOST" in world.environ:
        return "kubernetes"
    if world.read("/run/.containerenv") is not None:
        return "podman"
    if world.read("/.dockerenv") is not None:
        return "docker"
    named = world.read("/run/systemd/container") or world.environ.get("container")
    groups = world.read("/proc/1/cgroup") or ""
    return named or next((word for part, word in GROUP_WORDS.items() if part in groups), None)
