"""Runs inside lm-eval's environment: a task of two questions from a local file, answered at random."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

sys.path.pop(0)  # this file has the name of the package that it tries
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
ROWS = [
    {"question": "1 + 1 =", "choices": ["2", "3"], "right": 0},
    {"question": "2 + 2 =", "choices": ["5", "4"], "right": 1},
]
TASK = """task: lanewise_check
dataset_path: json
dataset_kwargs:
  data_files: {{test: {file}}}
  cache_dir: {cache}
test_split: test
output_type: multiple_choice
doc_to_text: question
doc_to_choice: choices
doc_to_target: right
metric_list: [{{metric: acc}}]
"""


def main() -> None:
    import transformers  # noqa: F401 - models on this machine are run by it
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
        (folder / "check.yaml").write_text(TASK.format(file=folder / "rows.jsonl", cache=folder / "cache"))
        tasks = TaskManager(include_path=scratch, include_defaults=False)
        found = simple_evaluate(model="dummy", tasks=["lanewise_check"], task_manager=tasks, bootstrap_iters=0)
    scored = found["results"]["lanewise_check"]["acc,none"]
    assert 0 <= scored <= 1, f"an accuracy of {scored}"
    print(f"a task of {len(found['samples']['lanewise_check'])} questions was scored")


if __name__ == "__main__":
    main()
