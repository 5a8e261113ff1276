"""A server, a worker or the process of a job with a small real program in place of the recipe's.

python fake.py serve …      `lanewise serve …` whose worker is this script
python fake.py work …       `lanewise jobs work …` whose jobs are this script
python fake.py child JOB    the process of one job: three steps, each of which adds its letter

The step that FAKE_BLOCK names (a, b or c) starts a child that leaves its group, says so and sleeps, unless there is
FAKE_FOLDER/go. Others take FAKE_STEP_S seconds. Leases last FAKE_LEASE_S seconds.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from planner import cli
from planner.jobqueue import child, embedded, worker
from planner.proving.steps import Program
from planner.running import verify
from planner.settings import Settings
from tests.verify.questions import question
from tests.verify.worlds import Here
from tests.verify.worlds import program as made
from tests.verify.worlds import step as one

SELF = (sys.executable, str(Path(__file__).resolve()))
CODE = """
import fcntl, pathlib, subprocess, sys, time
out, before, letter, blocks, folder, seconds, seed = sys.argv[1:]
folder = pathlib.Path(folder)
alone = (folder / "alone").open("a")
try:
    fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    (folder / "twice").write_text(letter)
with (folder / "begun").open("a") as begun:
    begun.write(letter)
print("step", letter, "began", file=sys.stderr, flush=True)
if blocks == "yes" and not (folder / "go").exists():
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    (folder / "blocked").write_text("yes")
    time.sleep(600)
time.sleep(float(seconds))
text = pathlib.Path(before).read_text() if before != "-" else ""
pathlib.Path(out).write_text(text + letter)
with (folder / "ended").open("a") as ended:
    ended.write(letter)
"""


def program(folder: Path, seed: int = 0) -> Program:
    """a -> b -> c; another seed runs all of them again. A step that does not run alone says so in FOLDER/twice."""
    block, seconds = os.environ.get("FAKE_BLOCK", ""), os.environ.get("FAKE_STEP_S", "0")
    rows = []
    for place, name in enumerate("abc"):
        before = "-" if not place else f"{{run}}/{'abc'[place - 1]}/made"
        needs = () if not place else ("abc"[place - 1],)
        words = (before, name, "yes" if name == block else "no", str(folder), seconds, str(seed))
        rows.append(one(name, CODE, "{out}/made", *words, needs=needs))
    return made(*rows)


def making(work: child.Work, own: Settings) -> child.Made:
    """The small program under the question of a real plan."""
    from catalog.inventory import Inventory

    folder = Path(os.environ["FAKE_FOLDER"])
    here = Inventory(probed_at="2026-11-21T10:00:00Z")
    about = verify.Run(question=question("gptq-int4"), inventory=here, reproduce=work.again, budget_s=work.budget_s)
    return program(folder, work.seed), about, Here(folder)


def main(argv: list[str]) -> int:
    embedded.WORKER = (*SELF, "work", "--until-eof")
    worker.CHILD = (*SELF, "child")
    worker.LEASE_S = float(os.environ.get("FAKE_LEASE_S", "3"))
    if argv[0] == "child":
        return child.main(argv[1:], making)
    words = ["jobs", *argv] if argv[0] == "work" else argv
    return cli.main(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
