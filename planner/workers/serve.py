"""Starts a rendered launch file as it stands, loads the server, and writes down what it saw.

usage: serve.py --launch FOLDER --out FOLDER --program FILE --model FOLDER|FILE --served NAME …; `--help` names the load

Weights, host and port come to `serve.sh` by SERVE_MODEL, SERVE_HOST, SERVE_PORT, as they would from its user; engines'
programs are found on PATH, which the folder of `--program` leads. Writes measured.json and server.log; prints one JSON
object with the outcome. Runs on this Python; imports nothing of ours but its own parts.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from serve_client import Answer, Run, drive
from serve_client import Server as Whom
from serve_load import Lengths, Load, asks
from serve_process import Drawn, Failed, Server, free_port
from serve_search import Found, Trial, search
from serve_tool import Tool
from serve_tool import drive as replayed

HOST = "127.0.0.1"
TRIAL_S, TRIAL_LEAST, TRIAL_MOST = 15.0, 30, 600
"""A trial of a rate: so many seconds of requests, within these numbers of them."""
MOST_LOST = 0.5
"""Share of lost answers after which no further repeat is begun: it would lose them as well."""
BEHIND = 1.1
"""A trial's last answer may come so much later than it was due, two long answers aside, before it counts as behind."""


def main(words: list[str]) -> int:
    asked = parsed(words)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    began = time.monotonic()
    try:
        measured = served(asked)
    except Failed as fault:
        print(json.dumps({"outcome": fault.outcome, "because": str(fault), "seconds": time.monotonic() - began}))
        print(f"{fault.outcome}: {fault}", file=sys.stderr)
        return 1
    (asked.out / "measured.json").write_text(json.dumps(measured))
    told = {name: measured[name] for name in ("ready_s", "memory_peak_bytes", "watts")}
    print(json.dumps({"outcome": "measured", **told, "errors": errors(measured)}))
    return 0


def parsed(words: list[str]) -> argparse.Namespace:
    reader = argparse.ArgumentParser(allow_abbrev=False)
    for name in ("launch", "out"):
        reader.add_argument(f"--{name}", type=Path, required=True)
    for name in ("program", "model", "served"):
        reader.add_argument(f"--{name}", required=True)
    for name in ("prompt-mean", "prompt-p95", "output-mean", "output-p95"):
        reader.add_argument(f"--{name}", type=float, required=True)
    for name in ("context", "vocabulary"):
        reader.add_argument(f"--{name}", type=int, required=True)
    whole = {"users": 0, "shared-prefix": 0, "seed": 0, "port": 0, "requests": 50, "repeats": 3, "warm-up": 8}
    for name, default in whole.items():
        reader.add_argument(f"--{name}", type=int, default=default)
    for name, value in {
        "rate": 0.0,
        "burstiness": 1.0,
        "patience-s": 600.0,
        "longest-s": 0.0,
        "timeout-s": 300.0,
        "search-s": 0.0,
    }.items():
        reader.add_argument(f"--{name}", type=float, default=value)
    reader.add_argument("--flag", action="append", default=[], help="a word more for serve.sh")
    reader.add_argument("--load-tool", choices=("guidellm", "vllm-bench"), help="who drives the repeats instead of us")
    reader.add_argument("--load-program", type=Path, help="its program")
    reader.add_argument("--tokenizer", default="", help="folder of the model's own, for its prompts")
    reader.add_argument("--limit", action="append", default=[], help="ttft_p95_s=1.5: what a sustained rate keeps")
    return reader.parse_args(words)


def served(asked: argparse.Namespace) -> dict[str, Any]:
    """Start, warm up, repeat, search. Raises Failed. The server starts beside its launch file: paths are whole."""
    address = (HOST, asked.port or free_port())
    script = (asked.launch / "serve.sh").absolute()
    script.chmod(0o755)
    env = {
        "PATH": f"{Path(asked.program).absolute().parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "SERVE_MODEL": os.path.abspath(asked.model), "SERVE_HOST": HOST, "SERVE_PORT": str(address[1]),
    }  # fmt: skip
    with Server(script, asked.flag, env, asked.out / "server.log", address) as server:
        said(f"waiting for {server.url}, up to {asked.patience_s:.0f} s")
        ready = server.ready(asked.patience_s, asked.longest_s)
        said(f"ready after {ready:.1f} s")
        return loaded(asked, server, ready)


def loaded(asked: argparse.Namespace, server: Server, ready: float) -> dict[str, Any]:
    """Everything that is asked of a server that is up."""
    started = server.log.stat().st_size
    load, whom = load_of(asked), Whom(address=server.url, model=asked.served, timeout_s=asked.timeout_s)
    warm = run(server, whom, load, asked.warm_up, 0)
    cold = server.drawn.peak_bytes
    repeats, tool = [], tool_of(asked)
    for part in range(1, asked.repeats + 1):
        said(f"repeat {part} of {asked.repeats}: {asked.requests} requests")
        repeats.append(run(server, whom, load, asked.requests, part, tool))
        if lost(repeats[-1]) > MOST_LOST:
            break
    well = lost(repeats[-1]) <= MOST_LOST
    found = sustained(asked, server, whom, repeats) if asked.search_s and well else None
    drawn: Drawn = server.drawn
    return {
        "schema": 1, "ready_s": ready, "ready_log_bytes": started, "host": HOST, "port": server.address[1],
        "warm_up": columns(warm),
        "repeats": [columns(each) for each in repeats], "sustained": found.plain() if found else None,
        "memory_bytes_after_warm_up": cold, "memory_peak_bytes": drawn.peak_bytes,
        "gpu_peak_bytes": drawn.gpu_peak_bytes, "watts": float(np.mean(drawn.watts)) if drawn.watts else None,
        **({"tool": tool.plain()} if tool else {}),
    }  # fmt: skip


def lost(done: Run) -> float:
    """Share of requests without a whole answer."""
    return sum(bool(each.error) for each in done.answers) / max(len(done.answers), 1)


def load_of(asked: argparse.Namespace, rate: float | None = None) -> Load:
    return Load(
        rate=asked.rate if rate is None else rate, users=asked.users if rate is None else 0,
        burstiness=asked.burstiness,
        prompt=Lengths(mean=asked.prompt_mean, p95=asked.prompt_p95),
        output=Lengths(mean=asked.output_mean, p95=asked.output_p95),
        shared_prefix=asked.shared_prefix, context=asked.context, vocabulary=asked.vocabulary, seed=asked.seed,
    )  # fmt: skip


def tool_of(asked: argparse.Namespace) -> Tool | None:
    """Who drives the repeats; None: we do. llama-server reports tokens where `vllm bench serve` does not read them."""
    if not asked.load_tool:
        return None
    counted = asked.load_tool != "vllm-bench" or Path(asked.program).name != "llama-server"
    prefix = min(asked.shared_prefix, asked.context - 1)
    return Tool(
        id=asked.load_tool, program=asked.load_program.absolute(), tokenizer=asked.tokenizer, out=asked.out / "load",
        prefix=prefix, counted=counted,
    )  # fmt: skip


def run(server: Server, whom: Whom, load: Load, count: int, part: int, tool: Tool | None = None) -> Run:
    """One load, with the collector of this Python out of the way. Raises Failed where the server ended meanwhile."""
    made = asks(load, count, part)
    if tool is not None:
        return replayed(tool, server, whom, made, (load.users, part))
    gc.collect()
    gc.disable()
    try:
        done = drive(whom, made, load.users)
    finally:
        gc.enable()
    server.alive()
    return done


def sustained(asked: argparse.Namespace, server: Server, whom: Whom, repeats: list[Run]) -> Found:
    """Bisect from the planned rate, or from what closed loads came to."""
    limits = dict(limit.split("=") for limit in asked.limit)
    quiet = max((times(each)["e2e"].max(initial=0.0) for each in repeats), default=0.0)
    end = time.monotonic() + asked.search_s
    first = asked.rate or sum(len(each.answers) for each in repeats) / sum(each.seconds for each in repeats)

    def carry(rate: float) -> Trial:
        count = int(min(max(rate * TRIAL_S, TRIAL_LEAST), TRIAL_MOST))
        said(f"trying {rate:.3g} requests/s, {count} requests")
        load = load_of(asked, rate)
        done = run(server, whom, load, count, 1000 + int(rate * 1000))
        broken = breaks(done, {name: float(value) for name, value in limits.items()}, quiet)
        return Trial(rate=rate, holds=not broken, because=broken, seconds=done.seconds)

    return search(first, carry, lambda: end - time.monotonic())


def breaks(done: Run, limits: dict[str, float], quiet: float) -> str:
    """What a run does not keep, in a few words; "" where it keeps everything."""
    wrong = sum(bool(each.error) for each in done.answers)
    if wrong:
        return f"{wrong} errors"
    found = times(done)
    for name, limit in limits.items():
        kind, percentile, _ = name.split("_")
        value = float(np.percentile(found[kind], float(percentile[1:]))) if len(found[kind]) else 0.0
        if value > limit:
            return f"{name} {value:.3g} above {limit:g}"
    due = max(each.due for each in done.answers)
    if done.seconds > due * BEHIND + 2 * quiet:
        return f"falls behind: the last answer came after {done.seconds:.3g} s, its requests were due in {due:.3g} s"
    return ""


def times(done: Run) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    """Seconds of every answer that came whole; a single token has no time between tokens."""
    well = [each for each in done.answers if not each.error]
    return {
        "ttft": np.array([each.first - each.due for each in well]),
        "tpot": np.array([(each.last - each.first) / (each.output - 1) for each in well if each.output > 1]),
        "e2e": np.array([each.last - each.due for each in well]),
    }


def columns(done: Run) -> dict[str, Any]:
    """Answers as columns, for JSON."""
    rows = [asdict(each) for each in done.answers]
    return {"seconds": done.seconds, **{name: [row[name] for row in rows] for name in asdict(Answer(due=0.0))}}


def errors(measured: dict[str, Any]) -> int:
    return sum(bool(each) for part in measured["repeats"] for each in part["error"])


def said(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
