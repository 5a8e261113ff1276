"""The runner with real processes: kept steps, crashes in every step, cancel, refusals, failures."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from msgspec import structs

from catalog.errors import BadInput, LanewiseError, NotFound
from planner.proving.receipt import Result
from planner.proving.steps import Program
from planner.running import processes, runstate
from planner.running.runner import TAIL_BYTES, Machine, Until, ram_free
from tests.verify.run_chain import steps as blocking
from tests.verify.worlds import COPY, WRITE, Here, chain, program, ran, states, step

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


def test_steps_run_in_order_and_leave_what_they_make(folder: Path) -> None:
    found, seen = ran(chain(), folder)
    assert states(found) == {"a": "done", "b": "done", "c": "done"}
    assert seen.began == ["a", "b", "c"]
    assert (folder / "c" / "made").read_text() == "abc"
    assert found.results[2].made == {"c/made": runstate.sha256(folder / "c" / "made")}
    assert not any((folder / "unfinished").iterdir())


def test_a_second_run_keeps_everything(folder: Path) -> None:
    first, _ = ran(chain(), folder)
    second, seen = ran(chain(), folder)
    assert set(states(second).values()) == {"kept"}
    assert seen.began == []
    assert [each.made for each in second.results] == [each.made for each in first.results]


def test_a_changed_command_runs_again_with_what_follows(folder: Path) -> None:
    ran(chain(), folder)
    found, _ = ran(chain("C"), folder)
    assert states(found) == {"a": "kept", "b": "kept", "c": "done"}
    assert (folder / "c" / "made").read_text() == "abC"


def test_the_same_result_spares_what_follows(folder: Path) -> None:
    """Steps are known by the contents that they need, not by when they were made."""
    ran(chain(), folder)
    steps = chain().steps
    other = structs.replace(steps[0], env={"UNUSED": "1"})
    found, _ = ran(structs.replace(chain(), steps=(other, *steps[1:])), folder)
    assert states(found) == {"a": "done", "b": "kept", "c": "kept"}


def test_new_versions_of_a_tool_run_everything_again(folder: Path) -> None:
    ran(chain(), folder)
    found, _ = ran(chain(), folder, environments=Here(folder.parent, version="2"))
    assert states(found)["a"] == "done"


def reading(text: Path) -> Program:
    return program(step("a", COPY, str(text), "{out}/made", "!", reads=(str(text),)))


def test_a_changed_input_runs_again(folder: Path, tmp_path: Path) -> None:
    text = tmp_path / "own.txt"
    text.write_text("one")
    first, _ = ran(reading(text), folder)
    assert ran(reading(text), folder)[0].results[0].state == "kept"
    text.write_text("two")
    second, _ = ran(reading(text), folder)
    assert second.results[0].state == "done"
    assert first.results[0].read != second.results[0].read
    assert (folder / "a" / "made").read_text() == "two!"


def test_an_input_that_cannot_be_read_is_named(folder: Path, tmp_path: Path) -> None:
    found, seen = ran(reading(tmp_path / "gone.txt"), folder)
    assert found.results[0].state == "refused"
    assert "gone.txt" in found.results[0].because
    assert seen.began == []


@pytest.mark.parametrize("damage", ["changed", "deleted"])
def test_what_was_made_and_then_touched_is_made_again(folder: Path, damage: str) -> None:
    ran(chain(), folder)
    made = folder / "b" / "made"
    if damage == "changed":
        made.write_text("xx")
    else:
        shutil.rmtree(folder / "b")
    found, _ = ran(chain(), folder)
    assert states(found) == {"a": "kept", "b": "done", "c": "kept"}
    assert made.read_text() == "ab"


@pytest.mark.parametrize("content", [b"", b"{", b'{"done": 3}', b"\xff\xfe", b'{"done": {}, "more": 1}'])
def test_a_state_that_cannot_be_read_is_said_and_everything_runs_again(folder: Path, content: bytes) -> None:
    ran(chain(), folder)
    (folder / "state.json").write_bytes(content)
    found, seen = ran(chain(), folder)
    assert set(states(found).values()) == {"done"}
    assert any("state.json cannot be read" in note for note in seen.notes)
    assert (folder / "state.broken").read_bytes() == content


def test_a_folder_of_somebody_else_is_refused_and_untouched(folder: Path) -> None:
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "made").write_text("mine")
    with pytest.raises(BadInput, match="holds other files"):
        ran(chain(), folder)
    assert (folder / "a" / "made").read_text() == "mine"


def test_two_runs_of_one_folder_are_refused(folder: Path) -> None:
    with runstate.opened(folder), pytest.raises(LanewiseError, match="another run is under way"):
        ran(chain(), folder)


def test_a_failing_step_says_how_and_takes_only_those_that_need_it(folder: Path) -> None:
    fails = "import sys; print('loading'); print('no such tensor: x', file=sys.stderr); sys.exit(3)"
    steps = program(
        step("a", fails),
        step("b", WRITE, "{out}/made", "b", needs=("a",)),
        step("c", WRITE, "{out}/made", "c"),
    )
    found, _ = ran(steps, folder)
    assert states(found) == {"a": "failed", "b": "not run", "c": "done"}
    failed, unmet, _ = found.results
    assert failed.exit_code == 3
    assert failed.because == "exit code 3; its log ends: no such tensor: x"
    assert unmet.because == "it needs a"
    assert not (folder / "a").exists()
    assert failed.made == {}


def test_a_long_log_is_cut_at_a_line(folder: Path) -> None:
    fails = "import sys; [print('line', n, file=sys.stderr) for n in range(9000)]; sys.exit(1)"
    end = ran(program(step("a", fails)), folder)[0].results[0].because.partition("its log ends: ")[2]
    assert end.startswith("line ")
    assert end.endswith("line 8999")
    assert len(end) <= TAIL_BYTES


def test_a_step_that_dies_by_a_signal_says_which(folder: Path) -> None:
    found, _ = ran(program(step("a", "import os; os.kill(os.getpid(), 11)")), folder)
    assert found.results[0].because.startswith("ended by signal 11")


def test_a_step_that_makes_nothing_has_failed(folder: Path) -> None:
    found, _ = ran(program(step("a", "print('well')")), folder)
    assert found.results[0].state == "failed"
    assert "did not make a/made" in found.results[0].because


def test_a_missing_tool_is_refused_before_anything_starts(folder: Path) -> None:
    steps = program(
        step("a", WRITE, "{out}/made", "a"),
        structs.replace(step("b", ""), command=("{tool:llama.cpp}/llama-quantize",), tool="llama.cpp"),
    )
    with pytest.raises(NotFound, match=r"llama.cpp is not installed.*needed by b"):
        ran(steps, folder)
    with pytest.raises(NotFound, match=r"llama-quantize is not there"):
        ran(program(structs.replace(step("b", ""), command=("{tool:py}/llama-quantize",))), folder)
    assert not folder.exists()


def test_files_that_were_not_named_are_refused_before_anything_starts(folder: Path) -> None:
    with pytest.raises(BadInput, match="give text"):
        ran(structs.replace(chain(), missing=("give text",)), folder)
    with pytest.raises(BadInput, match=r"\{text\}"):
        ran(program(step("a", WRITE, "{text}")), folder)
    assert not folder.exists()


def test_disk_and_memory_are_asked_before_a_step_with_numbers(folder: Path) -> None:
    large = program(
        step("a", WRITE, "{out}/made", "a", disk_bytes=3 * 2.0**30),
        step("b", WRITE, "{out}/made", "b", ram_bytes=5 * 2.0**30),
        step("c", WRITE, "{out}/made", "c"),
    )
    small = Machine(disk_free=lambda _: 2.0**30, ram_free=lambda: 2.0**31)
    found, seen = ran(large, folder, machine=small)
    assert states(found) == {"a": "refused", "b": "refused", "c": "done"}
    assert "about 3 GiB, 1 GiB are free on the disk" in found.results[0].because
    assert "about 5 GiB of memory, 2 GiB are free" in found.results[1].because
    assert seen.began == ["c"]
    assert states(ran(large, folder)[0]) == {"a": "done", "b": "done", "c": "kept"}


def test_this_machine_has_memory() -> None:
    assert ram_free() > 0


def test_a_disk_that_fills_up_is_a_failure_that_says_so(folder: Path) -> None:
    free = iter([2.0**40, 0.0])
    full = "raise OSError(28, 'No space left on device')"
    found, _ = ran(program(step("a", full)), folder, machine=Machine(lambda _: next(free), lambda: 1e15))
    assert "the disk is full" in found.results[0].because
    assert "No space left on device" in found.results[0].because


def test_a_state_that_cannot_be_written_ends_the_run_in_a_sentence(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        if path.name == "state.json":
            raise OSError(28, "No space left on device")
        path.write_bytes(content)

    monkeypatch.setattr(runstate, "write", full)
    with pytest.raises(LanewiseError, match="No space left on device"):
        ran(chain(), folder)


def test_steps_see_neither_our_python_path_nor_standard_input(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    code = (
        "import os, sys, pathlib; seen = (os.environ.get('PYTHONPATH'), sys.stdin.read(), os.environ['X']);"
        "pathlib.Path(sys.argv[1]).write_text(repr(seen))"
    )
    found, _ = ran(program(step("a", code, "{out}/made", env={"X": "1"})), folder)
    assert states(found) == {"a": "done"}
    assert (folder / "a" / "made").read_text() == "(None, '', '1')"


def test_what_a_step_reports_is_kept(folder: Path) -> None:
    code = "import sys, pathlib, json; pathlib.Path(sys.argv[1]).touch(); print('x'); print(json.dumps({'kld': 0.5}))"
    steps = program(step("a", code, "{out}/made"))
    assert ran(steps, folder)[0].results[0].said == {"kld": 0.5}
    assert ran(steps, folder)[0].results[0].said == {"kld": 0.5}


def test_daemons_of_a_step_do_not_outlive_it(folder: Path) -> None:
    code = (
        "import subprocess, sys, pathlib; pathlib.Path(sys.argv[1]).touch();"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)"
    )
    found, _ = ran(program(step("a", code, "{out}/made")), folder)
    assert states(found) == {"a": "done"}
    assert alive(folder) == []


def test_a_budget_that_ran_out_starts_nothing_more(folder: Path) -> None:
    found, _ = ran(chain(), folder, until=Until(budget_s=0.0))
    assert states(found) == {"a": "not run", "b": "not run", "c": "not run"}
    assert found.late
    assert found.results[0].because == "the budget ran out before it"


def test_what_is_decided_starts_nothing_more(folder: Path) -> None:
    """Asked once per gate; steps that ended well before are kept all the same."""
    steps = program(
        *(step(name, WRITE, "{out}/made", name, gate=gate) for name, gate in (("a", ""), ("b", "x"), ("c", "y")))
    )
    asked: list[int] = []

    def decided(results: tuple[Result, ...]) -> str:
        asked.append(len(results))
        return "decided before it: x failed"

    found, _ = ran(steps, folder, until=Until(decided=decided))
    assert states(found) == {"a": "done", "b": "done", "c": "not run"}
    assert (asked, found.decided, found.late) == ([2], True, False)
    assert found.results[2].because == "decided before it: x failed"
    again, _ = ran(steps, folder, until=Until(decided=lambda _: ""))
    assert states(again) == {"a": "kept", "b": "kept", "c": "done"}
    assert not again.decided


def alive(folder: Path) -> list[psutil.Process]:
    return processes.marked((folder / runstate.MARKER).read_text())


def words(process: psutil.Process) -> str:
    """Its command; none of a process that ended since it was listed."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@pytest.fixture
def runner(folder: Path, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[bytes]]:
    """A runner in a process of its own, blocked in the step that the test names."""
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "tests/verify/run_chain.py"), str(folder), request.param]
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, cwd=ROOT)
    wait_for((folder.parent / "blocked").exists)
    yield process
    process.kill()
    process.communicate()
    processes.sweep((folder / runstate.MARKER).read_text())


def wait_for(holds: object) -> None:
    last = time.monotonic() + PATIENCE_S
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < last
        time.sleep(0.02)


@pytest.mark.parametrize("runner", ["a", "b", "c"], indirect=True)
def test_kill_9_of_the_runner_in_each_step(
    folder: Path, runner: subprocess.Popen[bytes], request: pytest.FixtureRequest
) -> None:
    """The guard ends the step; the next run sweeps what had left the group, and goes on."""
    block = request.node.callspec.params["runner"]
    assert len(alive(folder)) >= 3
    runner.send_signal(signal.SIGKILL)
    runner.wait()
    wait_for(lambda: not any("blocks" in words(each) for each in alive(folder)))
    before = "abc".index(block)
    assert [name for name in "abc" if (folder / name).exists()] == list("abc"[:before])
    (folder.parent / "go").touch()
    found, _ = ran(blocking(folder, block), folder, environments=Here(folder))  # type: ignore[arg-type]
    assert states(found) == {name: "kept" if place < before else "done" for place, name in enumerate("abc")}
    assert (folder / "c" / "made").read_text() == "abc"
    assert not (folder / block / "draft").exists()
    assert alive(folder) == []


@pytest.mark.parametrize("runner", ["b"], indirect=True)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_cancel_leaves_no_process_behind(folder: Path, runner: subprocess.Popen[bytes], number: signal.Signals) -> None:
    assert alive(folder)
    runner.send_signal(number)
    out, _ = runner.communicate(timeout=PATIENCE_S)
    assert out.decode().strip() == "{'a': 'done', 'b': 'cancelled', 'c': 'not run'} True"
    assert alive(folder) == []
    assert not (folder / "b").exists()


@pytest.mark.parametrize("runner", ["a"], indirect=True)
def test_a_killed_guard_is_no_way_out(folder: Path, runner: subprocess.Popen[bytes]) -> None:
    """The step's guard dies by itself: its step has failed, and nobody of it is left."""
    for each in alive(folder):
        if "guard.py" in " ".join(each.cmdline()):
            each.kill()
    out, _ = runner.communicate(timeout=PATIENCE_S)
    assert out.decode().strip() == "{'a': 'failed', 'b': 'not run', 'c': 'not run'} False"
    assert alive(folder) == []
