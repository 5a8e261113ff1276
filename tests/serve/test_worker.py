"""The worker that serves a rendered launch file, against a small real server with known delays."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
import pytest

from planner.proving import served
from planner.workers.serve_load import Lengths, Load, arrivals, asks
from planner.workers.serve_search import Trial, search
from tests.serve import worlds

LOAD = Load(
    rate=5.0, prompt=Lengths(mean=100, p95=250), output=Lengths(mean=50, p95=50), context=2000, vocabulary=5000,
    shared_prefix=8,
)  # fmt: skip


@pytest.mark.parametrize("shape", [0.25, 1.0, 4.0])
def test_gaps_are_gamma_with_the_asked_rate_and_burstiness(shape: float) -> None:
    load = Load(**{**vars(LOAD), "burstiness": shape})
    count = 20_000
    gaps = np.diff(arrivals(load, count, np.random.default_rng(7)), prepend=0.0)
    error = 1 / (5.0 * np.sqrt(shape * count))
    assert abs(gaps.mean() - 0.2) < 4 * error
    variation = gaps.var() / gaps.mean() ** 2
    assert abs(variation * shape - 1) < 0.15


def test_lengths_have_the_asked_mean_and_95th_percentile() -> None:
    drawn = LOAD.prompt.drawn(20_000, np.random.default_rng(3)).astype(float)
    assert abs(drawn.mean() - 100) < 4 * drawn.std() / np.sqrt(len(drawn))
    assert 0.045 < (drawn > 250).mean() < 0.055
    assert set(LOAD.output.drawn(50, np.random.default_rng(3))) == {50}


def test_requests_repeat_with_their_seed_share_a_prefix_and_fit_the_context() -> None:
    made, again, other = asks(LOAD, 50, 1), asks(LOAD, 50, 1), asks(LOAD, 50, 2)
    assert made == again
    assert {tuple(ask.prompt[:8]) for ask in (*made, *other) if len(ask.prompt) >= 8} == {tuple(made[0].prompt[:8])}
    assert [ask.prompt[8:] for ask in made] != [ask.prompt[8:] for ask in other]
    tight = asks(Load(**{**vars(LOAD), "context": 64}), 200, 1)
    assert all(len(ask.prompt) >= 1 and len(ask.prompt) + ask.output <= 64 for ask in tight)
    assert all(500 <= word < 5000 for ask in tight for word in ask.prompt)


@pytest.mark.parametrize("limit", [0.3, 1.0, 7.7, 300.0])
def test_a_search_brackets_the_limit(limit: float) -> None:
    found = search(4.0, lambda rate: Trial(rate=rate, holds=rate <= limit), lambda: 1.0)
    assert found.at_least is not None
    assert found.below is not None
    assert found.at_least <= limit < found.below <= 1.1 * found.at_least
    assert len(found.trials) < 20


def test_a_search_ends_with_its_time_and_says_what_it_knows() -> None:
    times = iter([1.0, 0.0])
    found = search(1.0, lambda rate: Trial(rate=rate, holds=True), lambda: next(times))
    assert (found.at_least, found.below) == (2.0, None)


def _read(folder: Path) -> served.Measured:
    return served.read((folder / "out" / "measured.json").read_bytes(), "measured.json")


def test_times_are_those_of_the_server(tmp_path: Path) -> None:
    """Delays of the server plus what the client and a busy machine add: never less than the server waited."""
    done, said = worlds.served(tmp_path, {"first_s": 0.1, "token_s": 0.03}, rate=20, requests=40, repeats=2)
    assert (done.returncode, said["outcome"], said["errors"]) == (0, "measured", 0)
    measured = _read(tmp_path)
    first = np.concatenate([each.times("ttft") for each in measured.repeats])
    between = np.concatenate([each.times("tpot") for each in measured.repeats])
    assert len(first) == 80
    assert first.min() >= 0.1
    assert np.median(between) >= 0.03 * 0.999
    lag = np.concatenate([np.array(each.sent) - np.array(each.due) for each in measured.repeats])
    assert lag.min() >= 0.0
    assert set(served.errors(measured)) == set()


def test_the_clock_runs_from_when_a_request_was_due(tmp_path: Path) -> None:
    """One slot, 50 ms each, 40 requests/s: whoever is due later waits longer, though the client is never held up."""
    done, _ = worlds.served(
        tmp_path, {"first_s": 0.05, "token_s": 0.0, "slots": 1}, rate=40, requests=40, repeats=1, timeout_s=60
    )
    assert done.returncode == 0
    only = _read(tmp_path).repeats[0]
    late = np.array(only.first) - np.array(only.due)
    order = np.argsort(only.due)
    # 40 answers of 50 ms one after the other: the k-th cannot begin before k x 50 ms, whenever it was sent
    earliest = np.sort(np.array(only.first))
    assert (earliest >= 0.05 * np.arange(1, 41) * 0.99).all()
    assert late[order][-10:].min() > late[order][:3].max()


def test_users_wait_for_their_answers(tmp_path: Path) -> None:
    done, _ = worlds.served(tmp_path, {}, rate=0, users=3, requests=30, repeats=1)
    assert done.returncode == 0
    only = _read(tmp_path).repeats[0]
    spans = sorted(zip(only.sent, only.last, strict=True))
    under_way = [sum(start <= at < end for start, end in spans) for at, _ in spans]
    assert max(under_way) <= 3
    assert len(spans) == 30


def test_the_server_hears_the_load_and_the_place_of_the_weights(tmp_path: Path) -> None:
    record = tmp_path / "asked.jsonl"
    done, _ = worlds.served(tmp_path, {"record": str(record)}, requests=10, repeats=1)
    assert done.returncode == 0
    rows = [json.loads(line) for line in record.read_text().splitlines()]
    expected = [ask for part, count in ((0, 2), (1, 10)) for ask in asks(_load(), count, part)]
    assert sorted((row["prompt"], row["output"]) for row in rows) == sorted((a.prompt, a.output) for a in expected)


def _load() -> Load:
    given = worlds.LOAD
    return Load(
        rate=float(given["rate"]), prompt=Lengths(mean=20, p95=30), output=Lengths(mean=5, p95=8), context=64,
        vocabulary=1000,
    )  # fmt: skip


FAILURES: list[tuple[str, str, str]] = [
    ("die", "died at start", "Engine core initialization failed"),
    ("taken", "port in use", "couldn't bind"),
    ("starve", "out of memory", "unable to allocate CPU buffer"),
    ("hang", "not ready", "no answer of /health within 3 s"),
]


@pytest.mark.parametrize("case", ["gguf-file", "awq-a10g"])
@pytest.mark.parametrize(("wrong", "outcome", "because"), FAILURES)
def test_a_start_that_fails_is_told_in_a_word_and_a_sentence(
    case: str, wrong: str, outcome: str, because: str, tmp_path: Path
) -> None:
    done, said = worlds.served(tmp_path, {"wrong": wrong}, case=case, patience_s=3)
    assert done.returncode == 1
    assert said["outcome"] == outcome
    assert because in said["because"]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out" / "measured.json").exists()
    assert _left(tmp_path) == []


def test_a_start_that_is_late_and_at_work_is_waited_for(tmp_path: Path) -> None:
    slow = {"start_s": 6.0, "spin_s": 6.0}
    done, said = worlds.served(tmp_path, slow, patience_s=2, longest_s=60, requests=5, repeats=1)
    assert (done.returncode, said["outcome"]) == (0, "measured"), done.stderr
    assert said["ready_s"] >= 6.0


@pytest.mark.parametrize(("start_s", "spin_s", "longest_s"), [(600.0, 0.0, 600.0), (600.0, 600.0, 6.0)])
def test_a_start_without_work_or_without_end_hangs(
    start_s: float, spin_s: float, longest_s: float, tmp_path: Path
) -> None:
    """Idle, it is given up long before the longest wait; at work, at its end."""
    fake = {"start_s": start_s, "spin_s": spin_s}
    done, said = worlds.served(tmp_path, fake, patience_s=3, longest_s=longest_s)
    assert (done.returncode, said["outcome"]) == (1, "not ready")
    assert "no answer of /health within 3 s" in said["because"]
    assert _left(tmp_path) == []


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ("http500", "HTTP 500"),
        ("garbage", "it sends no events"),
        ("cut", "the answer was cut off"),
        ("no_usage", "no usage was reported"),
        ("endless", "an event without end"),
    ],
)
def test_errors_of_answers_are_counted_by_name(wrong: str, error: str, tmp_path: Path) -> None:
    done, said = worlds.served(tmp_path, {"wrong": wrong}, requests=6, repeats=2)
    assert done.returncode == 0
    assert said["errors"] == 6, "no second repeat of a server that loses everything"
    assert served.errors(_read(tmp_path)) == {error: 6}
    assert served.statistics(_read(tmp_path)) == {}


def test_a_server_that_dies_under_load(tmp_path: Path) -> None:
    done, said = worlds.served(tmp_path, {"wrong": "die_under_load"})
    assert done.returncode == 1
    assert said["outcome"] == "died under load"
    assert "exit code 3" in said["because"]


def test_a_port_that_somebody_has(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done, said = worlds.served(tmp_path, {}, port=port)
    assert done.returncode == 1
    assert said["outcome"] == "port in use"
    assert f"port {port} of 127.0.0.1 is in use by process {os.getpid()}" in said["because"]


def _left(folder: Path) -> list[int]:
    """Processes of this test's folder that still run, given a moment to go."""
    found: list[psutil.Process] = []
    for _ in range(100):
        found = [each for each in psutil.process_iter() if str(folder) in " ".join(_words(each))]
        if not found:
            return []
        time.sleep(0.1)
    return [each.pid for each in found]


def _words(process: psutil.Process) -> list[str]:
    try:
        environ = process.environ() if process.pid != os.getpid() else {}
        return [] if process.pid == os.getpid() else [*process.cmdline(), environ.get("SERVE_TEST", "")]
    except psutil.Error:
        return []


@pytest.mark.parametrize("who", ["worker", "server"])
@pytest.mark.parametrize("moment", [0.2, 0.8, 1.6])
def test_kill_9_leaves_nobody(who: str, moment: float, tmp_path: Path) -> None:
    environment: dict[str, Any] = worlds.environment() | {"SERVE_TEST": str(tmp_path)}
    worker = subprocess.Popen(
        worlds.command(tmp_path, requests=400), env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        time.sleep(moment)
        victims = [worker.pid]
        if who == "server":
            below = psutil.Process(worker.pid).children(recursive=True)
            victims = [each.pid for each in below if "fake_openai" in " ".join(_words(each))] or victims
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
        out, _ = worker.communicate(timeout=60)
    finally:
        worker.kill()
    if victims != [worker.pid]:
        assert worker.returncode == 1
        assert json.loads(out.splitlines()[-1])["outcome"] in ("died at start", "died under load")
    assert _left(tmp_path) == []


def test_percentiles_have_intervals_that_hold_the_law() -> None:
    """Exponential times of known percentiles: 95 % intervals hold the truth in at least 88 % of runs."""
    chance, held = np.random.default_rng(5), 0
    for _ in range(60):
        rows = chance.exponential(1.0, (3, 120))
        measured = _measured(tuple(_columns(row) for row in rows))
        found = served.statistics(measured)["ttft_p90_s"]
        held += found.low <= np.log(10) <= found.high
        assert not found.open_because
        assert served.statistics(measured)["ttft_p99_s"].open_because
    assert held >= 0.88 * 60


def _columns(first: Any) -> served.Columns:
    count = len(first)
    whole = tuple(float(each) for each in first)
    return served.Columns(
        seconds=100.0, due=(0.0,) * count, sent=(0.0,) * count, first=whole, last=tuple(each + 1 for each in whole),
        prompt=(5,) * count, output=(11,) * count, error=("",) * count,
    )  # fmt: skip


def _measured(repeats: tuple[served.Columns, ...]) -> served.Measured:
    return served.Measured(
        schema=1, ready_s=1.0, ready_log_bytes=0, host="h", port=1, warm_up=repeats[0], repeats=repeats, sustained=None,
        memory_bytes_after_warm_up=0.0, memory_peak_bytes=0.0, gpu_peak_bytes=0.0, watts=None,
    )  # fmt: skip


def test_a_late_client_is_told() -> None:
    kept = _measured((_columns(np.full(50, 0.2)),))
    late = msgspec.structs.replace(kept.repeats[0], sent=(0.15,) * 50)
    assert served.behind(kept) == ""
    assert "150 ms late" in served.behind(msgspec.structs.replace(kept, repeats=(late,)))
