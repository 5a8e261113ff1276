"""What running a proof costs beyond the programs that it runs: every step through the runner, and its bare command.

usage: python benchmarks/overhead.py PLAN --text FILE --calibration FILE [--recipe NAME] [--repeats N] [--json]

Both ways take turns in new folders. A step's time through the runner ends when the next may begin: key, hashes, guard,
move and state are in it. Bare is the same command in the same folder layout, started and waited for. The bar is
5 % of the bare time, or 2 s a step.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from planner import service, settings
from planner.cli.review import plan_of
from planner.proving.receipt import Result
from planner.proving.steps import OUT, RUN, Program, Step
from planner.running import processes, runner, verify
from planner.running.commands import Installed, resolved

SHARE, SECONDS = 0.05, 2.0
Times = dict[str, list[float]]


class Clock:
    """Notes when each step was over."""

    def __init__(self) -> None:
        self.last = time.perf_counter()
        self.took: dict[str, float] = {}

    def note(self, text: str) -> None:
        pass

    def started(self, step: Step, place: int, steps: int) -> None:
        pass

    def running(self, step: Step, seconds: float, tail: str) -> None:
        pass

    def ended(self, step: Step, result: Result) -> None:
        if result.state != "done":
            raise SystemExit(f"{step.id} {result.state}: {result.because}")
        now = time.perf_counter()
        self.took[step.id], self.last = now - self.last, now


def through(program: Program, folder: Path, tools: Installed) -> dict[str, float]:
    """Seconds of each step as `lanewise verify` runs it."""
    clock = Clock()
    runner.run(program, folder, tools, clock)
    return clock.took


def bare(program: Program, folder: Path, tools: Installed) -> dict[str, float]:
    """Seconds of each command by itself."""
    took = {}
    for step in program.steps:
        (folder / step.id).mkdir(parents=True)
        command = resolved(step.command, tools, {RUN: ".", OUT: step.id})
        env = processes.environment(step.env, "none")
        began = time.perf_counter()
        with (folder / f"{step.id}.log").open("wb") as log:
            subprocess.run(command, cwd=folder, env=env, stdout=log, stderr=log, check=True)
        took[step.id] = time.perf_counter() - began
    return took


def measured(program: Program, tools: Installed, repeats: int) -> tuple[Times, Times]:
    """Both ways in turns; who begins changes, so that a cache that is warm serves both."""
    found: tuple[Times, Times] = ({}, {})
    for turn in range(repeats):
        order = (0, 1) if turn % 2 == 0 else (1, 0)
        for which in order:
            with tempfile.TemporaryDirectory(prefix="lanewise-overhead-") as name:
                took = (through, bare)[which](program, Path(name) / "run", tools)
            for step, seconds in took.items():
                found[which].setdefault(step, []).append(seconds)
    return found


def table(found: tuple[Times, Times]) -> list[dict[str, object]]:
    """Medians of each step: ours, bare, how much more, and whether that keeps the bar."""
    rows: list[dict[str, object]] = []
    for step, times in found[0].items():
        ours, own = statistics.median(times), statistics.median(found[1][step])
        more = ours - own
        kept = more <= max(SHARE * own, SECONDS)
        row = {"step": step, "bare_s": own, "ours_s": ours, "more_s": more, "ratio": ours / own}
        rows.append({name: round(v, 3) if isinstance(v, float) else v for name, v in row.items()} | {"kept": kept})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("plan")
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--calibration", type=Path, required=True)
    parser.add_argument("--recipe")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    own = settings.from_environment()
    choice = verify.Choice(recipe=given.recipe, texts=(given.text,), calibration=(given.calibration,))
    question = verify.asked(plan_of(given.plan, own), choice, own, service.probe(own))
    found = measured(verify.program(question, choice), Installed(own), given.repeats)
    rows = table(found)
    if given.json:
        print(json.dumps({"load": os.getloadavg()[0], "repeats": given.repeats, "steps": rows}, indent=1))
        return
    print(f"{'step':28}{'bare s':>9}{'ours s':>9}{'more s':>9}{'ratio':>8}")
    for row in rows:
        told = "" if row["kept"] else "  above the bar"
        print(f"{row['step']!s:28}{row['bare_s']:9}{row['ours_s']:9}{row['more_s']:9}{row['ratio']:8}{told}")


if __name__ == "__main__":
    main()
