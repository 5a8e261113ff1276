"""guidellm and `vllm bench serve` themselves: beside our own client on one server, and killed while they drive."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from planner.launch import LaunchOptions
from planner.proving import served
from planner.proving.loadtools import TOOLS
from planner.render import files, write
from planner.running.commands import SCRIPTS
from planner.workers.serve_load import Lengths, Load, asks
from tests.launch.candidates import CASES, facts
from tests.serve import worlds
from tests.serve.test_worker import _left
from tests.tools.environment import tool
from tests.tools.gguf_models import gguf_model
from tests.tools.llamacpp import llamacpp

pytestmark = pytest.mark.slow
ROUNDS = 3
WITHIN = {"ttft": 1.35, "tpot": 1.35, "requests_per_s": 1.35}
"""Factors between a tool's median over rounds and our own client's (decision 0043 has what was measured)."""
TOKENIZER = """
import sys
from transformers import AutoTokenizer
AutoTokenizer.from_pretrained(sys.argv[1], gguf_file=sys.argv[2]).save_pretrained(sys.argv[3])
"""


@pytest.fixture(scope="module")
def parts() -> SimpleNamespace:
    """The worker's modules, which find one another beside themselves."""
    sys.path.insert(0, str(SCRIPTS))
    try:
        names = ("serve_tool", "serve_client", "serve_process")
        return SimpleNamespace(**{name.removeprefix("serve_"): import_module(name) for name in names})
    finally:
        sys.path.remove(str(SCRIPTS))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2's own, from its GGUF file."""
    out, file = tmp_path_factory.mktemp("tokenizer"), gguf_model("smollm2-135m")
    python = tool("llm-compressor").python
    subprocess.run([str(python), "-c", TOKENIZER, str(file.parent), file.name, str(out)], check=True, timeout=300)
    return out


def _program(id_: str) -> Path:
    known = TOOLS[id_]
    folders = tool(known.environment).programs
    return next(folder / known.program for folder in folders if (folder / known.program).is_file())


@dataclass
class Bench:
    """A server that is up, and three ways to load it."""

    parts: SimpleNamespace
    server: Any
    tokenizer: Path
    folder: Path
    counted: bool

    def run(self, who: str, load: Load, count: int, part: int) -> served.Columns:
        made = asks(load, count, part)
        whom = self.parts.client.Server(address=self.server.url, model="small", timeout_s=300.0)
        if who == "own":
            return _columns(self.parts.client.drive(whom, made, load.users))
        driving = self.parts.tool.Tool(
            id=who, program=_program(who), tokenizer=str(self.tokenizer), out=self.folder / f"{who}-{part}",
            prefix=load.shared_prefix, counted=who == "guidellm" or self.counted,
        )  # fmt: skip
        return _columns(self.parts.tool.drive(driving, self.server, whom, made, (load.users, part)))


def _columns(run: Any) -> served.Columns:
    names = ("due", "sent", "first", "last", "prompt", "output", "error")
    rows = sorted(run.answers, key=lambda each: each.due)
    return served.Columns(
        seconds=run.seconds, **{name: tuple(getattr(each, name) for each in rows) for name in names}
    )  # fmt: skip


@pytest.fixture
def llama(parts: SimpleNamespace, tokenizer: Path, tmp_path: Path) -> Iterator[Bench]:
    """llama-server with SmolLM2, one thread."""
    candidate = CASES["gguf-file"].candidate
    script = write(tmp_path / "launch", files(candidate, facts(candidate), LaunchOptions(model="small")))[0]
    script.chmod(0o755)
    program, port = llamacpp().built("llama-server"), parts.process.free_port()
    env = {
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}", "SERVE_MODEL": str(gguf_model("smollm2-135m")),
        "SERVE_HOST": "127.0.0.1", "SERVE_PORT": str(port), "LLAMA_ARG_THREADS": "1",
    }  # fmt: skip
    with parts.process.Server(script, [], env, tmp_path / "log", ("127.0.0.1", port)) as server:
        server.ready(120)
        yield Bench(parts=parts, server=server, tokenizer=tokenizer, folder=tmp_path, counted=False)


@pytest.mark.long
def test_tools_agree_with_our_own_client_on_one_server(llama: Bench) -> None:
    """One user after the other, so that nobody's queue makes small differences large; rounds take turns."""
    load = Load(
        users=1, prompt=Lengths(mean=64, p95=100), output=Lengths(mean=24, p95=40), shared_prefix=32, context=256,
        vocabulary=49152,
    )  # fmt: skip
    llama.run("own", load, 4, 99)
    found: dict[str, list[dict[str, float]]] = {who: [] for who in ("own", *TOOLS)}
    for part in range(1, ROUNDS + 1):
        for who, rows in found.items():
            each = llama.run(who, load, 24, part)
            assert set(each.error) == {""}
            assert sorted(each.output) == sorted(ask.output for ask in asks(load, 24, part))
            rows.append({kind: float(np.median(each.times(kind))) for kind in ("ttft", "tpot")})
            rows[-1]["requests_per_s"] = 24 / each.seconds
    middle = {who: {name: np.median([row[name] for row in rows]) for name in WITHIN} for who, rows in found.items()}
    print(middle, found)
    for id_ in TOOLS:
        for name, within in WITHIN.items():
            ratio = middle[id_][name] / middle["own"][name]
            assert 1 / within <= ratio <= within, (id_, name, ratio, found)


@pytest.fixture
def fake(parts: SimpleNamespace, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A server whose delays are known: 200 ms to the first token, 20 ms between tokens."""
    monkeypatch.setenv("FAKE", '{"first_s": 0.2, "token_s": 0.02}')
    launch, program = worlds.launched(tmp_path)
    port = parts.process.free_port()
    env = {"PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}", "SERVE_HOST": "127.0.0.1"}
    script, log = launch / "serve.sh", tmp_path / "log"
    with parts.process.Server(script, [], {**env, "SERVE_PORT": str(port)}, log, ("127.0.0.1", port)) as server:
        server.ready(60)
        yield Bench(parts=parts, server=server, tokenizer=tokenizer, folder=tmp_path, counted=True)


@pytest.mark.parametrize("id_", TOOLS)
def test_tools_send_the_planned_load_when_it_is_due(id_: str, fake: Bench) -> None:
    """A bursty load with log-normal lengths: every request reaches the server after it was due, none is lost, and
    nobody measures less than the server waits."""
    load = Load(
        rate=4.0, burstiness=0.5, prompt=Lengths(mean=64, p95=100), output=Lengths(mean=12, p95=20), shared_prefix=32,
        context=256, vocabulary=49152,
    )  # fmt: skip
    each, expected = fake.run(id_, load, 40, 1), asks(load, 40, 1)
    assert each.error == ("",) * 40
    assert each.due == pytest.approx([ask.due for ask in expected], abs=1e-4)
    assert each.output == tuple(ask.output for ask in expected)
    assert min(np.array(each.sent) - np.array(each.due)) >= -1e-4
    assert each.times("ttft").min() >= 0.2
    assert np.median(each.times("tpot")) >= 0.02 * 0.999


@pytest.mark.parametrize("id_", TOOLS)
def test_kill_9_of_the_worker_leaves_nobody_of_the_tool(id_: str, tokenizer: Path, tmp_path: Path) -> None:
    given = {"load_tool": id_, "load_program": _program(id_), "tokenizer": tokenizer, "vocabulary": 49152}
    env = worlds.environment() | {"SERVE_TEST": str(tmp_path)}
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(
        worlds.command(tmp_path, requests=2000, rate=20, **given), env=env, stdout=quiet, stderr=quiet
    )
    log = tmp_path / "out" / "load" / "1.log"
    for _ in range(600):
        if (log.exists() and log.stat().st_size) or process.poll() is not None:
            break
        time.sleep(0.1)
    assert process.poll() is None
    time.sleep(3)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert _left(tmp_path) == []
