"""The host: processors, limits, containers, Macs, from recorded files and programs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import msgspec
import pytest

from catalog.inventory import Host
from probes import cgroup, host, installed
from probes.world import NOT_FOUND, Ram, Ran, World, owner, run
from tests.probes.worlds import ACCELERATORS, GIB, SERVER, recorded, tree, world

MAC = {
    "sysctl machdep.cpu hw iogpu": """machdep.cpu.brand_string: Apple M3 Max
machdep.cpu.core_count: 16
hw.packages: 1
hw.physicalcpu: 16
hw.logicalcpu: 16
hw.optional.arm.AdvSIMD: 1
hw.optional.arm.FEAT_DotProd: 1
hw.optional.arm.FEAT_FP16: 1
hw.optional.arm.FEAT_I8MM: 1
hw.optional.arm.FEAT_BF16: 1
hw.optional.arm.FEAT_SME: 0
iogpu.wired_lwm_mb: 0
iogpu.wired_limit_mb: 0
""",
    "system_profiler SPDisplaysDataType -json": json.dumps(
        {"SPDisplaysDataType": [{"_name": "Apple M3 Max", "sppci_cores": "40", "sppci_model": "Apple M3 Max"}]}
    ),
}


def read(root: Path, files: dict[str, str] = SERVER, **changes: object) -> tuple[Host, tuple[str, ...]]:
    return host.read(world(tree(root, files), **changes), ACCELERATORS)


def mac(root: Path, texts: dict[str, str]) -> tuple[Host, tuple[str, ...]]:
    ram = Ram(total=128 * GIB, available=100 * GIB)
    return read(root, {}, system="darwin", machine="arm64", run=recorded(texts), ram=lambda: ram)


def test_a_server(tmp_path: Path) -> None:
    found, problems = read(tmp_path)
    assert problems == ()
    assert (found.cpu, found.accelerator) == ("AMD EPYC 9654 96-Core Processor", "epyc-9654")
    assert (found.sockets, found.cores, found.usable_cpus, found.memory_channels) == (2, 4, 4, 4)
    assert found.flags == ("avx", "avx2", "f16c", "fma", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16")
    assert (found.ram_bytes, found.ram_available_bytes, found.cgroup_memory_bytes) == (1024 * GIB, 1000 * GIB, None)
    assert (found.container, found.disk_path, found.disk_free_bytes) == (None, "/models/hub", 500 * GIB)


def test_an_arm_host_is_named_by_lscpu(tmp_path: Path) -> None:
    files = {"proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd asimdhp asimddp sve sve2 i8mm bf16\nCPU part: 1\n"}
    lscpu = "Architecture:  aarch64\nModel name:    Cortex-X925\n  Thread(s) per core: 1\nModel name:    Cortex-A725\n"
    found, problems = read(tmp_path, files, machine="aarch64", run=recorded({"lscpu": lscpu}))
    assert found.cpu == "Cortex-X925 / Cortex-A725"
    assert found.flags == ("neon", "fp16", "dotprod", "i8mm", "bf16", "sve", "sve2")
    assert (found.sockets, found.cores, found.accelerator) == (None, None, None)
    assert problems == (
        "sockets: the system does not say",
        "cores: the system does not say",
        "memory channels: no EDAC driver describes them, and dmidecode needs root",
        "the catalogue has no Cortex-X925 / Cortex-A725",
    )


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("AMD EPYC 9654 96-Core Processor", "epyc-9654"),
        ("AMD EPYC 9654P 96-Core Processor", "epyc-9654"),
        ("AMD EPYC 9755 128-Core Processor", "epyc-9755"),
        ("Intel(R) Xeon(R) Platinum 8480+", "xeon-8480"),
        ("INTEL(R) XEON(R) PLATINUM 8592+", "xeon-8592"),
        ("Intel(R) Xeon(R) Platinum 8480CL", None),
        ("Intel(R) Xeon(R) 6980P", None),
        ("AMD EPYC", None),
        ("AMD EPYC 9655 96-Core Processor", None),
        ("AMD Ryzen 9 7950X 16-Core Processor", None),
    ],
)
def test_cpus_by_name(tmp_path: Path, name: str, key: str | None) -> None:
    found, problems = read(tmp_path, {"proc/cpuinfo": f"processor : 0\nmodel name : {name}\n"})
    assert found.accelerator == key
    assert (key is None) == any(name in said for said in problems)


# ---- containers ------------------------------------------------------------------------------------------------------

V2 = {
    "proc/self/cgroup": "0::/system.slice/lanewise.service",
    "sys/fs/cgroup/system.slice/cpu.max": "max 100000",
    "sys/fs/cgroup/system.slice/memory.max": f"{int(64 * GIB)}",
    "sys/fs/cgroup/system.slice/memory.current": f"{int(10 * GIB)}",
    "sys/fs/cgroup/system.slice/lanewise.service/cpu.max": "250000 100000",
    "sys/fs/cgroup/system.slice/lanewise.service/memory.max": "max",
}
V1 = {
    "proc/self/cgroup": "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc",
    "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "150000",
    "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{int(32 * GIB)}",
    "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{int(20 * GIB)}",
    "sys/fs/cgroup/memory/memory.stat": f"cache 1\ntotal_inactive_file {int(8 * GIB)}\ninactive_file 0",
}
FREE = {
    "proc/self/cgroup": "5:memory:/\n4:cpu,cpuacct:/",
    "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1",
    "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
}


@pytest.mark.parametrize(
    ("files", "limits"),
    [
        (V2, cgroup.Limits(cpus=2.5, memory=64 * GIB, memory_left=54 * GIB)),
        (V1, cgroup.Limits(cpus=1.5, memory=32 * GIB, memory_left=20 * GIB)),
        (FREE, cgroup.Limits()),
        ({}, cgroup.Limits()),
    ],
    ids=["v2 with limits of its parent", "v1 in a container", "v1 without limits", "none"],
)
def test_limits_of_control_groups(tmp_path: Path, files: dict[str, str], limits: cgroup.Limits) -> None:
    assert cgroup.read(world(tree(tmp_path, files))) == limits


def test_a_container_may_use_less_than_the_machine(tmp_path: Path) -> None:
    found, _ = read(tmp_path, SERVER | V1)
    assert (found.usable_cpus, found.cgroup_memory_bytes) == (1.5, 32 * GIB)
    assert (found.ram_bytes, found.ram_available_bytes) == (1024 * GIB, 20 * GIB)


def test_affinity_counts_where_it_is_tighter_than_the_quota(tmp_path: Path) -> None:
    assert read(tmp_path, SERVER | V2, affinity=lambda: 2)[0].usable_cpus == 2


@pytest.mark.parametrize(
    ("files", "environ", "kind"),
    [
        ({".dockerenv": ""}, {}, "docker"),
        ({"run/.containerenv": 'engine="podman"'}, {}, "podman"),
        ({".dockerenv": ""}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "kubernetes"),
        ({"run/systemd/container": "systemd-nspawn"}, {}, "systemd-nspawn"),
        ({}, {"container": "lxc"}, "lxc"),
        ({"proc/1/cgroup": "12:cpuset:/kubepods/burstable/pod1"}, {}, "kubernetes"),
        ({"proc/1/cgroup": "0::/init.scope"}, {}, None),
        ({}, {}, None),
    ],
)
def test_kinds_of_container(tmp_path: Path, files: dict[str, str], environ: dict[str, str], kind: str | None) -> None:
    assert host.container(world(tree(tmp_path, files), environ=environ)) == kind


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"HOME": "/home/a"}, "/home/a/.cache/huggingface/hub"),
        ({"HOME": "/home/a", "XDG_CACHE_HOME": "/cache"}, "/cache/huggingface/hub"),
        ({"HOME": "/home/a", "HF_HOME": "/hf"}, "/hf/hub"),
        ({"HOME": "/home/a", "HF_HOME": "~/hf"}, "/home/a/hf/hub"),
        ({"HOME": "/home/a", "HF_HOME": "/hf", "HF_HUB_CACHE": "/models"}, "/models"),
    ],
)
def test_where_model_files_go(tmp_path: Path, environ: dict[str, str], folder: str) -> None:
    assert str(host.model_cache(world(tmp_path, environ=environ))) == folder


def test_an_unreadable_disk_is_said(tmp_path: Path) -> None:
    found, problems = read(tmp_path, disk_free=lambda _folder: None)
    assert found.disk_free_bytes is None
    assert problems == ("disk: the free space of /models/hub cannot be read",)


# ---- Macs ------------------------------------------------------------------------------------------------------------


def test_a_mac(tmp_path: Path) -> None:
    found, problems = mac(tmp_path, MAC)
    assert (found.system, found.cpu, found.accelerator) == ("darwin", "Apple M3 Max", "apple-m3-max-40c")
    assert (found.sockets, found.cores, found.ram_bytes) == (1, 16, 128 * GIB)
    assert found.flags == ("neon", "fp16", "dotprod", "i8mm", "bf16")
    assert (found.gpu_working_set_bytes, found.memory_channels) == (None, None)
    assert [said.partition(":")[0] for said in problems] == ["GPU working set", "memory channels"]


def test_a_working_set_that_the_owner_has_set_is_read(tmp_path: Path) -> None:
    key = "sysctl machdep.cpu hw iogpu"
    texts = MAC | {key: MAC[key].replace("wired_limit_mb: 0", "wired_limit_mb: 114688")}
    found, problems = mac(tmp_path, texts)
    assert found.gpu_working_set_bytes == 112 * GIB
    assert not any("working set" in said for said in problems)


@pytest.mark.parametrize(
    ("chip", "cores", "key"),
    [
        ("Apple M1", "8", "apple-m1"),
        ("Apple M2 Ultra", "76", "apple-m2-ultra"),
        ("Apple M3 Max", "30", "apple-m3-max-30c"),
        ("Apple M4 Max", "40", "apple-m4-max-40c"),
        ("Apple M4 Max", "38", None),
        ("Apple M1 (Virtual)", "8", None),
        ("Apple M9", "8", None),
    ],
)
def test_apple_chips_by_name_and_gpu_cores(tmp_path: Path, chip: str, cores: str, key: str | None) -> None:
    texts = {name: text.replace("Apple M3 Max", chip).replace('"40"', f'"{cores}"') for name, text in MAC.items()}
    found, problems = mac(tmp_path, texts)
    assert found.accelerator == key
    assert (key is None) == any(chip in said for said in problems)


def test_a_mac_that_tells_nothing_is_no_traceback(tmp_path: Path) -> None:
    found, problems = mac(tmp_path, {"system_profiler SPDisplaysDataType -json": "[broken"})
    assert (found.cpu, found.accelerator, found.cores, found.flags) == (None, None, None, ())
    for what in ("CPU name", "sockets", "cores", "instruction sets", "GPU cores", "GPU working set", "CPU:"):
        assert any(said.startswith(what) for said in problems), what


BLANKS = {"cpu": "CPU name", "accelerator": "C", "sockets": "sockets", "cores": "cores", "disk_free_bytes": "disk",
          "memory_channels": "memory channels", "usable_cpus": "", "ram_bytes": "", "ram_available_bytes": "",
          "disk_path": ""}  # fmt: skip
NO_BLANK = {"cgroup_memory_bytes", "container", "gpu_working_set_bytes"}
"""None here says "there is none"; the last one on a Mac is tested above."""


@pytest.mark.parametrize("system", ["linux", "windows"])
def test_every_blank_of_a_host_has_a_sentence(tmp_path: Path, system: str) -> None:
    found, problems = read(tmp_path, {}, system=system, disk_free=lambda _folder: None)
    assert {name for name in found.__struct_fields__ if getattr(found, name) is None} <= BLANKS.keys() | NO_BLANK
    silent = [name for name, word in BLANKS.items()
              if getattr(found, name) is None and not any(said.startswith(word) for said in problems)]  # fmt: skip
    assert silent == []


def test_this_very_machine_is_read(tmp_path: Path) -> None:
    """The real outside, whatever it is: a host with memory and CPUs, and nobody's traceback."""
    found, problems = host.read(World(), ACCELERATORS)
    assert found.ram_bytes
    assert 0 < found.ram_available_bytes <= found.ram_bytes  # type: ignore[operator]
    assert 0 < found.usable_cpus <= (os.cpu_count() or 1)  # type: ignore[operator]
    assert all(isinstance(said, str) and said for said in problems)


# ---- engines and programs --------------------------------------------------------------------------------------------


def test_engines_by_package_and_by_program(tmp_path: Path) -> None:
    packages = {"vllm": "0.33.0", "llama-cpp-python": "0.3.36"}
    programs = {"llama-server": "/opt/llama/llama-server", "ollama": "/usr/bin/ollama", "vllm": "/other/bin/vllm"}
    answers = {
        "/opt/llama/llama-server --version": Ran(err="version: 6123 (a1b2c3d)\nbuilt with cc 13.3.0 for x86_64\n"),
        "/usr/bin/ollama --version": Ran(out="Warning: could not connect\nWarning: client version is 0.12.6\n"),
        "/other/bin/vllm --version": Ran(code=None),
    }
    found, problems = installed.read(
        world(
            tmp_path,
            package=packages.get,
            which=programs.get,
            run=lambda command, _timeout_s: answers[" ".join(command)],
        )
    )
    assert [(engine.id, engine.version, engine.found) for engine in found] == [
        ("vllm", "0.33.0", "python package vllm"),
        ("llama.cpp", "0.3.36", "python package llama-cpp-python"),
        ("llama.cpp", "b6123", "executable llama-server"),
        ("vllm", None, "executable vllm"),
        ("ollama", "0.12.6", "executable ollama"),
    ]
    assert problems == ("vllm (/other/bin/vllm) does not tell its version within 20 s",)


def test_the_command_of_a_listed_package_is_not_listed_again(tmp_path: Path) -> None:
    import sys

    beside = str(Path(sys.executable).parent / "vllm")
    found, problems = installed.read(
        world(tmp_path, package={"vllm": "0.33.0"}.get, which={"vllm": beside}.get, run=recorded({}))
    )
    assert ([engine.found for engine in found], problems) == (["python package vllm"], ())


def test_programs_end_in_time_with_what_they_said() -> None:
    spoken = run(("sh", "-c", "echo heard; echo aside >&2; sleep 60"), 1.0)
    assert spoken == Ran(out="heard\n", err="aside\n", code=None)
    assert run(("lanewise-no-such-program",), 1.0).code == NOT_FOUND
    assert run(("sh", "-c", "exit 3"), 10.0).code == 3


def test_no_word_of_a_command_reaches_a_shell() -> None:
    assert run(("echo", "$(id); `id`"), 10.0).out == "$(id); `id`\n"


def test_our_own_processes_are_ours_and_a_missing_one_is_nobodys() -> None:
    assert owner(os.getpid()).ours
    assert msgspec.structs.astuple(owner(2**22 + 1)) == (None, False)
