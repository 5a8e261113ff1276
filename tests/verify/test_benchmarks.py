"""Benchmarks through lm-eval: which task stands for which, the steps of a program, and logged samples as answers."""

from __future__ import annotations

import dataclasses
import json
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from msgspec import structs

from catalog import public_tasks
from catalog.errors import BadInput
from planner import service
from planner.plan import Candidate, Gate, Plan
from planner.proving import answers, judge, recipe
from planner.proving.answers import Sampling
from planner.proving.asked import with_recipe
from planner.proving.judge import Runs
from planner.proving.questions import Benched, Questions
from planner.proving.steps import PLACEHOLDER, Program, Step
from planner.running import bench_files
from planner.running.runner import tool_versions
from planner.workers import answer_talk, benchmark_answers, benchmark_yaml, speaker_sampling
from tests.verify.questions import OWN, plan_of, question

SAMPLES: dict[str, list[dict[str, Any]]] = json.loads(
    (Path(__file__).parent / "samples" / "lm_eval.json").read_text(encoding="utf-8")
)
"""lm-eval 0.4.13's own, of SmolLM2-135M: three questions with options, three numbers read by two filters."""
TASKS = tuple(public_tasks.load().values())
MIX = {"math": 0.3, "reasoning": 0.2, "instruction": 0.2, "code": 0.2, "long_context": 0.1}
WORKLOAD = {"qps": 0.1, "context_tokens_max": 2048, "mix": MIX}


def test_every_public_benchmark_of_a_gate_has_a_task_or_a_reason() -> None:
    public = {each.name for each in service.facts(OWN).gates.benchmarks if each.items is not None}
    assert public == {task.benchmark for task in TASKS}
    assert {task.benchmark for task in TASKS if task.because} == {"LiveCodeBench", "HumanEval+"}


@pytest.mark.parametrize(
    "text",
    [
        '[[task]]\nbenchmark = "A"\nsource = "s"\n',
        '[[task]]\nbenchmark = "A"\nlm_eval = "a"\nsource = "s"\n',
        '[[task]]\nbenchmark = "A"\nlm_eval = "a"\nbecause = "no"\ndata = "d"\nsource = "s"\n',
        '[[task]]\nbenchmark = "A"\nbecause = "no"\nsource = "s"\n' * 2,
        '[[task]]\nbenchmark = "A"\nmetrics = "b"\nbecause = "no"\nsource = "s"\n',
    ],
)
def test_a_list_of_tasks_that_says_too_little_or_too_much_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / public_tasks.FILE).write_text(text)
    with pytest.raises(BadInput, match=public_tasks.FILE):
        public_tasks.load(tmp_path)


@cache
def plan_for(lane: str) -> Plan:
    """A plan for five families; nobody's benchmark that is run proves one of them."""
    return plan_of.__wrapped__(lane, workload=WORKLOAD)


def asked(lane: str = "fp8", *, questions: Questions | None = None, **benched: Any) -> recipe.Asked:
    own, plan = question(lane), plan_for(lane)
    made = structs.replace(questions or Questions(), benched=Benched(tasks=TASKS, **benched))
    candidate = recipe.candidate_of(plan, lane)
    if lane == "fp8":
        candidate = with_recipe(candidate, "fp8-dynamic", own.model, WORKLOAD)
    return dataclasses.replace(own, plan=plan, candidate=two_points(candidate), questions=made)


def two_points(candidate: Candidate) -> Candidate:
    """The same gates with the limit of a normal tolerance: this small model's own plan is satisfied with little."""
    verification = candidate.verification
    assert verification is not None
    return structs.replace(
        candidate, verification=structs.replace(verification, gates=tuple(map(_two_points, verification.gates)))
    )


def _two_points(gate: Gate) -> Gate:
    if not gate.id.startswith("task:"):
        return gate
    trials = [(each, -(-1240 // each.items) if each.items else None) for each in gate.benchmarks]
    return structs.replace(
        gate,
        thresholds=tuple(structs.replace(each, value=-2.0) for each in gate.thresholds),
        benchmarks=tuple(
            structs.replace(
                each, samples=1240, repeats=count, answers=1240 if count in (None, 1) else each.items * count
            )
            for each, count in trials
        ),
    )


def reasons(program: Program) -> dict[str, str]:
    return {each.gate: each.because for each in program.left_out}


def test_without_being_asked_for_no_benchmark_is_run_and_each_is_named() -> None:
    program = recipe.program(asked())
    assert not any("benchmark.py" in word for step in program.steps for word in step.command)
    said = reasons(program)
    assert "--benchmarks runs MATH-500 (lm-eval minerva_math500; its data comes from the hub" in said["task:math"]
    assert said["task:code"].startswith("LiveCodeBench is not run: lm-eval 0.4.13 has no such task; HumanEval+ is not")
    assert "--retrieval" in said["task:long_context"]


@pytest.mark.parametrize("lane", ["fp8", "gguf:Q4_K_M"])
def test_benchmarks_become_data_baseline_and_candidate(lane: str) -> None:
    program = recipe.program(asked(lane, public=True))
    steps = {step.id: step for step in program.steps}
    places = {name: place for place, name in enumerate(steps)}
    for slug, gate in (("minerva-math500", "task:math"), ("ifeval", "task:instruction")):
        data, base, other = (
            steps[name] for name in (f"documents-{slug}", f"answers-{slug}-baseline", f"answers-{slug}-candidate")
        )
        assert places[data.id] < places[base.id] < places[other.id]
        assert data.id in base.needs
        assert base.id in other.needs
        assert base.env["HF_HUB_OFFLINE"] == "1"
        assert "HF_HUB_OFFLINE" not in data.env, "only this step has a network"
        assert (base.gate, other.gate) == ("", gate)
        tool = "llama.cpp" if lane.startswith("gguf") else "llm-compressor"
        assert f"{{python:{tool}}}" in base.command
        assert base.tool == "lm-eval"
    assert program.measures["task:math"] == "task:math"
    assert program.measures["flip_rate"] == "task:*"
    said = reasons(program)
    assert {"task:code"} <= said.keys()
    assert "ruler_qa_squad" in said["task:long_context"], "what is not run of a benchmark that is run"
    assert "task:long_context" in program.measures


def test_words_of_benchmarks_are_whole_and_costs_are_estimates() -> None:
    for step in recipe.program(asked(public=True)).steps:
        heads = [word.partition("/")[0] for word in step.command if word.startswith("{")]
        assert all(PLACEHOLDER.fullmatch(head) for head in heads)
        assert 0 < step.expected_s.low <= step.expected_s.value <= step.expected_s.high
        assert step.ram_bytes > 0
        assert step.disk_bytes > 0


def test_retrieval_alone_needs_no_network() -> None:
    program = recipe.program(asked(retrieval=True, limit=22))
    steps = {step.id: step for step in program.steps}
    made = steps["documents-ruler"]
    assert made.command[made.command.index("--each") + 1] == "2"
    assert made.command[made.command.index("--haystack") + 1] == "/data/own.jsonl"
    assert all(step.env.get("HF_HUB_OFFLINE") == "1" for step in program.steps if step.tool == "lm-eval")
    assert "task:math" not in program.measures


def test_documents_are_limited_and_sampled_answers_are_asked_besides() -> None:
    how = Sampling(temperature=0.7, top_p=0.9, top_k=40, seed=3)
    program = recipe.program(asked(public=True, limit=7, questions=Questions(sampled=how, samples=2)))
    steps = {step.id: step for step in program.steps}
    greedy, sampled = steps["answers-ifeval-candidate"], steps["answers-ifeval-sampled-candidate"]
    assert greedy.command[greedy.command.index("--limit") + 1] == "7"
    assert "--temperature" not in greedy.command
    assert sampled.command[sampled.command.index("--temperature") + 1] == "0.7"
    assert sampled.command[sampled.command.index("--repeats") + 1] == "3", "541 items, 1,240 answers"
    assert sampled.gate == greedy.gate == "task:instruction"


CLOZE = """task: cloze
dataset_path: json
dataset_kwargs: {data_files: {test: cloze.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{prompt}}"
doc_to_choice: "{{choices}}"
doc_to_target: label
metric_list: [{metric: acc}]
metadata: {version: 1.0, family: math}
"""


def written(folder: Path, text: str = CLOZE) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cloze.jsonl").write_text('{"prompt": "a", "choices": ["b", "c"], "label": 0}\n' * 5)
    (folder / "task.yaml").write_text(text)
    return folder / "task.yaml"


def test_a_task_file_is_read_with_its_data_and_its_family(tmp_path: Path) -> None:
    path = written(tmp_path)
    made, other = bench_files.benched([path, tmp_path / "items.jsonl"], Benched(), MIX)
    assert other == (tmp_path / "items.jsonl",)
    (file,) = made.files
    assert (file.name, file.family, file.documents, file.answer_tokens) == ("cloze", "math", 5, 0)
    assert file.data == (str(tmp_path.resolve() / "cloze.jsonl"),)
    program = recipe.program(asked(files=made.files))
    step = next(step for step in program.steps if step.id == "answers-cloze-candidate")
    assert step.gate == "task:math"
    assert set(step.reads) == {str(path.resolve()), *file.data}
    assert "--chat" not in step.command


def test_a_task_file_without_a_family_is_not_guessed(tmp_path: Path) -> None:
    path = written(tmp_path, CLOZE.replace(", family: math", ""))
    made, _ = bench_files.benched([path], Benched(), MIX)
    program = recipe.program(asked(files=made.files))
    assert not any(step.id.startswith("answers-cloze") for step in program.steps)
    assert any("say which family it is of" in note for note in program.notes)


HOSTILE = {
    "function": CLOZE.replace('doc_to_text: "{{prompt}}"', "doc_to_text: !function evil.run"),
    "object": CLOZE + "x: !!python/object/apply:os.system ['true']\n",
    "include": CLOZE + "include: ../other.yaml\n",
    "class": CLOZE + "class: evil.Task\n",
    "custom data": CLOZE + "custom_dataset: evil.data\n",
    "unsafe": CLOZE + "unsafe_code: true\n",
    "hub": CLOZE.replace("dataset_path: json", "dataset_path: someone/script"),
    "no data": CLOZE.replace("dataset_kwargs: {data_files: {test: cloze.jsonl}}\n", ""),
    "more": CLOZE.replace(
        "data_files: {test: cloze.jsonl}", "data_files: {test: cloze.jsonl}, trust_remote_code: true"
    ),
    "above": CLOZE.replace("test: cloze.jsonl", "test: ../cloze.jsonl"),
    "elsewhere": CLOZE.replace("test: cloze.jsonl", "test: /etc/passwd"),
    "url": CLOZE.replace("test: cloze.jsonl", "test: 'https://example.org/x.jsonl'"),
    "absent": CLOZE.replace("test: cloze.jsonl", "test: nothing.jsonl"),
    "metric of the hub": CLOZE.replace("{metric: acc}", "{metric: acc, hf_evaluate: true}"),
    "metric of a path": CLOZE.replace("{metric: acc}", "{metric: ./evil.py}"),
    "perplexity": CLOZE.replace("multiple_choice", "loglikelihood_rolling"),
    "list": "- a\n- b\n",
    "no YAML": "task: [\n",
    "control": "task: \0\n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_task_files_that_could_run_code_or_reach_out_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "cloze.jsonl").write_text("{}\n")
    path = written(tmp_path / "own", HOSTILE[name])
    with pytest.raises(benchmark_yaml.Refused, match=r"task\.yaml"):
        benchmark_yaml.read(path)
    with pytest.raises(BadInput, match=r"task\.yaml"):
        bench_files.benched([path], Benched(), MIX)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "own")
    (tmp_path / "own" / "cloze.jsonl").unlink()
    (tmp_path / "own" / "cloze.jsonl").symlink_to("/etc/passwd")
    with pytest.raises(benchmark_yaml.Refused, match="outside"):
        benchmark_yaml.read(path)


def test_families_and_flags_that_fit_nothing_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, CLOZE.replace("family: math", "family: magic"))
    with pytest.raises(BadInput, match="magic"):
        bench_files.benched([path], Benched(), MIX)
    with pytest.raises(BadInput, match="--limit"):
        bench_files.benched([], Benched(limit=3), MIX)
    with pytest.raises(BadInput, match="--allow-task-code"):
        bench_files.benched([], Benched(code=True), MIX)
    with pytest.raises(BadInput, match="twice"):
        bench_files.benched([written(tmp_path)] * 2, Benched(), MIX)


def converted(task: str, metric: str = "", chosen: str = "") -> list[dict[str, Any]]:
    logged = {task: SAMPLES[task]}
    said = {(task, 0): {"tokens": 3, "stopped": "length", "faults": []}}
    return benchmark_answers.answers_of(logged, benchmark_answers.item_names(logged), said, (metric, chosen, 0))


def test_options_become_answers_by_the_first_metric() -> None:
    made = converted("local_cloze")
    assert [each["score"] for each in made] == [sample["acc"] for sample in SAMPLES["local_cloze"]]
    for each, sample in zip(made, SAMPLES["local_cloze"], strict=True):
        likeliest = max(range(4), key=lambda place: sample["resps"][place][0][0])
        assert each["text"] == sample["arguments"][likeliest][1]


def test_written_answers_are_scored_by_the_filter_that_is_named() -> None:
    assert [each["score"] for each in converted("numbers")] == [0, 0, 0]
    loose = converted("numbers", "exact_match", "loose")
    assert [each["score"] for each in loose] == [1, 1, 1]
    assert (loose[0]["tokens"], loose[0]["stopped"]) == (3, "length")
    for metric, chosen in (("f1", "loose"), ("exact_match", "none")):
        with pytest.raises(benchmark_answers.Unusable, match="it has"):
            converted("numbers", metric, chosen)


def test_a_prompt_that_stands_twice_is_two_items_and_answers_are_no_part_of_a_name() -> None:
    names = benchmark_answers.item_names({"numbers": SAMPLES["numbers"]})
    assert len(set(names.values())) == len(names) == 3
    assert names["numbers", 2] == names["numbers", 0] + "-2"
    changed = [sample | {"resps": [["7"]], "exact_match": 0.0} for sample in SAMPLES["numbers"]]
    assert benchmark_answers.item_names({"numbers": changed}) == names
    asked = [sample | {"arguments": [["other", {}]]} for sample in SAMPLES["numbers"]]
    assert set(benchmark_answers.item_names({"numbers": asked}).values()).isdisjoint(names.values())


def test_names_of_items_are_the_same_for_ever() -> None:
    """A receipt's items are found again by a later version."""
    assert benchmark_answers.item_of("local_cloze", SAMPLES["local_cloze"][0]) == "2c9a3d5d6c64663fc561abfed8e1d342"


@pytest.mark.parametrize("value", [-1.0, 1.5, float("nan"), "1", (0.0, 3), None])
def test_what_is_no_score_is_refused(value: object) -> None:
    sample = SAMPLES["local_cloze"][0] | {"acc": value}
    with pytest.raises(benchmark_answers.Unusable, match="acc of local_cloze"):
        benchmark_answers.score_of("local_cloze", sample, "acc")


def side(scores: list[float]) -> answers.Side:
    sample = SAMPLES["local_cloze"][0]
    rows = [
        benchmark_answers.answer("t", sample | {"acc": score}, (f"{place}", "acc", 0), {})
        for place, score in enumerate(scores)
    ]
    whole = {
        "schema": 1, "model": "m", "model_sha256": "0" * 64, "backend": "lm-eval over llama.cpp", "versions": {},
        "sampling": {"temperature": 0.0, "top_p": 1.0, "top_k": 0, "max_tokens": 0, "seed": 0}, "seconds": 1.0,
        "answers": rows, "details": {"documents": len(rows)},
    }  # fmt: skip
    return answers.read(msgspec.json.encode(whole), "answers.json")


def test_forty_documents_are_inconclusive_and_say_how_many_more() -> None:
    candidate = asked(public=True).candidate
    assert candidate.verification is not None
    gate = next(each for each in candidate.verification.gates if each.id == "task:math")
    rng = np.random.default_rng(1)
    for count, verdict in ((40, "inconclusive"), (20_000, "pass")):
        base = (rng.random(count) < 0.7).astype(float)
        turned = rng.random(count) < 0.02
        other = np.where(turned, 1 - base, base)
        both = answers.paired(side(list(base)), side(list(other)))
        found = judge.judge_gate(gate, Runs(answers={"task:math": answers.scores(both, "cloze")}))
        assert found.verdict == verdict
        if verdict == "inconclusive":
            assert found.further is not None
            assert found.further > 40
            assert "more items resolve it" in found.because


def test_versions_of_both_environments_are_part_of_a_step() -> None:
    class Two:
        def versions(self, tool: str) -> dict[str, str]:
            return {"numpy": "1" if tool == "lm-eval" else "2"}

    step = Step(id="a", does="", tool="lm-eval", command=("{python:lm-eval}", "--speaker", "{python:llama.cpp}"))
    assert tool_versions(step, Two()) == {"numpy": "1", "llama.cpp: numpy": "2"}  # type: ignore[arg-type]


def drawn(**given: Any) -> answer_talk.Sampler:
    return answer_talk.Sampler({"temperature": 1.0, "top_p": 1.0, "top_k": 0, "seeds": [[1, 2]]} | given)


def test_tokens_are_drawn_as_their_probabilities_say() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05]))
    assert {drawn(temperature=0.0).one(logits, 0) for _ in range(5)} == {0}
    plain, narrow, two = drawn(), drawn(top_p=0.75), drawn(top_k=2)
    counts = np.bincount([plain.one(logits, 0) for _ in range(4000)], minlength=4) / 4000
    assert np.abs(counts - [0.5, 0.3, 0.15, 0.05]).max() < 0.03
    assert {narrow.one(logits, 0) for _ in range(200)} == {0, 1}
    assert {two.one(logits, 0) for _ in range(200)} == {0, 1}
    same = [drawn().one(logits, 0) for _ in range(3)]
    assert len(set(same)) == 1, "a seed is a stream of its own"


def test_an_answer_ends_at_its_stop_text_its_last_token_or_its_length() -> None:
    words = {1: "one ", 2: "two", 3: "\n", 9: ""}

    def text(ids: list[int]) -> str:
        return "".join(words[each] for each in ids)

    reading = speaker_sampling.Reading(["o\n"], 10, text)
    assert [reading.reads([1, 2, 3][:count]) for count in (1, 2, 3)] == [False, False, True]
    assert reading.result([1, 2, 3], [9]) == {"text": "one tw", "ids": [1, 2, 3], "tokens": 3, "stopped": "end"}
    short = speaker_sampling.Reading([], 2, text)
    assert [short.reads([1]), short.reads([1, 1])] == [False, True]
    assert short.result([1, 1, 1], [9])["stopped"] == "length"
    assert speaker_sampling.Reading([], 5, text).result([1, 9, 9], [9]) == {
        "text": "one ", "ids": [1], "tokens": 1, "stopped": "end",
    }  # fmt: skip
