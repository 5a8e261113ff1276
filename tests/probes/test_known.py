"""Which catalogue entry a device is: every entry finds itself, real devices find theirs, variants find none."""

from __future__ import annotations

import msgspec
import pytest

from catalog.accelerator import Accelerator
from catalog.inventory import Gpu
from catalog.units import Watts
from probes import known
from tests.probes.worlds import ACCELERATORS

MIB = 2.0**20
NAMED = [entry for entry in ACCELERATORS.values() if entry.vendor == "nvidia" and entry.nvml_names]


def device(name: str, mib: float, capability: str, power: float | None = None) -> Gpu:
    return Gpu(index=0, name=name, memory_bytes=mib * MIB, compute_capability=capability, power_default_w=power)


@pytest.mark.parametrize("entry", NAMED, ids=[entry.id for entry in NAMED])
def test_every_entry_finds_itself_by_each_of_its_names(entry: Accelerator) -> None:
    for name in (*entry.nvml_names, *(full.removeprefix("NVIDIA ") for full in entry.nvml_names)):
        found = Gpu(index=0, name=name, memory_bytes=entry.usable_memory, compute_capability=entry.compute_capability)
        assert known.gpu(found, ACCELERATORS).key == entry.id


def test_only_what_no_driver_has_named_yet_is_without_a_name() -> None:
    assert {key for key, entry in ACCELERATORS.items() if entry.vendor == "nvidia"} - {e.id for e in NAMED} == {"b100"}


@pytest.mark.parametrize(
    ("name", "mib", "capability", "key"),
    [
        ("NVIDIA H100 80GB HBM3", 81559, "9.0", "h100-sxm5-80"),
        ("NVIDIA H100 PCIe", 81559, "9.0", "h100-pcie-80"),
        ("NVIDIA H100 NVL", 95830, "9.0", "h100-nvl-94"),
        ("NVIDIA H200", 143771, "9.0", "h200-sxm5"),
        ("NVIDIA H200 NVL", 143771, "9.0", "h200-nvl"),
        ("NVIDIA H20", 97871, "9.0", "h20-96"),
        ("NVIDIA GH200 480GB", 97871, "9.0", "gh200-96"),
        ("NVIDIA GH200 144G HBM3e", 146831, "9.0", "gh200-144"),
        ("NVIDIA A100-SXM4-80GB", 81920, "8.0", "a100-sxm4-80"),
        ("A100-SXM4-40GB", 40536, "8.0", "a100-sxm4-40"),
        ("NVIDIA A100 80GB PCIe", 81920, "8.0", "a100-pcie-80"),
        ("NVIDIA B200", 183359, "10.0", "b200-sxm"),
        ("NVIDIA B300 SXM6 AC", 275040, "10.3", "b300-sxm"),
        ("Tesla T4", 15109, "7.5", "t4"),
        ("Tesla V100-SXM2-16GB", 16160, "7.0", "v100-sxm2-16"),
        ("Tesla V100-SXM2-32GB", 32510, "7.0", "v100-sxm2-32"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", 97887, "12.0", "rtxpro6000-server"),
        ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", 97887, "12.0", None),
        ("NVIDIA GeForce RTX 4090", 24564, "8.9", "rtx4090"),
        ("NVIDIA GeForce RTX 4090 D", 24564, "8.9", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", 16376, "8.9", None),
        ("NVIDIA GeForce RTX 3080", 10240, "8.6", "rtx3080"),
        ("NVIDIA GeForce RTX 3080", 12288, "8.6", None),
        ("NVIDIA RTX 4000 SFF Ada Generation", 20475, "8.9", None),
        ("Orin (nvgpu)", 62838, "8.7", "jetson-orin-64"),
        ("Orin (nvgpu)", 15656, "8.7", None),
        ("NVIDIA A10-24Q", 24576, "8.6", None),
        ("NVIDIA L20X", 147456, "9.0", None),
        ("AMD Instinct MI300X", 196608, "9.4", None),
        ("", 81559, "9.0", None),
    ],
)
def test_devices_by_what_their_drivers_say(name: str, mib: float, capability: str, key: str | None) -> None:
    found = known.gpu(device(name, mib, capability), ACCELERATORS)
    assert found.key == key
    assert (found.because is None) == (key is not None)


def test_a_compute_capability_that_is_another_is_another_device() -> None:
    assert known.gpu(device("NVIDIA H100 80GB HBM3", 81559, "10.0"), ACCELERATORS).key is None


@pytest.mark.parametrize(
    ("power", "key"), [(350, "card-350"), (345, "card-350"), (500, "card-500"), (425, None), (None, None)]
)
def test_two_entries_of_one_name_are_told_apart_by_power(power: float | None, key: str | None) -> None:
    base = ACCELERATORS["h100-pcie-80"]
    two = {
        name: msgspec.structs.replace(base, id=name, nvml_names=("NVIDIA Card",), tdp=Watts(watts))
        for name, watts in (("card-350", 350.0), ("card-500", 500.0))
    }
    found = known.gpu(device("NVIDIA Card", 81559, "9.0", power), two)
    assert found.key == key
    assert key is not None or found.because == (
        "NVIDIA Card with 79.6 GiB, compute capability 9.0 may be card-350 or card-500 of the catalogue"
    )
