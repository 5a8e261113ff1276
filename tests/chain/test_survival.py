"""What a real chain does when it is killed, when the disk fills up, and when what it is given is broken."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from planner.proving.receipt import Receipt
from planner.running import processes, runstate
from tests.chain import world
from tests.chain.lanes import CONTEXT, LANES, Verified, environment, planned, run, smaller, words

pytestmark = [pytest.mark.slow, pytest.mark.long]
KILLED = "gguf-Q4_K_M"
"""The lane with the most kinds of steps."""
PATIENCE_S = 600.0
TIMED = ("answers-smoke-baseline", "answers-smoke-candidate")
"""Steps whose files hold how long they took."""


def started(plan: Path, folder: Path, *more: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "planner", "verify", str(plan), "--run", str(folder), *map(str, more)]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, cwd=plan.parent, env=environment(), stdout=quiet, stderr=quiet)


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    last = time.monotonic() + PATIENCE_S
    while not path.exists():
        assert process.poll() is None, f"it ended with {process.returncode} before {path.name}"
        assert time.monotonic() < last
        time.sleep(0.01)


def alive(folder: Path) -> list[psutil.Process]:
    return processes.marked((folder / runstate.MARKER).read_text())


def gone(folder: Path) -> bool:
    """Whether nobody is left, soon."""
    last = time.monotonic() + 20
    while alive(folder) and time.monotonic() < last:
        time.sleep(0.05)
    return not alive(folder)


def hashes(receipt: Receipt) -> dict[str, str]:
    return {path: made for each in receipt.steps if each.id not in TIMED for path, made in each.made.items()}


def tiny(folder: Path, name: str) -> Path:
    """The plan of a lane with steps as short as they can be."""
    found = json.loads(world.plan(name).read_text())
    smaller(found["choice"], windows=8, rows=8)
    plan = folder / f"{name}.tiny.json"
    plan.write_text(json.dumps(found))
    return plan


def test_kill_9_in_each_step_of_a_real_chain(tmp_path: Path) -> None:
    """Killed once in every step, the next run goes on; it ends with the weights, numbers and verdicts of a run that
    nobody killed, in a folder of another name."""
    given = words(LANES[KILLED], world.model().held_out, world.model().chats)
    plan, folder = tiny(tmp_path, KILLED), tmp_path / "killed"
    whole = run(plan, tmp_path / "whole", *given).receipt
    assert whole.ended == "finished"
    for place, step in enumerate(whole.steps):
        process = started(plan, folder, *given)
        try:
            if step.id == "original":  # over in a moment: before it is, or just after
                wait_for(folder / runstate.MARKER, process)
            else:
                wait_for(folder / "unfinished" / step.id, process)
            time.sleep(0.05 * place)
            process.send_signal(signal.SIGKILL)
        finally:
            process.kill()
            process.wait()
        assert gone(folder), [each.cmdline() for each in alive(folder)]
        assert not (folder / "receipt.json").exists()
    ended = run(plan, folder, *given)
    assert ended.code in (0, 3), ended.err[-3000:]
    receipt = ended.receipt
    assert [each.id for each in receipt.steps] == [each.id for each in whole.steps]
    assert {each.state for each in receipt.steps} == {"kept", "done"}
    assert hashes(receipt) == hashes(whole)
    assert receipt.artefacts == whole.artefacts
    assert [(gate.gate, gate.verdict, gate.checks) for gate in receipt.gates] == [
        (gate.gate, gate.verdict, gate.checks) for gate in whole.gates
    ]
    assert gone(folder)


def test_ctrl_c_ends_a_real_chain_with_a_receipt(tmp_path: Path) -> None:
    name, folder = "fp8", tmp_path / "asked"
    given = words(LANES[name], world.model().held_out, world.model().chats)
    process = started(world.plan(name), folder, *given)
    wait_for(folder / "unfinished" / "candidate", process)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=PATIENCE_S) == 130
    receipt = Verified(130, "", "", folder).receipt
    assert receipt.ended == "cancelled"
    assert not any(gate.measured for gate in receipt.gates)
    assert "candidate/model" not in receipt.artefacts
    assert gone(folder)


@pytest.fixture
def small_disk(tmp_path: Path) -> list[str]:
    """Words before a command that give it a disk of 240 MB at `tmp_path`/disk, in a mount namespace of its own."""
    (tmp_path / "disk").mkdir()
    mount = f'mount -t tmpfs -o size=240m none {tmp_path / "disk"} && exec "$@"'
    before = ["unshare", "--mount", "sh", "-c", mount, "sh"]
    if os.geteuid() != 0 or subprocess.run([*before, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this user may not mount a disk of its own")
    return before


FULL = """
import os, pathlib, subprocess, sys, threading, time
folder, step, size, *command = sys.argv[1:]
def fill():
    while not (pathlib.Path(folder) / "unfinished" / step).exists():
        time.sleep(0.005)
    with open(pathlib.Path(folder).parent / "filler", "wb") as stream:
        try:
            while True:
                stream.write(bytes(2**20))
                stream.flush()
        except OSError:
            pass
threading.Thread(target=fill, daemon=True).start()
code = subprocess.run(command).returncode
(pathlib.Path(folder).parent / "filler").unlink(missing_ok=True)
subprocess.run(["cp", "-r", folder, size])
sys.exit(code)
"""
"""Runs a command and fills its disk when a step begins; then frees it and copies the folder to where it stays."""


def test_a_disk_that_fills_up_while_a_step_writes(tmp_path: Path, small_disk: list[str]) -> None:
    name, step = "gguf-Q8_0", f"baseline-own-{CONTEXT}"
    folder, kept = tmp_path / "disk" / "run", tmp_path / "kept"
    given = words(LANES[name], world.model().held_out, world.model().chats)
    verify = [sys.executable, "-m", "planner", "verify", str(world.plan(name)), "--run", str(folder), *map(str, given)]
    command = [*small_disk, sys.executable, "-c", FULL, str(folder), step, str(kept), *verify]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False, timeout=1800
    )
    assert done.returncode == 1, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    told = (done.stdout + done.stderr).lower()
    assert "disk is full" in told or "no space left" in told or "are free" in told
    state = (kept / runstate.STATE).read_text()
    assert f'"{step}"' not in state
    assert not (kept / step).exists()


def harmed(tmp_path: Path) -> Path:
    """A copy of the model whose weights end early: a download that broke off."""
    folder = tmp_path / "harmed"
    shutil.copytree(world.model().model, folder)
    weights = folder / "model.safetensors"
    with weights.open("r+b") as stream:
        stream.truncate(weights.stat().st_size // 2)
    return folder


@pytest.mark.parametrize("name", ["fp8", "gguf-Q8_0"])
def test_a_checkpoint_that_ends_early_cannot_be_planned(tmp_path: Path, name: str) -> None:
    with pytest.raises(RuntimeError, match=r"cut off: \d+ bytes of \d+ .*model\.safetensors"):
        planned(tmp_path, name, harmed(tmp_path), LANES[name])


def test_a_checkpoint_that_breaks_off_after_its_plan(tmp_path: Path) -> None:
    """Nothing is run on it, and nothing is claimed."""
    folder = harmed(tmp_path)
    weights = folder / "model.safetensors"
    shutil.copy2(world.model().model / weights.name, weights)
    plan = planned(tmp_path, "fp8", folder, LANES["fp8"])
    with weights.open("r+b") as stream:
        stream.truncate(weights.stat().st_size // 2)
    found = run(plan, tmp_path / "run", *words(LANES["fp8"], world.model().held_out, world.model().chats))
    assert found.code not in (0, 3)
    assert "cut off" in found.err
    assert "Traceback" not in found.err
    assert not (tmp_path / "run" / "receipt.json").exists()


@pytest.mark.parametrize(
    ("content", "says"), [(b"\xff\xfe\x00", "UTF-8"), (b"too short", "fewer than one window"), (b"", "tokens")]
)
def test_text_that_cannot_be_read(tmp_path: Path, content: bytes, says: str) -> None:
    text = tmp_path / "own.txt"
    text.write_bytes(content)
    found = run(
        world.plan("gguf-Q8_0"), tmp_path / "run", *words(LANES["gguf-Q8_0"], text, world.model().chats),
        "--reuse", world.folder() / "runs",
    )  # fmt: skip
    assert found.code == 1
    step = f"tokens-own-{CONTEXT}"
    assert found.state(step) == "failed"
    assert says in found.because(step)
    assert found.state(f"compare-own-{CONTEXT}") == "not run"
    assert not any(gate.measured for gate in found.receipt.gates if gate.gate.endswith(f"@{CONTEXT}"))


def test_calibration_text_of_the_evaluation_is_refused(tmp_path: Path) -> None:
    name = "gptq-int4"
    given = words(LANES[name], world.model().held_out, world.model().held_out)
    found = run(world.plan(name), tmp_path / "run", *given, "--reuse", world.folder() / "runs")
    assert found.code == 1
    assert "share a passage" in found.because("calibration")
    assert found.state("candidate") == "not run"


def test_one_run_at_a_time(tmp_path: Path) -> None:
    name, folder = "fp8", tmp_path / "run"
    given = words(LANES[name], world.model().held_out, world.model().chats)
    first = started(world.plan(name), folder, *given)
    try:
        wait_for(folder / "unfinished" / "candidate", first)
        second = run(world.plan(name), folder, *given)
        assert second.code == 1
        assert "another run is under way" in second.err
    finally:
        first.kill()
        first.wait()
    assert gone(folder)
