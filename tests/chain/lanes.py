"""Requests of every lane for one small model of one's own, and the command itself run on them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from planner.proving import judge
from planner.proving.judge import Windows
from planner.proving.receipt import Receipt
from planner.running import verify

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 1800.0
CONTEXT = 512
WINDOWS, ROWS, LONG = 50, 48, 256
"""What a test has time for: windows of each text, calibration rows and their tokens. A plan asks for more."""


@dataclass(frozen=True)
class Lane:
    """What is asked for, on which device it is planned, and which words that takes."""

    lane: str
    accelerator: str = "h100-sxm5-80"
    recipe: str = ""
    cache: str = ""
    """Another cache than the plan's: a model this small always has room for a full one."""


GGUF = "epyc-9755"
LANES = {
    "fp8": Lane("fp8", recipe="fp8-dynamic"),
    "fp8-kv": Lane("fp8", recipe="fp8-dynamic", cache="fp8"),
    "int8-w8a8": Lane("int8-w8a8"),
    "gptq-int4": Lane("gptq-int4"),
    "awq-int4": Lane("awq-int4"),
    "nvfp4": Lane("nvfp4", "rtx5090"),
    **{f"gguf-{kind}": Lane(f"gguf:{kind}", GGUF) for kind in ("Q8_0", "Q5_K_M", "Q4_K_M", "IQ4_XS", "Q2_K")},
}  # fmt: skip
"""The eleven of the chain."""


def request(model: Path, asked: Lane) -> dict[str, Any]:
    """A small load; the law of losses was never fitted to models of three million parameters, so its judgement of them
    is replaced, and the gates decide."""
    device: dict[str, Any] = {"id": asked.accelerator, "count": 1}
    families = {"chat": 0.5, "summarization": 0.5}
    return {
        "model": str(model),
        "workload": {
            "qps": 0.01, "context_tokens_max": CONTEXT, "prompt_tokens": {"mean": 96, "p95": 200},
            "output_tokens": {"mean": 48, "p95": 96}, "mix": families,
        },
        "hardware": {"accelerators": [device | ({"host_ram_gib": 16} if asked.accelerator == GGUF else {})]},
        "quality": {"max_loss_pct": 3},
        "lanes": [asked.lane],
        "engines": ["llama.cpp" if asked.lane.startswith("gguf") else "vllm"],
        "overrides": {
            "waive": ["Q301", "Q305", "Q206"],
            "estimates": [{"lane": asked.lane, "loss_pct": dict.fromkeys(families, 1.0)}],
        },
    }  # fmt: skip


@dataclass(frozen=True)
class Verified:
    """One run of the command: its exit code, what it printed, and the folder."""

    code: int
    out: str
    err: str
    folder: Path

    @property
    def printed(self) -> tuple[int, str, str]:
        return self.code, self.out, self.err

    @property
    def receipt(self) -> Receipt:
        return verify.read(self.folder / verify.RECEIPT)

    def state(self, step: str) -> str:
        return next(each.state for each in self.receipt.steps if each.id == step)

    def because(self, step: str) -> str:
        return next(each.because for each in self.receipt.steps if each.id == step)

    def windows(self, step: str = f"compare-own-{CONTEXT}") -> Windows:
        (found,) = judge.read((self.folder / step / "stats.npz").read_bytes(), step)[1].values()
        return found

    @property
    def divergence(self) -> float:
        return float(np.mean(self.windows().kl))


def environment(**more: str) -> dict[str, str]:
    """Of the command: the user's tools, none of the user's catalogue and store, one thread to a process."""
    root = os.environ.get("LANEWISE_TOOLS_DIR", "~/.cache/lanewise/tools")
    own = {
        "PYTHONPATH": str(ROOT), "LANEWISE_TOOLS_DIR": str(Path(root).expanduser()), "LANEWISE_CATALOG_DIR": "none",
        "LANEWISE_DATABASE_URL": "sqlite://", "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    return os.environ | own | more


def lanewise(*words: object, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """The command, as a user starts it."""
    command = [sys.executable, "-m", "planner", *map(str, words)]
    return subprocess.run(
        command, cwd=cwd, env=environment(**env), capture_output=True, text=True, check=False, timeout=TIMEOUT_S
    )


def planned(folder: Path, name: str, model: Path, asked: Lane) -> Path:
    """A plan as a file. Raises RuntimeError where it is infeasible."""
    source, plan = folder / f"{name}.request.json", folder / f"{name}.plan.json"
    source.write_bytes(msgspec.json.encode(request(model, asked)))
    done = lanewise("plan", source, "--json", cwd=folder)
    if done.returncode != 0:
        raise RuntimeError(f"{name}: {done.stderr[-2000:]}{done.stdout[-2000:]}")
    found = json.loads(done.stdout)
    if asked.cache:
        found["choice"]["kv_cache_dtype"] = asked.cache
    smaller(found["choice"])
    plan.write_text(json.dumps(found))
    return plan


def smaller(choice: dict[str, Any], windows: int = WINDOWS, rows: int = ROWS) -> None:
    """The sizes of a plan cut to what a test has time for; its gates and limits stay."""
    for gate in choice["verification"]["gates"]:
        for text in gate.get("texts", ()):
            text["windows"] = min(text["windows"], windows)
    calibration = (choice.get("make") or {}).get("calibration")
    if calibration:
        calibration["samples"] = min(calibration["samples"], rows)
        calibration["sequence_length"] = min(calibration["sequence_length"], LONG)


def words(asked: Lane, text: Path, calibration: Path) -> list[object]:
    """What the lane takes beside its plan."""
    recipe = ("--recipe", asked.recipe) if asked.recipe else ()
    return [*recipe, "--text", text, "--calibration", calibration]


def run(plan: Path, folder: Path, *more: object, **env: str) -> Verified:
    """`lanewise verify` to its end, whatever that is."""
    done = lanewise("verify", plan, "--run", folder, *more, cwd=plan.parent, **env)
    return Verified(done.returncode, done.stdout, done.stderr, folder)
