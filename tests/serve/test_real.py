"""llama-server itself, started from a rendered launch file with a published model, loaded and read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from planner.launch import LaunchOptions
from planner.proving import served
from planner.render import files, write
from planner.running import verify_served
from planner.running.commands import SCRIPTS
from tests.launch.candidates import CASES, facts
from tests.tools.gguf_models import gguf_model
from tests.tools.llamacpp import llamacpp

pytestmark = pytest.mark.slow
WEIGHTS_MIB = 98_362_432 / 2**20
"""Of the file; its header takes less than two of them."""


def test_llama_server_is_served_loaded_and_read(tmp_path: Path) -> None:
    candidate = CASES["gguf-file"].candidate
    script = write(tmp_path / "launch", files(candidate, facts(candidate), LaunchOptions(model="small")))[0]
    out = tmp_path / "out"
    out.mkdir()
    done = subprocess.run(
        [
            sys.executable, str(SCRIPTS / "serve.py"), "--launch", str(script.parent), "--out", str(out),
            "--program", str(llamacpp().built("llama-server")), "--model", str(gguf_model("smollm2-135m")),
            "--served", "small", "--users", "1", "--prompt-mean", "16", "--prompt-p95", "24", "--output-mean", "6",
            "--output-p95", "8", "--context", "64", "--vocabulary", "49152", "--requests", "5", "--repeats", "2",
            "--warm-up", "1", "--flag=-lv", "--flag=4",
        ],
        env={**os.environ, "LLAMA_ARG_THREADS": "1"}, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["errors"] == 0
    measured = served.read((out / "measured.json").read_bytes(), "measured.json")
    assert all(1 <= tokens <= 24 for each in measured.repeats for tokens in each.output)
    assert [len(each.times("ttft")) for each in measured.repeats] == [5, 5]
    assert measured.memory_peak_bytes > 50 * 2**20
    log = (out / "server.log").read_bytes()
    reading = verify_served.logged(log[: measured.ready_log_bytes])
    assert reading is not None
    assert reading.engine == "llama.cpp"
    sizes = {each.metric: each.value for each in verify_served.printed(reading)}
    assert WEIGHTS_MIB - 2 <= sum(each.value for each in reading.values("model_buffer_mib")) <= 2 * WEIGHTS_MIB
    assert sizes["kv_mib"] > 0
    assert sizes["compute_buffer_mib"] > 0
