"""Steps that ask both sides: which items count for which gate, what is asked once, and what is left out by name."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import structs

from catalog import load
from planner.plan import Candidate, Gate
from planner.proving import answering, recipe
from planner.proving.answers import Sampling
from planner.proving.questions import OwnItems, Questions, Scorer, extended
from planner.proving.steps import Program, Step
from tests.verify.questions import question
from tests.verify.test_recipe import NASTY, question_with

FILE = "/data/tasks.jsonl"
SCORER = Scorer(command=("python", "/data/score.py", "--x"), tolerance=0.5, files=("/data/score.py",))


def own(asked: dict[str, int], **more: Any) -> OwnItems:
    return OwnItems(**{"files": (FILE,), "asked": asked, "scored": asked, "letters": 90.0} | more)


def asked(items: OwnItems | None, lane: str = "gptq-int4", families: tuple[str, ...] = (), **more: Any) -> recipe.Asked:
    """A question with the user's items; `families` = tasks that the plan has beside chat."""
    plain, questions = question(lane), Questions(own=items, **more)
    candidate = extended(with_families(plain.candidate, families), questions)
    given = {name: getattr(plain, name) for name in plain.__dataclass_fields__}
    return recipe.Asked(**given | {"candidate": candidate, "questions": questions})


def with_families(candidate: Candidate, families: tuple[str, ...]) -> Candidate:
    """With gates of more families, proved as the catalogue says."""
    verification = candidate.verification
    assert verification is not None
    (chat,) = (gate for gate in verification.gates if gate.id == "task:chat")
    gates: list[Gate] = []
    for gate in verification.gates:
        gates.append(gate)
        if gate is chat:
            gates += [task(chat, family) for family in families]
    return structs.replace(candidate, verification=structs.replace(verification, gates=tuple(gates)))


def task(chat: Gate, family: str) -> Gate:
    benchmark = load.load().gates.measuring(family)[0]
    trial = structs.replace(chat.benchmarks[0], name=benchmark.name, items=benchmark.items)
    return structs.replace(chat, id=f"task:{family}", benchmarks=(trial,))


def steps(program: Program) -> dict[str, Step]:
    return {step.id: step for step in program.steps}


def because(program: Program) -> dict[str, str]:
    return {each.gate: each.because for each in program.left_out if "wikitext" not in each.because}


@pytest.mark.parametrize("lane", ["gptq-int4", "gguf:Q4_K_M"])
def test_a_smoke_test_is_always_asked_and_tasks_are_left_out_by_name(lane: str) -> None:
    program = recipe.program(asked(None, lane))
    found = steps(program)
    assert found["answers-smoke-candidate"].gate == "smoke"
    assert "{workers}/smoke.json" in found["answers-smoke-baseline"].command
    assert program.measures["smoke"] == "smoke"
    assert because(program) == {
        "task:chat": "items of your own prove it: --task FILE",
        "flip_rate": "it is read off the answers to paired tasks, and none is asked: --task FILE",
    }


def test_the_smoke_test_is_as_long_as_the_plan_has_it() -> None:
    scoring = load.load().gates.scoring
    assert (scoring.smoke_answer_tokens, scoring.smoke_prompts) == (answering.SMOKE_TOKENS, answering.SMOKE_PROMPTS)


@pytest.mark.parametrize("lane", ["gptq-int4", "gguf:Q4_K_M"])
def test_items_are_asked_in_one_run_and_every_word_is_made_before(lane: str) -> None:
    program = recipe.program(asked(own({"": 40, "rag": 10}), lane, ("rag",)))
    assert {gate: run for gate, run in program.measures.items() if "@" not in gate} == {
        "smoke": "smoke", "task:chat": "task:chat", "task:rag": "task:chat", "flip_rate": "task:*",
    }  # fmt: skip
    assert program.items == {"task:chat": ("",), "task:rag": ("rag", "")}
    assert [step.id for step in program.steps if step.gate == "task:chat"] == ["answers-own-candidate"]
    made = {step.id: step.makes for step in program.steps}
    seen: set[str] = set()
    for step in program.steps:
        assert set(step.needs) <= seen
        seen.add(step.id)
        for word in step.command:
            if word.startswith("{run}/"):
                assert any(word.removeprefix("{run}/") in made[name] for name in step.needs), (step.id, word)
    assert steps(program)["items"].reads == (FILE, "/data/chats.jsonl")


@pytest.mark.parametrize(
    ("items", "families", "counts"),
    [
        ({"": 5}, (), {"task:chat": ("",)}),
        ({"chat": 5}, (), {"task:chat": ("chat",)}),
        ({"": 5, "chat": 5}, (), {"task:chat": ("chat", "")}),
        ({"": 5}, ("rag",), {"task:chat": ("",), "task:rag": ("",)}),
        ({"": 5}, ("math",), {"task:chat": ("",)}),
        ({"": 5, "math": 5}, ("math",), {"task:chat": ("",), "task:math": ("math",)}),
        ({"math": 5}, ("math",), {"task:math": ("math",)}),
        ({"code": 5}, ("math",), {}),
    ],
)
def test_items_count_for_their_family_or_for_what_is_proved_on_the_users_own(
    items: dict[str, int], families: tuple[str, ...], counts: dict[str, tuple[str, ...]]
) -> None:
    program = recipe.program(asked(own(items), families=families))
    assert program.items == counts
    assert {gate for gate in program.measures if gate.startswith("task:")} == counts.keys()
    assert ("flip_rate" in program.measures) == bool(counts)
    assert ("items" in steps(program)) == bool(counts)
    left = {name for name in items if not any(name in each for each in counts.values())}
    assert all(any(f"family {name} are not asked" in note for note in program.notes) for name in left)


def test_where_every_family_has_a_public_benchmark_loose_items_count_for_each() -> None:
    plain = asked(None, families=("math", "code"))
    verification = plain.candidate.verification
    assert verification is not None
    gates = tuple(gate for gate in verification.gates if gate.id != "task:chat")
    public = structs.replace(plain.candidate, verification=structs.replace(verification, gates=gates))
    whole = question_with(plain, public, ("/data/chats.jsonl",))
    program = recipe.program(recipe.Asked(**{**vars(whole), "questions": Questions(own=own({"": 9}))}))
    assert program.items == {"task:math": ("",), "task:code": ("",)}


def test_answers_with_a_form_get_a_gate_where_the_plan_has_none() -> None:
    items = own({"": 20}, scored={}, formed={"": 20})
    program = recipe.program(asked(items))
    assert program.measures["structured_output"] == "structured_output"
    assert "task:chat" in because(program)
    assert steps(program)["answers-own-candidate"].gate == "structured_output"
    candidate = asked(items).candidate
    assert candidate.verification is not None
    (gate,) = (gate for gate in candidate.verification.gates if gate.id == "structured_output")
    (chat,) = (gate for gate in candidate.verification.gates if gate.id == "task:chat")
    assert gate.thresholds[0].value == chat.thresholds[0].value
    assert gate.thresholds[0].source.startswith("assumed")
    assert gate.benchmarks == ()


def test_sampled_answers_are_a_second_run_under_the_same_gate() -> None:
    how = Sampling(temperature=0.7, top_p=0.9, top_k=20, max_tokens=64, seed=5)
    program = recipe.program(asked(own({"": 40}), answer_tokens=64, sampled=how, samples=3))
    ids = [step.id for step in program.steps if step.gate == "task:chat"]
    assert ids == ["answers-own-candidate", "answers-sampled-candidate"]
    words = steps(program)["said-sampled-candidate"].command
    said = " ".join(words)
    for flag in ("--temperature 0.7", "--top-p 0.9", "--top-k 20", "--samples 3", "--seed 5", "--max-tokens 64"):
        assert flag in said
    assert "--temperature" not in steps(program)["said-own-candidate"].command
    greedy, warm = (steps(program)[f"said-{slug}-baseline"].expected_s.value for slug in ("own", "sampled"))
    assert warm > greedy


def test_a_scorer_is_run_on_both_sides_and_its_words_are_one_word() -> None:
    program = recipe.program(asked(own({"": 40}), scorer=SCORER))
    one, two = (steps(program)[f"scorer-{side}"] for side in ("baseline", "candidate"))
    assert (one.gate, two.gate) == ("", "scorer")
    assert json.dumps(list(SCORER.command)) in two.command
    assert two.reads == SCORER.files
    assert program.measures["scorer"] == "scorer"


def test_a_scorer_alone_asks_items_that_expect_nothing() -> None:
    program = recipe.program(asked(own({"": 40}, scored={}), scorer=SCORER))
    assert program.measures["scorer"] == "scorer"
    assert {"said-own-candidate", "answers-own-candidate", "scorer-candidate"} <= steps(program).keys()
    assert "task:chat" in because(program)


@pytest.mark.parametrize("name", NASTY)
def test_task_files_and_scorers_are_whole_words(name: str) -> None:
    items = own({"": 4}, files=(name,))
    program = recipe.program(asked(items, scorer=Scorer(command=(name, "{run}/x"), tolerance=1.0)))
    step = steps(program)["items"]
    used = [word for word in step.command if name in word]
    assert used == [name if name.startswith("/") else f"./{name}"]
    command = steps(program)["scorer-baseline"].command
    assert json.dumps([name, "{run}/x"]) in command


def test_a_budget_drops_all_that_the_users_items_settle_together() -> None:
    whole = recipe.program(asked(own({"": 40, "rag": 10}), families=("rag",), scorer=SCORER))
    without = sum(step.expected_s.value for step in whole.steps if not step.id.startswith(("scorer", "items", "said")))
    tight = recipe.within(whole, without - 1)
    assert {"task:chat", "task:rag", "flip_rate"} <= {each.gate for each in tight.left_out}
    assert not {"items", "said-own-baseline"} & steps(tight).keys()
    assert "smoke" in tight.measures


def test_more_and_longer_answers_take_longer_and_a_gpu_takes_less() -> None:
    def seconds(count: int, tokens: int, gpus: int = 0) -> float:
        made = asked(own({"": count}), answer_tokens=tokens)
        placed = recipe.Asked(**{**vars(made), "gpus": gpus})
        return steps(recipe.program(placed))["said-own-baseline"].expected_s.value

    assert seconds(100, 64) > seconds(10, 64)
    assert seconds(100, 512) > seconds(100, 64)
    assert seconds(100, 512, gpus=1) < seconds(100, 512)
