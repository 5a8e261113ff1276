"""Benchmarks on real models: lm-eval's own numbers, both backends on the same weights, retrieval, a whole run."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import pytest
from msgspec import structs

from catalog import public_tasks
from planner import settings
from planner.proving import recipe
from planner.proving.questions import Benched, Questions
from planner.running import bench_files, runner, verify
from planner.running.commands import Installed
from tests.tools import benchmarks, scorer
from tests.tools.environment import run as command
from tests.tools.gguf_models import gguf_model
from tests.tools.llamacpp import llamacpp
from tests.verify.questions import question
from tests.verify.test_benchmarks import two_points
from tests.verify.test_score_real import text
from tests.verify.worlds import Seen

pytestmark = [pytest.mark.slow, pytest.mark.long]
DOCUMENTS = 24


@dataclass(frozen=True)
class Tiny:
    """A small Llama of random weights in 32 bits, as a folder and as a GGUF file, and two tasks."""

    folder: Path
    file: Path
    cloze: Path
    written: Path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    made = tmp_path_factory.mktemp("tiny")
    command(scorer.compressor(), Path(scorer.__file__).with_name("tiny_llama.py"), made / "model", text(made, 30_000))
    scorer.convert(made / "model", made / "model.gguf")
    return Tiny(made / "model", made / "model.gguf", *benchmarks.tasks(made / "tasks", DOCUMENTS))


@pytest.fixture(scope="module")
def folder_side(tiny: Tiny) -> dict[str, Any]:
    return benchmarks.run(
        "transformers", tiny.folder, tiny.folder.with_name("folder.json"), "--file", tiny.cloze, "--dtype", "float32"
    )


def test_scores_and_log_probabilities_are_what_lm_eval_itself_prints(
    tiny: Tiny, folder_side: dict[str, Any], tmp_path: Path
) -> None:
    printed, samples = benchmarks.lm_eval(tiny.folder, tiny.cloze, tmp_path / "out")
    assert folder_side["details"]["mean"] == pytest.approx(printed["acc,none"], abs=1e-12)
    assert folder_side["details"]["lm_eval"]["cloze"]["acc_norm,none"] == pytest.approx(printed["acc_norm,none"])
    theirs = sorted((*(float(each[0][0]) for each in sample["resps"]), sample["acc"]) for sample in samples)
    ours = sorted((*answer["details"]["logprobs"], answer["score"]) for answer in folder_side["answers"])
    assert len(ours) == len(theirs) == DOCUMENTS
    for one, other in zip(ours, theirs, strict=True):
        assert one == pytest.approx(other, abs=1e-3)


def test_written_answers_are_what_lm_eval_itself_writes(tiny: Tiny, tmp_path: Path) -> None:
    _, samples = benchmarks.lm_eval(tiny.folder, tiny.written, tmp_path / "out")
    given = ("--file", tiny.written, "--dtype", "float32")
    side = benchmarks.run("transformers", tiny.folder, tmp_path / "a.json", *given)
    other = benchmarks.run("transformers", tiny.folder, tmp_path / "b.json", *given, "--batch", 6)
    theirs = sorted(sample["resps"][0][0] for sample in samples)
    assert sorted(answer["text"] for answer in side["answers"]) == theirs
    assert len(set(theirs)) > DOCUMENTS / 2
    assert [answer["text"] for answer in other["answers"]] == [answer["text"] for answer in side["answers"]]
    assert {answer["stopped"] for answer in side["answers"]} <= {"end", "length"}


def test_both_backends_say_the_same_of_the_same_token_ids(tiny: Tiny) -> None:
    """llama.cpp keeps its cache in 16 bits, transformers here in 32; what two rows share it decodes once."""
    said = " ".join(topics["assert"].split())
    (_, (ids,)) = benchmarks.speaker("transformers", tiny.folder, {"op": "encode", "texts": [said], "special": None})
    rows = [(ids[: 40 + step], 30) for step in range(0, 60, 7)] + [([*ids[:20], 9, 11, 13], 20), (ids[:700], 1)]
    given = {"until": [], "temperature": 0.0, "top_p": 1.0, "top_k": 0, "seeds": [[0], [1]], "max_tokens": [16, 12]}
    asked = ({"op": "score", "rows": rows}, {"op": "answer", "prompts": [ids[:50], ids[:31]], **given})
    _, ours, wrote = benchmarks.speaker("transformers", tiny.folder, *asked)
    _, theirs, told = benchmarks.speaker("llama.cpp", tiny.file, *asked)
    for (one, likeliest), (other, same), (row, first) in zip(ours, theirs, rows, strict=True):
        assert one == pytest.approx(other, abs=2e-3 * (len(row) - first))
        assert likeliest == same
    assert [each["ids"] for each in wrote] == [each["ids"] for each in told]
    assert [(each["tokens"], each["stopped"]) for each in wrote] == [(e["tokens"], e["stopped"]) for e in told]


def test_sampled_answers_differ_by_sample_and_are_the_same_again(tiny: Tiny, tmp_path: Path) -> None:
    given = ("--file", tiny.written, "--limit", 4, "--temperature", 1.0, "--top-k", 50, "--repeats", 2)
    sides = [benchmarks.run("llama.cpp", tiny.file, tmp_path / name, *given) for name in ("a.json", "b.json")]
    assert sides[0]["answers"] == sides[1]["answers"]
    first, second = (
        [answer["text"] for answer in sides[0]["answers"] if answer["sample"] == number] for number in (0, 1)
    )
    assert len(first) == len(second) == 4
    assert first != second


def test_every_public_task_is_in_lm_evals_own_list(tmp_path: Path) -> None:
    names = [task.lm_eval for task in public_tasks.load().values() if task.lm_eval]
    code = "import sys\nfrom lm_eval.tasks import TaskManager\nindex = TaskManager().task_index\n"
    done = subprocess.run(
        [str(scorer.interpreter("lm-eval")), "-c", code + "print([n for n in sys.argv[1:] if n not in index])", *names],
        capture_output=True, text=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.stdout.strip() == "[]"


def test_data_that_cannot_be_fetched_is_refused_with_the_command_that_fetches_it(tmp_path: Path) -> None:
    said = benchmarks.worker("fetch", "--task", "aime25", "--out", tmp_path / "facts.json", code=1)
    assert "benchmark.py: the data of the task aime25 is not on this machine and cannot be fetched" in said
    assert "fetch --task aime25" in said
    assert "Traceback" not in said


def test_a_task_file_that_names_code_is_refused_by_the_worker_too(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text("open('ran', 'w').close()\ndef run(doc): return 'a'\n")
    evil = tmp_path / "evil.yaml"
    evil.write_text(benchmarks.CLOZE.replace('doc_to_text: "{{prompt}}"', "doc_to_text: !function evil.run"))
    template = tmp_path / "template.yaml"
    reach = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
    template.write_text(benchmarks.CLOZE.replace("{{prompt}}", reach))
    (tmp_path / "cloze.jsonl").write_bytes((tiny.cloze.parent / "cloze.jsonl").read_bytes())
    given = ("--speaker", scorer.compressor(), "--backend", "transformers", "--model", tiny.folder)
    unknown = tmp_path / "unknown.yaml"
    unknown.write_text(benchmarks.CLOZE.replace("metric: acc,", "metric: evil,"))
    told = {evil: "tags such as !function run code", template: "SecurityError", unknown: "no metric called evil"}
    for file, words in told.items():
        said = benchmarks.worker("run", *given, "--file", file, "--out", tmp_path / "a.json", code=1)
        assert words in said
        assert "Traceback" not in said
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "a.json").exists()


def test_retrieval_documents_fill_the_context_and_are_scored(tiny: Tiny, tmp_path: Path) -> None:
    made = tmp_path / "items.json"
    model = ("--speaker", scorer.binding(), "--backend", "llama.cpp", "--model", tiny.file, "--threads", 1)
    own = text(tmp_path)
    benchmarks.worker("retrieval", *model, "--context", 900, "--each", 1, "--haystack", own, "--out", made)
    found = json.loads(made.read_text())
    assert len(found["tasks"]) + len(found["left_out"]) == 13
    assert {"ruler_qa_squad", "ruler_qa_hotpot"} <= set(found["left_out"])
    assert sum(name.startswith("niah") for name in found["tasks"]) == 8
    for name, task in found["tasks"].items():
        for document in task["documents"]:
            assert document["length"] <= 900
            if name.startswith("niah"):
                assert document["length"] > 750, name
                assert all(str(answer) in document["input"] for answer in document["outputs"])
    found["tasks"] = {name: found["tasks"][name] for name in ("niah_single_1", "niah_multikey_2")}
    made.write_text(json.dumps(found))
    side = benchmarks.run("llama.cpp", tiny.file, tmp_path / "a.json", "--items", made, "--context", 900, "--chat")
    assert {answer["task"] for answer in side["answers"]} == set(found["tasks"])
    assert side["details"]["cut"]["prompts"] == 0
    assert side["details"]["chat"]


def test_a_run_of_a_task_file_ends_in_an_inconclusive_gate_with_the_items_it_lacks(tmp_path: Path) -> None:
    """SmolLM2 in 16 bits against Q8_0, 24 documents: the whole way from a plan to the judge."""
    base = tmp_path / "f16.gguf"
    command(llamacpp().program("llama-quantize"), "--allow-requantize", gguf_model("smollm2-135m"), base, "F16", "1")
    cloze, _ = benchmarks.tasks(tmp_path / "tasks", DOCUMENTS)
    benched, _ = bench_files.benched([cloze], Benched(), {"chat"})
    asked = replace(
        question("gguf:Q8_0", original=str(base), stated=True, texts=(str(text(tmp_path)),)),
        questions=Questions(benched=benched),
    )
    whole = recipe.program(asked)
    kept = whole.closure(["answers-cloze-candidate"])
    made = structs.replace(
        whole,
        steps=tuple(step for step in whole.steps if step.id in kept),
        measures={"task:chat": "task:chat"},
        missing=(),
    )
    folder = tmp_path / "run"
    ran = runner.run(made, folder, Installed(settings.from_environment()), Seen())
    assert [result.because for result in ran.results if not result.well] == []
    judgement = verify.judged(made, two_points(asked.candidate), ran.results, folder)
    (gate,) = [each for each in judgement.gates if each.gate == "task:chat"]
    assert gate.run
    assert gate.checks[0].samples == DOCUMENTS
    assert gate.checks[0].text == "your task cloze, greedy"
    assert gate.verdict == "inconclusive"
    assert gate.further is not None
    assert gate.further > DOCUMENTS
    again = runner.run(made, folder, Installed(settings.from_environment()), Seen())
    assert {result.state for result in again.results} == {"kept"}
