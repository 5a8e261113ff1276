"""Tools in container images: a runtime that runs the words here, and a real one where an image is named."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from catalog.errors import BadInput
from planner.tools import containers
from planner.workers import container
from tests.toolenv.conftest import Bench

RUNTIME = """#!{python}
import os, subprocess, sys
words = sys.argv[1:]
if words[:2] == ["image", "inspect"]:
    if words[-1] not in ("toy:1", "bare:1"):
        sys.exit("no such image")
    print("sha256:" + words[-1].partition(":")[0] * 8)
    sys.exit()
assert words[0] == "run", words
at = next(place for place, word in enumerate(words) if word.startswith("sha256:"))
shared = [word.removeprefix("--volume=").partition(":")[0] for word in words[:at] if word.startswith("--volume=")]
with open(os.environ["TOY_LOG"], "a") as log:
    print(words, file=log)
if "bare" in words[at]:
    sys.exit(127)
gone = os.fork()  # as conmon does: what runs in the container is no child of the program that was started
if not gone:
    os.setsid()
    os.closerange(3, 256)
    env = {{**os.environ, "PATH": os.environ["TOY_PATH"] + ":" + os.environ["PATH"]}}
    os.execvpe("sh", ["sh", *words[at + 1:]], env)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(gone, 0)[1]))
"""
"""Runs the words here, with a folder of "the image" on its search path; nothing is mounted."""


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "runtime"
    folder.mkdir()
    (folder / "podman").write_text(RUNTIME.format(python=sys.executable))
    (folder / "podman").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "log"))
    return tmp_path


def test_containers_are_told_from_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tools" / "bin:1").mkdir(parents=True)
    for path in ("/opt/llama.cpp", "tools/bin:1", "relative/folder", "~/own"):
        assert containers.named(path) is None
    assert containers.named("docker:vllm/vllm-openai:v0.33.0") == ("docker", "vllm/vllm-openai:v0.33.0")
    assert containers.named("podman://a.b:5000/c@sha256:00") == ("podman", "a.b:5000/c@sha256:00")
    for image in ("vllm/vllm-openai:v0.33.0", "registry/a/b:1", "apptainer:x", "docker:", "docker:a b", "docker:-v"):
        with pytest.raises(BadInput, match="docker:IMAGE or podman:IMAGE"):
            containers.named(image)


def test_what_words_name_is_there_under_its_own_name(tmp_path: Path) -> None:
    model, outside = tmp_path / "models" / "a model", tmp_path / "blobs"
    for folder in (model, outside):
        folder.mkdir(parents=True)
    (outside / "weights").touch()
    (model / "weights").symlink_to(outside / "weights")
    named = [str(model / "weights"), f"--out={tmp_path}/made/new", "-c", "import os", "/etc/hostname", "/usr/bin", "/"]
    assert container.shared(named) == ["/etc/hostname", str(outside), str(model)]
    (tmp_path / "made").mkdir()
    assert container.shared(named) == ["/etc/hostname", str(outside), str(tmp_path / "made"), str(model)]
    assert container.shared([str(tmp_path), *named]) == ["/etc/hostname", str(tmp_path)]


def test_a_folder_whose_name_no_runtime_takes_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "a:b"
    folder.mkdir()
    with pytest.raises(SystemExit, match=r"a:b: a container gets no folder .* colon"):
        container.shared([str(folder / "model")])
    assert container.shared(["/nowhere/bin:/nowhere/sbin", "http://host:1/v1"]) == []


def test_variables_of_the_machine_stay_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    env = {
        "PATH": "/x", "HOME": "/nowhere", "PYTHONPATH": "/x", "VLLM_X": "1", "LD_LIBRARY_PATH": "/x", "HF_TOKEN": "s",
        "LANEWISE_RUN": "one", "LANEWISE_DATABASE_URL": "postgresql://name:secret@host/plans",
    }  # fmt: skip
    words = container.started("podman", "sha256:00", ["vllm", "serve"], env)
    assert [word for word in words if word.startswith("--env=")] == [
        "--env=HF_TOKEN",
        "--env=LANEWISE_RUN",
        "--env=VLLM_X",
        "--env=HOME=/tmp",
    ]
    assert f"--volume={tmp_path}:{tmp_path}" in words
    assert words[-3:] == ["sh", "vllm", "serve"]


def test_a_tool_in_an_image_is_used_by_its_digest(runtime: Path, made: Bench, bench: Bench) -> None:
    image = made.tools / "toy-1.0" / "venv" / "bin"
    here = {"PATH": os.environ["PATH"], "TOY_LOG": os.environ["TOY_LOG"], "TOY_PATH": str(image)}
    run = bench.run
    assert "podman pull toy:2" in run("tools", "use", "toy", "podman:toy:2", **here).stderr
    nowhere = here | {"PATH": "/none"}
    assert "docker is not on the search path" in run("tools", "use", "toy", "docker:toy:1", **nowhere).stderr
    assert "toy are not on the image's search path" in run("tools", "use", "toy", "podman:bare:1", **here).stderr
    assert run("tools", "use", "toy", "podman:toy:1", **here).stdout == "toy is used from podman:toy:1\n"
    found = run("tools", "doctor", "toy", **here)
    assert found.returncode == 0, found.stdout
    assert "'sha256:toytoytoytoytoytoytoytoy'" in (runtime / "log").read_text()
    assert run("tools", "remove", "toy").stdout == "toy is forgotten\n"
    assert not (bench.tools / "containers" / "toy").exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_container_ends_with_the_program_that_asked_for_it(
    runtime: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """What runs inside is in another session: the pipe ends it, or the signal that the runtime passes on."""
    monkeypatch.setenv("TOY_PATH", "/none")
    program = [sys.executable, "-c", "import time; time.sleep(99)"]
    asked = subprocess.Popen([*containers.command("podman", "sha256:toy"), *program], stdin=subprocess.DEVNULL)
    inside = waited(asked.pid)
    asked.send_signal(number)
    asked.wait(10)
    assert not psutil.wait_procs(inside, timeout=10)[1]


def waited(pid: int) -> list[psutil.Process]:
    """The processes inside, once the program sleeps."""
    for _ in range(100):
        found = [
            each for each in psutil.process_iter() if "time.sleep(99)" in " ".join(words(each)) and each.pid != pid
        ]
        if any("-c" in words(each)[:2] and words(each)[0] == sys.executable for each in found):
            return found
        time.sleep(0.1)
    raise AssertionError("it did not start")


def words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@pytest.mark.skipif(not os.environ.get("LANEWISE_TEST_IMAGE"), reason="LANEWISE_TEST_IMAGE names no docker:IMAGE")
@pytest.mark.slow
def test_a_real_container_writes_where_it_was_told_and_ends(tmp_path: Path) -> None:
    runtime, image = containers.named(os.environ["LANEWISE_TEST_IMAGE"]) or ("", "")
    which = containers.digest(runtime, image)
    made = containers.command(runtime, which, "sh", "-c", 'pwd > "$0"; exit 3', str(tmp_path / "said"))
    assert subprocess.run(made, cwd=tmp_path, check=False).returncode == 3
    assert (tmp_path / "said").read_text().strip() == str(tmp_path)
