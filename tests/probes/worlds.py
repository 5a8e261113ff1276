"""Recorded machines for the probe: NVIDIA's library in C with a picture each, hosts as files and texts."""

from __future__ import annotations

import atexit
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest
from msgspec import Struct

from catalog.inventory import Inventory
from catalog.load import load
from probes import machine
from probes.world import NOT_FOUND, Owner, Ram, Ran, Run, World, run

HERE = Path(__file__).parent
PICTURES = HERE / "pictures"
ACCELERATORS = load().accelerators
GIB = 2.0**30
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)

SERVER: dict[str, str] = {
    "proc/self/cgroup": "0::/",
    "proc/1/cgroup": "0::/init.scope",
    "proc/cpuinfo": "processor\t: 0\nmodel name\t: AMD EPYC 9654 96-Core Processor\nflags\t\t: fpu avx avx2 f16c fma "
    "avx512f avx512bw avx512_vnni avx512_bf16\n",
    **{f"sys/devices/system/cpu/cpu{cpu}/topology/physical_package_id": f"{cpu % 2}\n" for cpu in range(4)},
    **{f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list": f"{cpu}\n" for cpu in range(4)},
    **{f"sys/devices/system/edac/mc/mc{socket}/dimm{dimm}/{name}": text
       for socket in range(2) for dimm in range(3)
       for name, text in (("size", "65536\n" if dimm < 2 else "0\n"), ("dimm_location", f"csrow 0 channel {dimm} \n"))},
}  # fmt: skip
"""Two sockets of two cores each, two of three channels filled: a small machine under a known name."""


ARM: dict[str, str] = {
    "proc/self/cgroup": "0::/",
    "proc/1/cgroup": "0::/init.scope",
    "proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd asimdhp asimddp\nCPU part\t: 0xd42\n",
    **{f"sys/devices/system/cpu/cpu{cpu}/topology/physical_package_id": "0\n" for cpu in range(12)},
    **{f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list": f"{cpu}\n" for cpu in range(12)},
}
"""A board with twelve ARM cores."""


class Picture(Struct, frozen=True):
    """What a machine has beside its driver's picture."""

    build: str | None = "NEW"
    """Which stand-in is there; None for none."""
    ram: Ram = Ram(total=1024 * GIB, available=1000 * GIB)
    owners: Mapping[int, Owner] = {}
    deadline_s: float = 120.0
    core: str | None = None
    """The core of an ARM board; None for the server."""


UNIFIED = Ram(total=128_453_562_368.0, available=96 * GIB)
ALL: dict[str, Picture] = {
    "a100-errors": Picture(),
    "ancient-driver": Picture("ANCIENT"),
    "container": Picture(),
    "crash": Picture(),
    "gb10": Picture(ram=UNIFIED, owners={4500: Owner(name="llama-server", ours=True)}, core="Cortex-X925"),
    "h100-mig": Picture(owners={4200: Owner(name="vllm", ours=True)}),
    "h100x8": Picture(owners={4100: Owner(name="python3", ours=True)}),
    "hang": Picture(deadline_s=6.0),
    "jetson-orin": Picture(ram=Ram(total=65_890_271_232.0, available=50 * GIB), core="Cortex-A78AE"),
    "lost": Picture(),
    "no-device": Picture(),
    "no-driver": Picture(None),
    "no-permission": Picture(),
    "not-loaded": Picture(),
    "rtx3080-12gb": Picture(),
    "rtx4090x2": Picture(owners={4300: Owner(name="Xorg"), 4301: Owner(name="python3")}),
    "t4": Picture(),
    "unknown-name": Picture(),
    "v100x4-old-driver": Picture("OLD", owners={4400: Owner(name="python3", ours=True)}),
    "version-mismatch": Picture(),
    "zero-memory": Picture(),
}


@cache
def standin(build: str) -> Path:
    """The folder with the stand-in library, compiled once a session."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler here: the stand-in for NVIDIA's library cannot be built")
    folder = Path(mkdtemp(prefix="lanewise-standin-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    output = ["-shared", "-fPIC", "-o", str(folder / "libnvidia-ml.so.1")]
    old = ["-DOLD"] if build == "ANCIENT" else []
    subprocess.run([compiler, "-Wall", "-Wextra", "-Werror", f"-D{build}", *old, *output, str(HERE / "standin.c")],
                   check=True)  # fmt: skip
    return folder


def with_driver(name: str) -> Run:
    """Runs the process that asks the driver, on the stand-in; of other programs `lscpu` alone is there, on a board."""
    build = ALL[name].build
    folder = standin(build) if build else HERE
    others = recorded({"lscpu": f"Model name: {ALL[name].core}"} if ALL[name].core else {})
    setting = ("env", f"LD_LIBRARY_PATH={folder}", f"LANEWISE_PICTURE={PICTURES / name}.picture")

    def only_driver(command: Sequence[str], timeout_s: float) -> Ran:
        if "probes.nvml" not in " ".join(command):
            return others(command, timeout_s)
        return run((*setting, *command), timeout_s)

    return only_driver


def recorded(texts: Mapping[str, str]) -> Run:
    """Programs by what they printed; any other is not there."""

    def answer(command: Sequence[str], _timeout_s: float) -> Ran:
        found = texts.get(" ".join(command))
        return Ran(code=NOT_FOUND) if found is None else Ran(out=found)

    return answer


def tree(root: Path, files: Mapping[str, str]) -> Path:
    """A root file system with these files."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def world(root: Path, **changes: object) -> World:
    """The small server without a GPU, and what the test changes."""
    fixed: dict[str, object] = {
        "system": "linux",
        "machine": "x86_64",
        "root": root,
        "environ": {"HOME": "/home/someone", "HF_HOME": "/models"},
        "run": recorded({}),
        "ram": lambda: Ram(total=1024 * GIB, available=1000 * GIB),
        "owner": lambda _pid: Owner(),
        "affinity": lambda: 4,
        "disk_free": lambda _folder: 500 * GIB,
        "package": lambda _name: None,
        "which": lambda _name: None,
        "now": lambda: NOON,
    }
    return World(**(fixed | changes))  # type: ignore[arg-type]


def of_picture(name: str, root: Path) -> World:
    """The small server with the devices of a picture."""
    picture = ALL[name]
    return world(
        tree(root, ARM if picture.core else SERVER),
        machine="aarch64" if picture.core else "x86_64",
        run=with_driver(name),
        ram=lambda: picture.ram,
        owner=lambda pid: picture.owners.get(pid, Owner()),
    )


def inventory(name: str, root: Path) -> Inventory:
    """What the probe makes of a picture."""
    return machine.probe(of_picture(name, root), ACCELERATORS, ALL[name].deadline_s)
