"""lm-eval in its own environment: our worker, and its own program on the same task file."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

from tests.tools import llamacpp
from tests.tools.scorer import interpreter

SCRIPT = Path(__file__).parents[2] / "planner" / "workers" / "benchmark.py"
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
TIMEOUT_S = 900.0
TOOLS = {"llama.cpp": "llama.cpp", "transformers": "llm-compressor"}


def worker(verb: str, *words: object, code: int = 0) -> str:
    """What the worker printed; what it refused where a failing exit code is expected."""
    done = subprocess.run(
        [str(interpreter("lm-eval")), str(SCRIPT), verb, *map(str, words)],
        env=os.environ | OFFLINE, capture_output=True, text=True, check=False, timeout=TIMEOUT_S,
    )  # fmt: skip
    if done.returncode != code:
        raise RuntimeError(f"exit code {done.returncode}:\n{done.stderr[-3000:]}")
    return done.stdout if code == 0 else done.stderr


def run(backend: str, model: Path, out: Path, *words: object) -> dict[str, Any]:
    """One side's answers."""
    llamacpp.llamacpp()
    given = ("--speaker", interpreter(TOOLS[backend]), "--backend", backend, "--model", model, "--threads", 1)
    worker("run", *given, *words, "--out", out)
    made: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return made


def speaker(backend: str, model: Path, *requests: dict[str, Any]) -> list[Any]:
    """What the model's process answers to each request, after its facts."""
    llamacpp.llamacpp()
    dtype = ("--dtype", "float32") if backend == "transformers" else ()
    done = subprocess.run(
        [str(interpreter(TOOLS[backend])), str(SCRIPT.with_name("speaker.py")), "--backend", backend, "--model",
         str(model), "--threads", "1", *dtype],
        input="".join(json.dumps(each) + "\n" for each in requests),
        env=os.environ | OFFLINE, capture_output=True, text=True, check=True, timeout=TIMEOUT_S,
    )  # fmt: skip
    return [json.loads(line)["ok"] for line in done.stdout.splitlines()]


def lm_eval(model: Path, task: Path, out: Path) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """(lm-eval's own results, its logged samples) of its own transformers backend in 32 bits."""
    program = interpreter("lm-eval").with_name("lm-eval")
    done = subprocess.run(
        [str(program), "run", "--model", "hf", "--model_args", f"pretrained={model},dtype=float32", "--device", "cpu",
         "--tasks", str(task), "--log_samples", "--output_path", str(out)],
        env=os.environ | OFFLINE, capture_output=True, text=True, check=False, timeout=TIMEOUT_S, cwd=task.parent,
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-3000:])
    (results,) = out.rglob("results_*.json")
    (samples,) = out.rglob("samples_*.jsonl")
    (found,) = json.loads(results.read_text(encoding="utf-8"))["results"].values()
    return found, [json.loads(line) for line in samples.read_text(encoding="utf-8").splitlines()]


CLOZE = """task: cloze
dataset_path: json
dataset_kwargs: {data_files: {test: cloze.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{prompt}}"
doc_to_choice: "{{choices}}"
doc_to_target: label
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
metadata: {version: 1.0, family: chat}
"""
WRITTEN = """task: written
dataset_path: json
dataset_kwargs: {data_files: {test: cloze.jsonl}}
test_split: test
output_type: generate_until
doc_to_text: "{{prompt}}"
doc_to_target: "{{choices[label]}}"
generation_kwargs: {until: [","], max_gen_toks: 12, do_sample: false}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
metadata: {version: 1.0}
"""


def tasks(folder: Path, documents: int) -> tuple[Path, Path]:
    """The last word of sentences of Python's own help, to choose among four and to write: two task files over one."""
    sentences = [" ".join(each.split()) for name in sorted(topics) for each in topics[name].split(". ")]
    usable = [each for each in sentences if 60 < len(each) < 160 and each.isascii() and each[-4:].isalpha()]
    words = sorted({each.rpartition(" ")[2] for each in usable})
    rows = []
    for place, sentence in enumerate(usable[:documents]):
        head, _, last = sentence.rpartition(" ")
        others = [word for word in (words[(place * 7 + step * 13) % len(words)] for step in (1, 2, 3)) if word != last]
        choices = [f"#{word}" for word in (*others[: place % 4], last, *others[place % 4 :])]
        rows.append({"prompt": head, "choices": choices, "label": choices.index(f"#{last}")})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cloze.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "cloze.yaml").write_text(CLOZE)
    (folder / "written.yaml").write_text(WRITTEN)
    return folder / "cloze.yaml", folder / "written.yaml"
