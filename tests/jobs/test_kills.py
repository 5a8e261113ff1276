"""kill -9 of everything that takes part in a job, at random moments: it ends in a true state, once, and nobody is left.

LANEWISE_KILL_SEED repeats a run; every failure prints it.
"""

from __future__ import annotations

import os
import random
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from planner.jobqueue.job import ENDED
from tests.jobs.scene import Scene, command, wait_for

MOMENTS = {"sqlite": 50, "postgres": 12}
LAST_S = 4.0
"""A job here takes about so long from its question to its end."""
IN_STEPS, STEP_S = 0.5, 0.4
"""Share of moments that lie in a step; seconds that one takes."""


@pytest.fixture(params=list(MOMENTS))
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    if request.param == "postgres":
        url: str = request.getfixturevalue("postgres")
    else:
        url = f"sqlite:///{tmp_path / 'data' / 'lanewise.sqlite3'}"
    found = Scene(tmp_path, url, env={"FAKE_STEP_S": str(STEP_S), "FAKE_LEASE_S": "10"})
    yield found
    found.end()


def begun(scene: Scene) -> str:
    """Letters of the steps that began, of all jobs."""
    file = scene.traces / "begun"
    return file.read_text() if file.is_file() else ""


def guards(words: str) -> bool:
    return "guard.py" in words


VICTIMS: dict[str, Callable[[str], bool]] = {
    "server": lambda words: "fake.py serve" in words,
    "worker": lambda words: "fake.py work" in words,
    "guard of the job": lambda words: "fake.py child" in words and guards(words),
    "job": lambda words: "fake.py child" in words and not guards(words),
    "guard of the step": lambda words: "begun.write" in words and guards(words),
    "step": lambda words: "begun.write" in words and not guards(words),
}


def of(scene: Scene, victim: str) -> list[psutil.Process]:
    return [each for each in scene.alive() if VICTIMS[victim](command(each))]


def struck(scene: Scene, chance: random.Random) -> str:
    """Kill one of those that live; who it was."""
    names = [name for name in VICTIMS if of(scene, name)]
    while names:
        name = chance.choice(names)
        found = of(scene, name)
        if found:
            chance.choice(found).kill()
            return name
        names.remove(name)
    return "nobody"


@pytest.mark.slow
@pytest.mark.long
def test_kill_9_at_random_moments(scene: Scene) -> None:
    seed = int(os.environ.get("LANEWISE_KILL_SEED") or secrets.randbits(32))
    chance = random.Random(seed)
    server = scene.serve()
    seen: dict[tuple[str, str], int] = {}
    print(f"seed {seed}")
    for moment in range(MOMENTS["postgres" if "postgres" in scene.url else "sqlite"]):
        before = len(begun(scene))
        job = scene.ask(seed=moment)
        delay = chance.uniform(0.0, LAST_S)
        if chance.random() < IN_STEPS:
            reached = before + chance.randint(1, 3)
            wait_for(lambda least=reached: len(begun(scene)) >= least, f"seed {seed}, moment {moment}: a step begins")
            delay = chance.uniform(0.0, STEP_S)
        time.sleep(delay)
        victim = struck(scene, chance)
        where = f"seed {seed}, moment {moment}, {victim} after {delay:.2f} s"
        if victim == "server":
            server.wait()
            wait_for(lambda: not scene.alive(), f"{where}: nobody is left")
            server = scene.serve()
        wait_for(lambda key=job: scene.job(key).state in ENDED, f"{where}: {scene.job(job)} {scene.logs()}")
        ended = scene.job(job)
        seen[victim, ended.state] = seen.get((victim, ended.state), 0) + 1
        check(scene, job, where)
        may_fail = victim in ("step", "guard of the step")
        assert ended.state == "done" or (may_fail and ended.state == "failed"), f"{where}: {ended}"
    print(f"seed {seed}: {dict(sorted(seen.items()))}")


def check(scene: Scene, job: str, where: str) -> None:
    """One receipt that says what the job says, no process, no step that did not run alone."""
    ended = scene.job(job)
    (receipt,) = scene.receipts(job)
    states = [each["state"] for each in receipt["steps"]]
    assert states == [each.state for each in ended.steps], where
    well = all(each in ("done", "kept") for each in states)
    assert well == (ended.state == "done"), f"{where}: {ended}"
    if well:
        assert scene.made() == "abc", where
    else:
        assert "signal 9" in ended.because or "exit code -9" in ended.because, f"{where}: {ended}"
    rest = [name for name in VICTIMS if name not in ("server", "worker")]
    wait_for(lambda: not any(of(scene, name) for name in rest), f"{where}: nobody of the job is left")
    assert not (scene.traces / "twice").exists(), f"{where}: two steps at once"
