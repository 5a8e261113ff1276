"""The real way through pynvml and ctypes, against a stand-in for NVIDIA's library: a picture of a machine each."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import msgspec
import pytest

from catalog.inventory import Gpu, Inventory, Link, Process, decode
from probes import gpus
from probes.world import Ran
from tests.probes.worlds import ACCELERATORS, ALL, GIB, PICTURES, inventory, world

MIB = 2.0**20
NO_ANSWER = "this device has no answer"
LOST = "the GPU is lost: it fell off the bus, restart the machine"


@cache
def probed(name: str) -> Inventory:
    return inventory(name, Path(mkdtemp()))


def only(name: str) -> Gpu:
    """The single device of a picture."""
    (gpu,) = probed(name).gpus
    return gpu


@pytest.mark.parametrize("name", ALL)
def test_the_inventory_is_the_golden_one(name: str) -> None:
    document = msgspec.json.format(msgspec.json.encode(probed(name)), indent=2) + b"\n"
    golden = PICTURES / f"{name}.json"
    if os.environ.get("LANEWISE_GOLDEN") == "write":
        golden.write_bytes(document)
    assert document.decode() == golden.read_text()


def test_every_picture_is_probed_and_no_golden_is_left_over() -> None:
    for kind in ("picture", "json"):
        assert {path.stem for path in PICTURES.glob(f"*.{kind}")} == set(ALL)


def test_eight_h100_reach_each_other_through_switches() -> None:
    found = probed("h100x8")
    assert (found.driver, found.cuda, found.problems) == ("580.65.06", "13.0", ())
    assert [gpu.accelerator for gpu in found.gpus] == ["h100-sxm5-80"] * 8
    for gpu in found.gpus:
        others = [index for index in range(8) if index != gpu.index]
        assert gpu.links == tuple(Link(to=to, kind="nvlink", nvlinks=18, peer_access=True) for to in others)
        assert (gpu.memory_bytes, gpu.ecc, gpu.needs_reset, gpu.problems) == (81559 * MIB, True, False, ())
    busy = found.gpus[3]
    assert busy.processes == (Process(pid=4100, name="python3", used_bytes=40 * GIB, ours=True),)
    assert busy.free_bytes == found.gpus[0].free_bytes - 40.0 * GIB  # type: ignore[operator]


def test_mig_slices_are_devices_of_their_own() -> None:
    gpu = only("h100-mig")
    assert (gpu.accelerator, gpu.mig) == ("h100-sxm5-80", True)
    assert [(part.profile, part.compute_slices, part.memory_bytes) for part in gpu.slices] == [
        ("3g.40gb", 3, 39.5 * GIB)
    ] * 2
    assert gpu.slices[0].free_bytes == (39.5 * GIB) - 44 * MIB
    assert gpu.slices[1].free_bytes == (39.5 * GIB) - 19 * GIB
    assert len({part.uuid for part in gpu.slices}) == 2


def test_a_busy_4090_without_peer_access() -> None:
    first, second = probed("rtx4090x2").gpus
    assert [first.accelerator, second.accelerator] == ["rtx4090", "rtx4090"]
    assert first.links == (Link(to=1, kind="pcie-host", peer_access=False),)
    assert first.processes == (Process(pid=4300, name="Xorg", used_bytes=100 * MIB, ours=False),)
    assert second.processes == (Process(pid=4301, name="python3", used_bytes=20 * GIB, ours=False),)
    assert (first.power_limit_w, first.power_default_w, second.power_limit_w) == (300, 450, 450)
    assert (first.ecc, first.uncorrected_errors) == (False, None)
    assert first.problems == (f"uncorrected errors, need of a reset: {NO_ANSWER}",)


def test_an_a100_with_errors_needs_a_reset() -> None:
    gpu = only("a100-errors")
    assert (gpu.accelerator, gpu.uncorrected_errors, gpu.needs_reset) == ("a100-sxm4-80", 14, True)
    assert gpu.problems == ("memory rows wait for remapping: reset the GPU",)


def test_a_t4() -> None:
    gpu = only("t4")
    assert (gpu.accelerator, gpu.compute_capability, gpu.needs_reset, gpu.problems) == ("t4", "7.5", False, ())
    assert (gpu.memory_bytes, gpu.sm_clock_max_hz, gpu.power_limit_w) == (15 * GIB, 1.59e9, 70)


def test_v100_under_a_driver_from_before_mig() -> None:
    """Functions that this driver lacks are not missed: an older query answers, or there is nothing to say."""
    found = probed("v100x4-old-driver")
    assert [gpu.accelerator for gpu in found.gpus] == ["v100-sxm2-16"] * 4
    lanes = {(gpu.index, link.to): (link.kind, link.nvlinks) for gpu in found.gpus for link in gpu.links}
    assert lanes[0, 3] == ("nvlink", 2)
    assert lanes[0, 1] == ("nvlink", 1)
    assert lanes[2, 3] == ("pcie-switch", 0)
    assert {pair: lanes[pair[::-1]] for pair in lanes} == lanes
    assert [gpu.needs_reset for gpu in found.gpus] == [False, False, True, False]
    assert found.gpus[2].processes == (Process(pid=4400, name="python3", used_bytes=GIB, ours=True),)
    assert found.gpus[2].problems == ("memory pages wait for retirement: reset the GPU",)


@pytest.mark.parametrize(("name", "key"), [("gb10", "gb10"), ("jetson-orin", "jetson-orin-64")])
def test_shared_memory_is_the_hosts(name: str, key: str) -> None:
    gpu, ram = only(name), ALL[name].ram
    assert (gpu.accelerator, gpu.memory_bytes, gpu.free_bytes) == (key, ram.total, ram.available)
    assert gpu.problems[0].startswith("memory, ")
    assert gpu.problems[0].endswith(NO_ANSWER)
    assert gpu.problems[1] == "memory is shared with the host: total and free are those of its RAM"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("no-driver", "no NVIDIA driver: its library libnvidia-ml is not on this machine"),
        ("ancient-driver", "the NVIDIA driver is too old to be asked (before release 390)"),
        ("not-loaded", "the NVIDIA driver is installed, but not loaded"),
        ("no-permission", "this user may not talk to the NVIDIA driver: no access to /dev/nvidia*"),
        (
            "version-mismatch",
            "the NVIDIA driver was updated while an older one runs: restart the machine (driver and library versions "
            "differ)",
        ),
    ],
)
def test_a_driver_that_does_not_start_is_one_sentence(name: str, sentence: str) -> None:
    found = probed(name)
    assert (found.driver, found.gpus, found.problems) == (None, (), (sentence,))


def test_a_driver_without_a_device_says_so() -> None:
    found = probed("no-device")
    assert (found.driver, found.gpus) == ("580.65.06", ())
    assert found.problems == ("the NVIDIA driver runs, and sees no device",)


def test_a_query_that_hangs_is_named_and_what_came_before_is_kept() -> None:
    found = probed("hang")
    assert found.problems == (
        "the NVIDIA driver did not answer within 6 s; last asked: memory of GPU 1",
        "1 of 2 NVIDIA devices were not read",
    )
    assert [(gpu.index, gpu.accelerator) for gpu in found.gpus] == [(0, "l4")]


def test_a_library_that_crashes_takes_nothing_else_along() -> None:
    found = probed("crash")
    assert found.problems[0] == "the NVIDIA driver's library crashed (signal 6); last asked: memory of GPU 1"
    assert [(gpu.index, gpu.accelerator) for gpu in found.gpus] == [(0, "l4")]


def test_a_lost_gpu_is_listed_and_the_others_are_read() -> None:
    whole, unreachable, lost = probed("lost").gpus
    assert (whole.accelerator, whole.problems, whole.links) == ("l4", (), ())
    assert (unreachable.name, unreachable.problems) == ("", (f"device: {LOST}",))
    assert (lost.name, len(lost.problems), lost.problems[0].endswith(LOST)) == ("", 1, True)


def test_no_memory_is_no_number() -> None:
    gpu = only("zero-memory")
    assert (gpu.memory_bytes, gpu.free_bytes, gpu.accelerator) == (None, None, None)
    assert "memory: the driver reports 0 bytes" in gpu.problems
    assert (gpu.needs_reset, "row remapping has failed: the GPU should be replaced" in gpu.problems) == (True, True)


def test_what_a_container_may_not_see_is_said() -> None:
    gpu = only("container")
    assert gpu.processes == (Process(pid=77),)
    assert gpu.problems == (
        "memory, power limit: not permitted to this user",
        "memory of process 77: the driver does not say",
        "process 77 cannot be seen from here: it has ended or is another container's",
        "not looked up in the catalogue: without its memory, a NVIDIA L40S may be a variant",
    )


@pytest.mark.parametrize("name", ["unknown-name", "rtx3080-12gb"])
def test_an_unknown_device_is_no_other_one(name: str) -> None:
    gpu = only(name)
    assert gpu.memory_bytes
    assert gpu.accelerator is None
    assert gpu.problems[-1].startswith(("the catalogue has no NVIDIA", "NVIDIA GeForce RTX 3080 with 12.0 GiB, "))


# ---- laws ------------------------------------------------------------------------------------------------------------

WORDS = {
    "accelerator": ("catalogue", "name", "device"), "memory_bytes": ("memory", "device"),
    "free_bytes": ("memory", "device"),
    "compute_capability": ("compute capability", "device"), "sm_clock_max_hz": ("SM clock", "device"),
    "memory_clock_max_hz": ("memory clock", "device"), "power_limit_w": ("power limit", "device"),
    "power_default_w": ("default power limit", "device"), "ecc": ("ECC mode", "device"),
    "uncorrected_errors": ("uncorrected errors", "device"), "needs_reset": ("need of a reset", "device"),
}  # fmt: skip
"""Field: the words of a sentence that says why it is blank; `device` where nothing of it was reached."""


@pytest.mark.parametrize("name", ALL)
def test_every_blank_of_a_device_has_a_sentence(name: str) -> None:
    for gpu in probed(name).gpus:
        blanks = [field for field in WORDS if getattr(gpu, field) is None]
        assert [field for field in blanks
                if not any(word in said for said in gpu.problems for word in WORDS[field])] == []  # fmt: skip
        for process in gpu.processes:
            assert process.name is not None or any(f"process {process.pid}" in said for said in gpu.problems)
            assert process.used_bytes is not None or f"memory of process {process.pid}: " in str(gpu.problems)


def test_the_words_cover_every_field_that_may_be_blank() -> None:
    assert {field.name for field in msgspec.structs.fields(Gpu) if field.default is None} == WORDS.keys()


@pytest.mark.parametrize("name", ["h100x8", "rtx4090x2", "gb10"])
def test_probing_twice_changes_nothing(name: str, tmp_path: Path) -> None:
    assert inventory(name, tmp_path) == probed(name)


@pytest.mark.parametrize("name", ALL)
def test_an_inventory_survives_the_journey(name: str) -> None:
    assert decode(msgspec.json.encode(probed(name))) == probed(name)


@pytest.mark.parametrize("name", ALL)
def test_links_and_free_memory_make_sense(name: str) -> None:
    gpus = {gpu.index: gpu for gpu in probed(name).gpus}
    for gpu in gpus.values():
        assert (gpu.free_bytes is None) == (gpu.memory_bytes is None)
        assert gpu.memory_bytes is None or 0 <= gpu.free_bytes <= gpu.memory_bytes  # type: ignore[operator]
        for link in gpu.links:
            back = next(other for other in gpus[link.to].links if other.to == gpu.index)
            assert (back.kind, back.nvlinks, back.peer_access) == (link.kind, link.nvlinks, link.peer_access)
            assert (link.kind == "nvlink") == (link.nvlinks > 0)


def test_what_the_library_prints_itself_is_passed_over(tmp_path: Path) -> None:
    said = (
        '{"type":"Driver","version":"580.65.06","devices":1}\nWARNING: infoROM is corrupted\n{"type":"Seen","gpu":{"in'
    )
    devices = gpus.read(world(tmp_path, run=lambda _command, _timeout_s: Ran(out=said)), ACCELERATORS)
    assert (devices.driver, devices.gpus) == ("580.65.06", ())
    assert devices.problems == ("1 of 1 NVIDIA devices were not read",)


def test_a_mac_is_not_asked_for_an_nvidia_driver(tmp_path: Path) -> None:
    def nobody(_command: object, _timeout_s: float) -> Ran:
        raise AssertionError("no program may be started")

    found = gpus.read(world(tmp_path, system="darwin", run=nobody), ACCELERATORS)
    assert found.problems == ("NVIDIA devices: macOS has no driver for them",)
