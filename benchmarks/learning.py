"""Whether plans of this machine lie on a measurement that they did not learn from: two arms, run after run in turn.

usage: python -m benchmarks.learning MODEL --accelerator ID [--lanes gguf:Q8_0 gguf:Q4_K_M] [--runs 5] [--users 1]
       [--calibration FILE] [--reuse FOLDER] [--out FOLDER]

MODEL is a 16-bit model (folder or hub id), ID an entry of the catalogue that this machine's probe knows it by. Each run
is a start of the server and three repeats of the plan's load, by `lanewise verify --serve-only`. Arm A's runs of the
first lane are kept (`lanewise observe … --add`), arm B's are not; then everything is planned again. Writes
learning.json: medians of both arms, plans before and after, other machines and models to the byte.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

MEASURED = {"ttft_p50_s": "ttft_s", "tpot_p50_s": "tpot_s", "requests_per_s": "output_tokens_per_s"}
"""Estimate -> what runs say of it; rates as tokens/s over the mean answer."""
ARMS = ("A", "B")
ROBUST = 1.4826
"""Standard deviation over median absolute deviation of a normal distribution."""
LEAST = 0.10
OTHERS = ("epyc-9755", "l4")


class Lanewise:
    """The command line, with a data folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"

    def said(self, *words: str, codes: Sequence[int] = (0,)) -> str:
        """What a command prints. Raises RuntimeError where it ends otherwise."""
        environment = {**os.environ, "LANEWISE_DATA_DIR": str(self.data)}
        done = subprocess.run(
            [sys.executable, "-m", "planner", *words], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode not in codes:
            raise RuntimeError(f"{' '.join(words)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
        return done.stdout

    def plan(self, request: Mapping[str, Any], *words: str) -> dict[str, Any]:
        """The plan of a request."""
        path = self.folder / "request.json"
        path.write_text(json.dumps(request))
        made: dict[str, Any] = json.loads(self.said("plan", str(path), "--json", *words))
        return made


def request(model: str, accelerator: str, lane: str, users: int) -> dict[str, Any]:
    """Short prompts and answers, so that a run takes seconds."""
    return {
        "model": model,
        "workload": {
            "users": users, "context_tokens_max": 512, "prompt_tokens": {"mean": 96, "p95": 200},
            "output_tokens": {"mean": 48, "p95": 96}, "mix": {"chat": 1.0},
        },
        "hardware": {"accelerators": [{"id": accelerator, "count": 1, "host_ram_gib": 16}]},
        "lanes": [lane], "engines": ["llama.cpp"], "quality": {"max_loss_pct": 90},
        "overrides": {"waive": ["Q301", "Q305", "Q206"], "estimates": [{"lane": lane, "loss_pct": {"chat": 1.0}}]},
    }  # fmt: skip


def run(lanewise: Lanewise, plan: dict[str, Any], name: str, more: Sequence[str]) -> Path:
    """One start and its repeats; the receipt."""
    file = lanewise.folder / f"{name}.plan.json"
    file.write_text(json.dumps(plan))
    folder = lanewise.folder / name
    lanewise.said(
        "verify", str(file), "--serve-only", "--search", "0", "--no-store", "--run", str(folder), *more, codes=(0, 3)
    )
    return folder / "receipt.json"


def middles(receipts: Sequence[Path], output: float) -> dict[str, list[float]]:
    """Estimate -> the medians of every repeat of every run."""
    found: dict[str, list[float]] = {name: [] for name in MEASURED}
    for path in receipts:
        served = json.loads(path.read_text())["served"]
        if served["outcome"] != "measured" or served["elsewhere"]:
            raise RuntimeError(f"{path}: {served['outcome']} {served['because']} {served['elsewhere']}")
        for name, said in MEASURED.items():
            scale = output if name == "requests_per_s" else 1.0
            found[name] += [value / scale for value in served["ran"]["medians"][said]]
    return found


def variation(values: Sequence[float]) -> float:
    """Spread of repeats over their median, by the median deviation: a rare stall of a shared machine is no repeat."""
    middle = statistics.median(values)
    return ROBUST * statistics.median(abs(each - middle) for each in values) / middle


def estimates(plan: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Of the plan's choice."""
    if plan["choice"] is None:
        raise RuntimeError(f"nothing fits: {plan['refused']}")
    found: dict[str, dict[str, Any]] = plan["choice"]["estimates"]
    return {name: found[name] for name in MEASURED}


def compared(
    before: dict[str, Any], after: dict[str, Any], arms: Mapping[str, Mapping[str, list[float]]]
) -> list[dict[str, Any]]:
    """One row per estimate: B's median, both predictions, and how far they may be from it."""
    rows = []
    for name in MEASURED:
        b, old, new = statistics.median(arms["B"][name]), estimates(before)[name], estimates(after)[name]
        spread = variation([*arms["A"][name], *arms["B"][name]])
        rows.append(
            {
                "estimate": name, "A": statistics.median(arms["A"][name]) if arms["A"][name] else None, "B": b,
                "variation": spread, "allowed": max(LEAST, 2 * spread), "before": old["value"], "after": new["value"],
                "basis": new["basis"], "off_before": old["value"] / b - 1, "off_after": new["value"] / b - 1,
            }
        )  # fmt: skip
    return rows


def main(words: Sequence[str]) -> int:
    """Measure, learn from one arm, plan again, and hold the plan beside the other."""
    asked = _asked(words)
    asked.out.mkdir(parents=True, exist_ok=True)
    lanewise = Lanewise(asked.out)
    if asked.catalog:
        (lanewise.data / "catalog" / "accelerators").mkdir(parents=True, exist_ok=True)
        (lanewise.data / "catalog" / "accelerators" / asked.catalog.name).write_bytes(asked.catalog.read_bytes())
    made = measure(lanewise, asked)
    (asked.out / "learning.json").write_text(json.dumps(made, indent=1) + "\n")
    print(json.dumps(made, indent=1))
    return 0 if made["others_stay"] and made["undone"] and all(each["within"] for each in made["learnt"]) else 1


def measure(lanewise: Lanewise, asked: argparse.Namespace) -> dict[str, Any]:
    """Everything that learning.json says."""
    more = [word for path in asked.calibration for word in ("--calibration", str(path))]
    more += [word for path in (asked.out, *asked.reuse) for word in ("--reuse", str(path))]
    requests = {lane: request(asked.model, asked.accelerator, lane, asked.users) for lane in asked.lanes}
    before = {lane: lanewise.plan(body) for lane, body in requests.items()}
    elsewhere = [request(asked.model, other, asked.lanes[0], 1) for other in OTHERS]
    old = [lanewise.plan(body) for body in elsewhere]
    receipts: dict[str, dict[str, list[Path]]] = {lane: {arm: [] for arm in ARMS} for lane in asked.lanes}
    for number in range(asked.runs):
        for lane in asked.lanes:
            for arm in ARMS if number % 2 == 0 else ARMS[::-1]:
                name = f"{lane.replace(':', '-')}-{arm}{number}"
                receipts[lane][arm].append(run(lanewise, before[lane], name, more))
    first = asked.lanes[0]
    added = json.loads(lanewise.said("observe", *map(str, receipts[first]["A"]), "--add", "--json"))
    after = {lane: lanewise.plan(body) for lane, body in requests.items()}
    arms = {lane: {arm: middles(paths, 48.0) for arm, paths in found.items()} for lane, found in receipts.items()}
    learnt = [
        {**row, "within": abs(row["off_after"]) <= row["allowed"]}
        for row in compared(before[first], after[first], arms[first])
    ]
    new = [lanewise.plan(body) for body in elsewhere]
    plain = lanewise.plan(requests[first], "--no-measurements")
    run_id = json.loads(lanewise.said("observe", "--list", "--json"))["observations"][0]["run"]
    lanewise.said("observe", "--remove", run_id)
    return {
        "runs_per_arm": asked.runs, "users": asked.users, "lane": first, "learnt": learnt,
        "kept": len(added["added"]["added"]),
        "transfer": {lane: compared(before[lane], after[lane], arms[lane]) for lane in asked.lanes[1:]},
        "others_stay": all(a["choice"] == b["choice"] for a, b in zip(old, new, strict=True)),
        "digest_changed": before[first]["catalog_digest"] != after[first]["catalog_digest"],
        "left_out": plain == before[first],
        "undone": lanewise.plan(requests[first]) == before[first],
        "arms": arms,
    }  # fmt: skip


def _asked(words: Sequence[str]) -> argparse.Namespace:
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("model")
    reader.add_argument("--accelerator", required=True)
    reader.add_argument("--catalog", type=Path, help="TOML file of the accelerator, where the catalogue has none")
    reader.add_argument("--lanes", nargs="+", default=["gguf:Q8_0", "gguf:Q4_K_M"])
    reader.add_argument("--runs", type=int, default=5)
    reader.add_argument("--users", type=int, default=1)
    reader.add_argument("--calibration", type=Path, nargs="*", default=[])
    reader.add_argument("--reuse", type=Path, nargs="*", default=[])
    reader.add_argument("--out", type=Path, default=Path("learning"))
    return reader.parse_args(words)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
