"""Both sides' answers: read strictly, paired or refused, and what fails a smoke test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import structs

from catalog.errors import BadInput
from planner.plan import Gate, Verification
from planner.proving import answers, judge
from planner.proving.answers import EMPTY, LOOP, NOT_FINITE, Answer, Prompt, Sampling, Side
from planner.proving.receipt import Result
from planner.proving.steps import LeftOut, Program, Step, within
from planner.running import gathered
from tests.verify.test_judge import FLIPS, SMOKE, TASK, gate, threshold, verification

GREEDY = Sampling(max_tokens=64)
WARM = Sampling(temperature=0.7, top_p=0.9, max_tokens=64, seed=1)


def answer(item: str, score: float | None = 1.0, task: str = "chat", **more: Any) -> Answer:
    return Answer(task=task, item=item, score=score, text="an answer", tokens=3, stopped="end", **more)


def side(*given: Answer, **more: Any) -> Side:
    own = {"schema": 1, "model": "m", "model_sha256": "0" * 64, "backend": "transformers", "sampling": GREEDY} | more
    return Side(answers=given, **own)


def many(count: int, wrong: int = 0, **more: Any) -> list[Answer]:
    return [answer(str(place), float(place >= wrong), **more) for place in range(count)]


def encoded(made: Side) -> bytes:
    return msgspec.json.encode(made)


def test_a_file_survives_its_document() -> None:
    made = side(answer("a", prompt=Prompt(text="1", ids="2")), answer("b", None, valid=True))
    assert answers.read(encoded(made), "answers.json") == made


def changed(**more: Any) -> bytes:
    return json.dumps(json.loads(encoded(side(answer("a")))) | more).encode()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not a file of answers"),
        (b"\xff\xfe", "not a file of answers"),
        (encoded(side(answer("a")))[:-9], "not a file of answers"),
        (changed(schema=2), "schema 2, this version reads 1"),
        (changed(answers=[]), "holds no answer"),
        (changed(judge="me"), "unknown field"),
        (encoded(side(answer("a"), answer("a"))), "answered twice"),
        (encoded(side(answer("a", 1.5))), "a score of 1.5 for item a"),
        (encoded(side(answer("a", -0.1, name="first"))), "for item first"),
    ],
)
def test_what_is_no_file_of_answers_is_refused_by_name(data: bytes, says: str) -> None:
    with pytest.raises(BadInput, match=says) as fault:
        answers.read(data, "answers-x/answers.json")
    assert fault.value.path == "answers-x/answers.json"


def test_answers_are_paired_by_task_item_and_sample() -> None:
    one = side(answer("a", 1.0), answer("a", 0.0, sample=1), answer("b", 0.5, task="rag"))
    other = side(*reversed(one.answers))
    pairs = answers.scores(answers.paired(one, other))
    assert pairs.baseline == pairs.candidate == (1.0, 0.0, 0.5)
    assert pairs.tasks == ("chat", "chat", "rag")
    assert len(set(pairs.items)) == 2


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (side(answer("a"), answer("c")), "1 answers are the candidate's alone .item c"),
        (side(answer("a")), "1 answers are the baseline's alone .item b"),
        (side(answer("a"), answer("b"), answer("c")), "1 answers are the candidate's alone"),
        (side(answer("a"), answer("b"), sampling=WARM), "other sampling: greedy, 64 tokens, seed 0 against sampled at"),
        (side(answer("a"), answer("b"), sampling=Sampling(max_tokens=65)), "65 tokens"),
        (side(answer("a"), answer("b"), backend="llama.cpp"), "the baseline answered through transformers"),
    ],
)
def test_sides_that_differ_are_not_pairs(other: Side, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        answers.paired(side(answer("a"), answer("b")), other)


def test_items_that_expect_nothing_take_no_part_and_one_sided_scores_are_refused() -> None:
    one = side(answer("a"), answer("b", None, valid=True))
    other = side(answer("a", 0.0), answer("b", None, valid=False))
    both = answers.paired(one, other)
    assert (answers.scores(both).baseline, answers.scores(both).candidate) == ((1.0,), (0.0,))
    assert (answers.validity(both).baseline, answers.validity(both).candidate) == ((1.0,), (0.0,))
    with pytest.raises(BadInput, match="on one side only"):
        answers.scores(answers.paired(one, side(answer("a"), answer("b"))))
    nothing = answers.paired(side(answer("a", None)), side(answer("a", None)))
    with pytest.raises(BadInput, match="no answer has a score"):
        answers.scores(nothing)
    with pytest.raises(BadInput, match="no item asks for a schema"):
        answers.validity(nothing)


def prompts(count: int = 20, **faults: tuple[int, ...]) -> list[Answer]:
    """Answers of a smoke test; `loop=(1, 2)` = these repeat."""
    words = {"loop": LOOP, "empty": EMPTY, "broken": NOT_FINITE}
    return [
        answer(str(place), None, faults=tuple(words[kind] for kind, places in faults.items() if place in places))
        for place in range(count)
    ]


def failures(one: list[Answer], other: list[Answer]) -> tuple[str, ...]:
    return answers.smoke(answers.paired(side(*one), side(*other)))


def test_a_sound_candidate_fails_nothing() -> None:
    assert failures(prompts(), prompts()) == ()
    assert failures(prompts(loop=(1, 2, 3), empty=(4,)), prompts()) == ()


@pytest.mark.parametrize("kind", ["loop", "empty"])
def test_one_fault_counts_where_the_baseline_has_none(kind: str) -> None:
    assert len(failures(prompts(), prompts(**{kind: (3,)}))) == 1


def test_a_weak_baseline_lets_chance_decide_which_prompts_repeat() -> None:
    """Eight of twenty on both sides, on other prompts; but eight against one are no chance (p = 0.035)."""
    assert failures(prompts(loop=tuple(range(8))), prompts(loop=tuple(range(6, 14)))) == ()
    assert failures(prompts(loop=tuple(range(8))), prompts(loop=tuple(range(8)))) == ()
    assert len(failures(prompts(loop=(0,)), prompts(loop=tuple(range(1, 9))))) == 8
    assert failures(prompts(loop=(0,)), prompts(loop=(1, 2, 3))) == ()


def test_log_probabilities_have_to_be_finite_whatever_the_baseline_does() -> None:
    assert failures(prompts(), prompts(broken=(7,))) == ("7: log-probabilities are not finite",)
    with pytest.raises(BadInput, match="the baseline is broken: not finite in 0, 1, 2 and 1 more"):
        failures(prompts(broken=(0, 1, 2, 3)), prompts(broken=(0,)))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"template": False, "text": "y", "ids": "j"}, "no chat template"),
        ({"text": "y", "ids": "j"}, "chat template writes another text"),
        ({"bos": 2, "ids": "j"}, "begins with 2 BOS tokens, the baseline's 1"),
        ({"ids": "j"}, "tokenizer gives other token ids"),
        ({}, ""),
    ],
)
def test_other_token_ids_for_the_same_messages_name_their_cause(change: dict[str, Any], says: str) -> None:
    prompt = Prompt(text="x", ids="i", bos=1, template=True)
    found = failures([answer("a", prompt=prompt)], [answer("a", prompt=structs.replace(prompt, **change))])
    assert len(found) == bool(says)
    assert all(says in each for each in found)


STRUCTURED = gate(
    "structured_output",
    threshold("valid_answers_difference", "lower", ">=", -2.0),
    of="answers",
    shares="task:tool_use",
)
RAG = structs.replace(TASK, id="task:rag")


class World:
    """A run's folder with the answers of both sides."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.steps: list[Step] = []
        self.failed: set[str] = set()
        self.items: dict[str, tuple[str, ...]] = {}

    def wrote(self, slug: str, run: str, one: Side, other: Side, text: str = "") -> World:
        for name, made, own in (("baseline", one, ""), ("candidate", other, run)):
            path = f"answers-{slug}-{name}/answers.json"
            (self.folder / path).parent.mkdir()
            (self.folder / path).write_bytes(encoded(made))
            step = Step(id=f"answers-{slug}-{name}", does="", command=(), makes=(path,), gate=own, text=text)
            self.steps.append(step)
        return self

    def faulty(self, *faults: dict[str, str]) -> World:
        (self.folder / "inspect").mkdir()
        (self.folder / "inspect" / "faults.json").write_text(json.dumps({"schema": 1, "faults": faults, "seen": {}}))
        self.steps.append(Step(id="inspect", does="", command=(), makes=("inspect/faults.json",)))
        return self

    def program(self, **measures: str) -> Program:
        return Program(
            plan_id="0" * 16, lane="fp8", engine="vllm 0", baseline="x", steps=tuple(self.steps),
            measures={name.replace("task_", "task:"): run for name, run in measures.items()}, items=self.items,
        )  # fmt: skip

    def judged(self, *gates: Gate, **measures: str) -> judge.Judgement:
        results = [Result(id=step.id, state="failed" if step.id in self.failed else "done") for step in self.steps]
        asked: Verification = verification(*gates)
        return judge.judge(asked, gathered.runs(self.program(**measures), asked, results, self.folder))


def test_answers_of_a_run_become_verdicts(tmp_path: Path) -> None:
    world = World(tmp_path).wrote("chat", "task:chat", side(*many(2000)), side(*many(2000, wrong=300)))
    found = world.judged(TASK, FLIPS, task_chat="task:chat", flip_rate="task:*")
    assert [each.verdict for each in found.gates] == ["fail", "fail"]
    assert found.gates[0].checks[0].text == "greedy"
    assert "300 turned wrong, 0 right" in found.gates[0].because
    assert found.verdict == "fail"


def test_the_users_items_are_split_by_family_and_those_of_none_count_for_each(tmp_path: Path) -> None:
    def asked(wrong: int) -> Side:
        loose = [answer(f"x{place}", task="") for place in range(1000)]
        return side(*many(500, wrong, task="rag"), *loose)

    world = World(tmp_path).wrote("own", "task:chat", asked(0), asked(100), answers.OWN_ITEMS)
    world.items = {"task:chat": ("",), "task:rag": ("rag", "")}
    runs = {"task_chat": "task:chat", "task_rag": "task:chat", "flip_rate": "task:*"}
    found = {each.gate: each for each in world.judged(TASK, RAG, FLIPS, **runs).gates}
    assert found["task:chat"].checks[0].samples == 1000
    assert found["task:rag"].checks[0].samples == 1500
    assert found["flip_rate"].checks[0].samples == 1500, "an item that counts twice flips once"
    assert found["flip_rate"].checks[0].value == pytest.approx(100 * 100 / 1500)
    assert [found[name].verdict for name in ("task:chat", "task:rag")] == ["pass", "fail"]
    assert found["task:rag"].checks[0].text == "your own items, greedy"


def test_sampled_answers_are_held_beside_greedy_ones(tmp_path: Path) -> None:
    world = World(tmp_path).wrote("chat", "task:chat", side(*many(2000)), side(*many(2000)))
    world.wrote("chat-sampled", "task:chat", side(*many(2000), sampling=WARM), side(*many(2000, 300), sampling=WARM))
    (found,) = world.judged(TASK, task_chat="task:chat").gates
    assert [(check.text, check.verdict) for check in found.checks] == [
        ("greedy", "pass"), ("sampled at temperature 0.7, top p 0.9", "fail"),
    ]  # fmt: skip
    assert found.verdict == "fail"


def test_valid_answers_are_paired_like_right_ones(tmp_path: Path) -> None:
    one = [answer(str(place), None, valid=True) for place in range(2000)]
    other = [answer(str(place), None, valid=place >= 200) for place in range(2000)]
    world = World(tmp_path).wrote("own", "structured_output", side(*one), side(*other), answers.OWN_ITEMS)
    (found,) = world.judged(STRUCTURED, structured_output="structured_output").gates
    assert (found.verdict, found.checks[0].value) == ("fail", -10.0)


def test_sides_that_are_no_pairs_leave_their_gate_open_with_the_reason(tmp_path: Path) -> None:
    world = World(tmp_path).wrote("chat", "task:chat", side(*many(20)), side(*many(19)))
    found = world.judged(TASK, task_chat="task:chat")
    assert (found.gates[0].verdict, found.gates[0].run) == ("inconclusive", False)
    assert "1 answers are the baseline's alone" in found.gates[0].because


def test_a_step_that_did_not_end_leaves_its_gate_open_but_a_failure_stands(tmp_path: Path) -> None:
    world = World(tmp_path).wrote("chat", "task:chat", side(*many(2000)), side(*many(2000)))
    world.wrote("chat-sampled", "task:chat", side(*many(20), sampling=WARM), side(*many(20), sampling=WARM))
    world.failed = {"answers-chat-sampled-candidate"}
    (found,) = world.judged(TASK, task_chat="task:chat").gates
    assert (found.verdict, found.run, found.because) == (
        "inconclusive", False, "not run: answers-chat-sampled-candidate",
    )  # fmt: skip
    lost = side(*many(2000, 300))
    (tmp_path / "answers-chat-candidate" / "answers.json").write_bytes(encoded(lost))
    (found,) = world.judged(TASK, task_chat="task:chat").gates
    assert (found.verdict, found.run) == ("fail", True)


def test_smoke_is_the_answers_and_the_files_together(tmp_path: Path) -> None:
    world = World(tmp_path).wrote("smoke", "smoke", side(*prompts()), side(*prompts()))
    assert world.judged(SMOKE, smoke="smoke").gates[0].verdict == "pass"
    world.faulty({"what": "a scale is not finite", "where": "model.layers.0"}, {"what": "lm_head is quantized"})
    (found,) = world.judged(SMOKE, smoke="smoke").gates
    assert (found.verdict, found.checks[0].value, found.checks[0].samples) == ("fail", 2.0, 20)
    assert "model.layers.0: a scale is not finite; lm_head is quantized" in found.because


def test_sound_files_without_answers_are_no_smoke_test_and_faulty_ones_fail(tmp_path: Path) -> None:
    world = World(tmp_path).wrote("smoke", "smoke", side(*prompts()), side(*prompts())).faulty()
    world.failed = {"answers-smoke-candidate"}
    (found,) = world.judged(SMOKE, smoke="smoke").gates
    assert (found.verdict, found.run) == ("inconclusive", False)
    (tmp_path / "inspect" / "faults.json").write_text('{"faults": [{"what": "zeroed"}]}')
    (found,) = world.judged(SMOKE, smoke="smoke").gates
    assert (found.verdict, found.run) == ("fail", True)


def test_faults_are_strict() -> None:
    for data in (b"{}", b'{"faults": [{"where": "x"}]}', b'{"faults": [], "more": 1}'):
        with pytest.raises(BadInput, match="not a file of faults"):
            answers.structure(data, "inspect/faults.json")


def test_a_budget_keeps_what_is_read_off_tasks_while_one_is_left(tmp_path: Path) -> None:
    world = World(tmp_path).wrote("chat", "task:chat", side(*many(2)), side(*many(2)))
    world.wrote("rag", "task:rag", side(*many(2)), side(*many(2)))
    seconds = structs.replace(SMOKE.expected_s, value=10.0, low=10.0, high=10.0)
    steps = [structs.replace(step, expected_s=seconds) for step in world.steps]
    measures = {"task:chat": "task:chat", "task:rag": "task:rag", "flip_rate": "task:*"}
    whole = structs.replace(world.program(), steps=tuple(steps), measures=measures)
    half = within(whole, 15.0)
    assert half.measures == {"task:chat": "task:chat", "flip_rate": "task:*"}
    assert [each.gate for each in half.left_out] == ["task:rag"]
    none = within(whole, 5.0)
    assert none.measures == {}
    assert {each.gate for each in none.left_out} == {"task:chat", "task:rag", "flip_rate"}
    assert all(isinstance(each, LeftOut) for each in none.left_out)
