"""Environments of tools, made with real pip from a package index that was built here."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from catalog.errors import NotFound
from planner import settings
from planner.tools import environment
from tests.toolenv.conftest import Bench


def own(bench: Bench) -> settings.Settings:
    return settings.from_environment(bench.environ)


def listed(bench: Bench, tool: str) -> dict[str, object]:
    entries = json.loads(bench.run("tools", "list", "--json").stdout)
    return next(entry for entry in entries if entry["tool"] == tool)


def doctor(bench: Bench, tool: str, **env: str) -> tuple[int, dict[str, object]]:
    done = bench.run("tools", "doctor", tool, "--json", **env)
    (finding,) = json.loads(done.stdout)
    return done.returncode, finding


def commands(bench: Bench, tool: str) -> list[str]:
    """What its installations ran, by the last word of every command."""
    log = (bench.tools / f"{tool}-1.0" / "install.log").read_text()
    return [line.split()[-1] for line in log.splitlines() if line.startswith("$ ")]


def test_an_environment_has_what_was_asked_for_and_its_repairs(made: Bench) -> None:
    python = environment.python("toy", own(made))
    said = subprocess.run([python, "-c", "import toy; print(toy.ANSWER)"], capture_output=True, text=True, check=True)
    assert said.stdout == "42\n"
    versions = environment.versions("toy", own(made))
    assert versions["toy"] == "1.0"
    assert versions["toy-alias"] == "1.0+here"
    assert "ballast" not in versions
    assert os.access(environment.program("toy", "toy", own(made)), os.X_OK)
    with pytest.raises(NotFound, match="has no program other"):
        environment.program("toy", "other", own(made))


def test_the_list_tells_what_is_there_and_what_the_rest_costs(made: Bench) -> None:
    assert listed(made, "toy")["state"] == "ready"
    assert listed(made, "absent")["state"] == "absent"
    assert listed(made, "llama.cpp")["expected_s"]
    assert "not installed" in made.run("tools", "list").stdout


def test_installing_again_runs_nothing(made: Bench) -> None:
    before = (made.tools / "toy-1.0" / "ready").read_bytes(), commands(made, "toy")
    assert made.run("tools", "install", "toy").returncode == 0
    assert ((made.tools / "toy-1.0" / "ready").read_bytes(), commands(made, "toy")) == before


def test_the_content_hash_does_not_know_the_place_and_remove_leaves_nothing(made: Bench, bench: Bench) -> None:
    bench.run("tools", "install", "toy")
    here, there = (json.loads((each.tools / "toy-1.0" / "ready").read_text()) for each in (bench, made))
    assert here["content"] == there["content"]
    assert here["definition"] == there["definition"]
    assert bench.run("tools", "remove", "toy").stdout == "toy is removed\n"
    assert not (bench.tools / "toy-1.0").exists()
    assert listed(bench, "toy")["state"] == "absent"


def test_the_doctor_finds_a_sound_environment_sound(made: Bench) -> None:
    code, finding = doctor(made, "toy")
    assert (code, finding["problems"], finding["versions"]) == (0, [], {"toy": "1.0"})


@pytest.fixture
def mended(made: Bench, tmp_path: Path) -> Iterator[Bench]:
    """The environment, put back after a test has broken it."""
    shutil.copytree(made.tools, tmp_path / "sound", symlinks=True)
    yield made
    shutil.rmtree(made.tools)
    shutil.copytree(tmp_path / "sound", made.tools, symlinks=True)


def lose_file(place: Path) -> None:
    next(place.glob("venv/lib/*/site-packages/toy/__init__.py")).unlink()


def grow_file(place: Path) -> None:
    next(place.glob("venv/lib/*/site-packages/toy/__init__.py")).write_text("ANSWER = 42\nMORE = 1\n")


def lose_program(place: Path) -> None:
    (place / "venv" / "bin" / "toy").unlink()


def break_program(place: Path) -> None:
    program = place / "venv" / "bin" / "toy"
    program.write_text(program.read_text().replace("echo", "exit"))


def lose_package(place: Path) -> None:
    shutil.rmtree(next(place.glob("venv/lib/*/site-packages/toy-1.0.dist-info")))


def other_version(place: Path) -> None:
    note = next(place.glob("venv/lib/*/site-packages/toy-1.0.dist-info/METADATA"))
    note.write_text(note.read_text().replace("Version: 1.0", "Version: 1.1"))


BREAKS = (
    (lose_file, "1 files of toy are missing"), (grow_file, "1 files of toy are missing or were changed"),
    (lose_program, "toy is missing"), (break_program, "toy --version fails"),
    (lose_package, "toy was 1.0 and is absent"), (other_version, "toy was 1.0 and is 1.1"),
)  # fmt: skip


@pytest.mark.parametrize(("harm", "said"), BREAKS, ids=lambda each: getattr(each, "__name__", ""))
def test_the_doctor_says_what_is_broken_and_how_to_mend_it(
    mended: Bench, harm: Callable[[Path], None], said: str
) -> None:
    harm(mended.tools / "toy-1.0")
    code, finding = doctor(mended, "toy")
    assert code == 1
    assert said in " ".join(finding["problems"])  # type: ignore[arg-type]
    assert finding["mend"] == "lanewise tools remove toy && lanewise tools install toy"
    assert mended.run("tools", "doctor").returncode == 1


def wait_for(path: Path) -> None:
    for _ in range(600):
        if path.exists() and path.read_text():
            return
        time.sleep(0.05)
    raise AssertionError(f"{path} was not written")


def ends(pid: int) -> bool:
    """Whether a process ends by itself; one that nobody has waited for yet has ended."""
    for _ in range(600):
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


def test_a_killed_installation_is_never_found_leaves_no_process_and_goes_on(bench: Bench) -> None:
    process = bench.start("tools", "install", "slow")
    wait_for(bench.folder / "gate.pid")
    builder = int((bench.folder / "gate.pid").read_text())
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    assert ends(builder)
    assert listed(bench, "slow")["state"] == "unfinished"
    with pytest.raises(NotFound, match="installed in part"):
        environment.python("slow", own(bench))
    assert doctor(bench, "slow")[0] == 0
    (bench.folder / "gate").write_text("open")
    assert bench.run("tools", "install", "slow").returncode == 0
    assert commands(bench, "slow").count("slow==1.0") == 2
    assert sum("venv" in line for line in commands(bench, "slow")) == 1, "a whole stage was done again"
    assert doctor(bench, "slow")[0] == 0


@pytest.mark.slow
def test_an_interrupt_ends_everything(bench: Bench) -> None:
    process = bench.start("tools", "install", "slow")
    wait_for(bench.folder / "gate.pid")
    builder = int((bench.folder / "gate.pid").read_text())
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert ends(builder)
    assert listed(bench, "slow")["state"] == "unfinished"


def test_of_two_at_once_one_works_and_the_other_waits(bench: Bench) -> None:
    first = bench.start("tools", "install", "slow")
    wait_for(bench.folder / "gate.pid")
    second = bench.start("tools", "install", "slow")
    assert second.stderr is not None
    assert "waiting" in second.stderr.readline()
    assert listed(bench, "slow")["state"] == "busy"
    (bench.folder / "gate").write_text("open")
    assert [each.wait(60) for each in (first, second)] == [0, 0]
    assert commands(bench, "slow").count("slow==1.0") == 1


@pytest.mark.slow
def test_half_a_package_is_unpacked_again(bench: Bench) -> None:
    """What pip had unpacked when it was killed has its metadata and not all of its files."""
    (bench.folder / "gate").write_text("open")
    bench.run("tools", "install", "slow")
    place = bench.tools / "slow-1.0"
    (place / "ready").unlink()
    stages = json.loads((place / "stages.json").read_text())
    stages["seconds"] = {"python": 1.0}
    (place / "stages.json").write_text(json.dumps(stages))
    lose = next(place.glob("venv/lib/*/site-packages/slow/__init__.py"))
    lose.unlink()
    assert bench.run("tools", "install", "slow").returncode == 0
    assert lose.read_text() == "ANSWER = 42\n"
    assert doctor(bench, "slow")[0] == 0


@pytest.mark.slow
def test_other_pins_make_an_environment_anew(bench: Bench) -> None:
    bench.run("tools", "install", "toy")
    catalogue = bench.folder / "catalogue" / "tools.toml"
    catalogue.write_text(catalogue.read_text().replace("ANSWER = 42", "ANSWER = 43"))
    assert listed(bench, "toy")["state"] == "outdated"
    with pytest.raises(NotFound, match="other pins"):
        environment.python("toy", own(bench))
    assert bench.run("tools", "install", "toy").returncode == 0
    python = environment.python("toy", own(bench))
    said = subprocess.run([python, "-c", "import toy; print(toy.ANSWER)"], capture_output=True, text=True, check=True)
    assert said.stdout == "43\n"


REFUSED = (
    (("tools", "install", "nothing"), 1, "no tool is called 'nothing'; there are"),
    (("tools", "install", "absent"), 1, "no package index of your pip configuration has nowhere==1.0"),
    (("tools", "install", "huge"), 1, "huge takes 900,000,000 GB and"),
    (("tools", "install", "toy", "--backend", "cpu"), 2, "it has no backends"),
    (("tools", "install", "llama.cpp", "--backend", "abacus"), 2, "expected one of cuda, metal, vulkan, cpu"),
    (("tools", "remove", "toy"), 1, "toy is not installed"),
    (("tools", "use", "toy", "toy/toy:1"), 2, "expected docker:IMAGE or podman:IMAGE"),
    (("tools", "use", "toy", "./nowhere"), 2, "nothing is there"),
    (("tools", "use", "toy", "/etc"), 2, "expected the programs of toy in the folder; toy are missing"),
    (("tools", "use", "toy", "/bin/sh"), 2, "expected a Python interpreter"),
)


@pytest.mark.parametrize(("words", "code", "said"), REFUSED, ids=[" ".join(words[1:]) for words, _, _ in REFUSED])
def test_what_cannot_be_done_is_said_in_one_line(bench: Bench, words: tuple[str, ...], code: int, said: str) -> None:
    done = bench.run(*words)
    assert done.returncode == code
    assert said in done.stderr
    assert not (bench.tools / "toy-1.0" / "ready").exists()


@pytest.mark.slow
def test_an_index_that_cannot_be_reached_is_named_as_the_reason(bench: Bench) -> None:
    nowhere = {"PIP_NO_INDEX": "0", "PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "1"}
    quiet = {"PIP_FIND_LINKS": "", "PIP_EXTRA_INDEX_URL": "http://127.0.0.1:9/more", "PIP_CONFIG_FILE": os.devnull}
    done = bench.run("tools", "install", "toy", **nowhere, **quiet)
    assert done.returncode == 1
    assert "packages: the package index cannot be reached" in done.stderr
    assert "install.log" in done.stderr


def test_an_installation_of_the_users_own_is_used_and_forgotten(made: Bench, bench: Bench) -> None:
    python, program = environment.python("toy", own(made)), environment.program("toy", "toy", own(made))
    assert bench.run("tools", "use", "toy", str(python)).returncode == 0
    assert environment.python("toy", own(bench)) == python
    assert environment.versions("toy", own(bench))["toy"] == "1.0"
    assert listed(bench, "toy")["state"] == "used"
    assert doctor(bench, "toy")[0] == 0
    assert doctor(bench, "toy", TOY_BROKEN="1")[1]["mend"] == "lanewise tools remove toy"
    assert "used from elsewhere" in bench.run("tools", "install", "toy").stderr
    assert bench.run("tools", "use", "toy", str(program.parent.parent)).returncode == 0
    assert environment.python("toy", own(bench)) == python.parent / "python"
    assert bench.run("tools", "remove", "toy").stdout == "toy is forgotten\n"
    assert program.is_file()
    assert listed(bench, "toy")["state"] == "absent"


def test_a_folder_of_programs_has_no_interpreter(made: Bench, bench: Bench) -> None:
    folder = bench.folder / "programs"
    folder.mkdir()
    shutil.copy(environment.program("toy", "toy", own(made)), folder)
    assert bench.run("tools", "use", "toy", str(folder)).returncode == 0
    assert environment.program("toy", "toy", own(bench)) == folder / "toy"
    with pytest.raises(NotFound, match="without an interpreter"):
        environment.python("toy", own(bench))
