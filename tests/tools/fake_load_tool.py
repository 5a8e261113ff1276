"""Stands in for `vllm bench serve`: takes its words, sends nothing, and writes the result that the trace asks for.

usage: fake_load_tool.py bench serve [its words], with the misbehaviour in FAKE_TOOL: die, hang (with a child of its
own), garbage, short (one request less than the trace has)
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

FIRST_S, TOKEN_S = 0.05, 0.01


def main(words: list[str]) -> int:
    wrong = os.environ.get("FAKE_TOOL", "")
    if wrong == "die":
        print("vllm: error: unrecognized arguments", file=sys.stderr)
        return 2
    if wrong == "hang":
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", *words])
        time.sleep(600)
    given = dict(itertools.pairwise(words))
    rows = [json.loads(line) for line in Path(given["--dataset-path"]).read_text().splitlines()]
    out = Path(given["--result-dir"]) / given["--result-filename"]
    out.write_text("<html>" if wrong == "garbage" else json.dumps(result(rows[: -1 if wrong == "short" else None])))
    return 0


def result(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What 0.32 writes of every request; each waits 2 ms until it is sent."""
    begin = time.perf_counter()
    return {
        "start_times": [begin + row["timestamp"] + 0.002 for row in rows], "ttfts": [FIRST_S for _ in rows],
        "itls": [[TOKEN_S] * (row["output_length"] - 1) for row in rows], "errors": ["" for _ in rows],
        "input_lens": [row["input_length"] for row in rows], "output_lens": [row["output_length"] for row in rows],
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
