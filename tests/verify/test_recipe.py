"""A recipe is data: laws of the program of every lane, and the words of each as a golden file."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import msgspec
import pytest
from msgspec import structs

from catalog.errors import BadInput, NotFound, Unsupported
from planner.lanes import BY_ID
from planner.plan import Make
from planner.proving import preparing, recipe
from planner.proving.steps import PLACEHOLDER, Program, Step, gate_key
from tests.verify.questions import MADE, plan_of, question

GOLDEN = Path(__file__).parent / "golden"
CASES = [pytest.param(*case, id="-".join(filter(None, case)).replace(":", "-")) for case in MADE]
SAFE = re.compile(r"[A-Za-z0-9_@%+=:,./*{}-]+")
"""Words that no shell would read as more than a word; `*` is a pattern that our own script reads."""


@pytest.mark.parametrize(("lane", "by"), CASES)
def test_a_program_is_ordered_and_complete(lane: str, by: str | None) -> None:
    asked = question(lane, by)
    program = recipe.program(asked)
    seen: set[str] = set()
    for step in program.steps:
        assert set(step.needs) <= seen, "a step stands after what it needs"
        assert step.id not in seen
        seen.add(step.id)
    made = [path for step in program.steps for path in step.makes]
    assert len(made) == len(set(made))
    assert all(path.startswith(f"{step.id}/") for step in program.steps for path in step.makes)
    assert asked.candidate.verification is not None
    wanted = {gate_key(gate) for gate in asked.candidate.verification.gates}
    assert wanted <= program.measures.keys() | {each.gate for each in program.left_out}
    assert set(program.measures.values()) == {step.gate for step in program.steps if step.gate}
    assert program.measures, "token statistics of every lane are measured"
    assert program.missing == ()


@pytest.mark.parametrize(("lane", "by"), CASES)
def test_what_a_step_opens_is_made_by_what_it_needs(lane: str, by: str | None) -> None:
    program = recipe.program(question(lane, by))
    made = {step.id: step.makes for step in program.steps}
    for step in program.steps:
        for word in step.command:
            if word.startswith("{run}/"):
                path = word.removeprefix("{run}/")
                assert path.partition("/")[0] in step.needs, (step.id, word)
                assert path in made[path.partition("/")[0]], (step.id, word)
        assert any(word.startswith("{out}") for word in step.command)


@pytest.mark.parametrize(("lane", "by"), CASES)
def test_commands_are_words_and_costs_are_estimates(lane: str, by: str | None) -> None:
    for step in recipe.program(question(lane, by)).steps:
        assert all(SAFE.fullmatch(word) for word in step.command), step.command
        heads = [word.partition("/")[0] for word in step.command if word.startswith("{")]
        assert all(PLACEHOLDER.fullmatch(head) for head in heads)
        assert 0 < step.expected_s.low <= step.expected_s.value <= step.expected_s.high
        assert step.expected_s.basis == "assumed"
        assert step.ram_bytes > 0
        assert step.disk_bytes > 0


def words(program: Program) -> dict[str, object]:
    """What a golden file holds: everything but costs."""
    steps = [
        {"id": step.id, "command": step.command, "needs": step.needs, "makes": step.makes, "gate": step.gate}
        for step in program.steps
    ]
    left_out = [f"{each.gate}: {each.because}" for each in program.left_out]
    return {"steps": steps, "measures": program.measures, "left_out": left_out, "notes": program.notes}


@pytest.mark.parametrize(("lane", "by"), CASES)
def test_the_words_of_every_lane_are_its_golden_file(lane: str, by: str | None) -> None:
    """`make golden` writes them anew."""
    path = GOLDEN / f"{'-'.join(filter(None, (lane.replace(':', '-'), by)))}.json"
    now = json.loads(json.dumps(words(recipe.program(question(lane, by)))))
    if os.environ.get("LANEWISE_GOLDEN") == "write":
        path.write_text(json.dumps(now, indent=1) + "\n")
    assert json.loads(path.read_text()) == now


def test_every_lane_that_is_made_has_a_golden_file() -> None:
    covered = {lane for lane, _ in MADE}
    tools = {lane.id for lane in BY_ID.values() for method in lane.methods if method.tool == "llm-compressor"}
    assert tools <= covered
    assert {path.stem for path in GOLDEN.glob("*.json")} == {
        "-".join(filter(None, (lane.replace(":", "-"), by))) for lane, by in MADE
    }


NASTY = ("/data/a b; rm -rf $HOME.txt", "/data/{run}/x.txt", "-rf", "{out}/x y", "/data/`id`.txt", "/data/\n.txt")


@pytest.mark.parametrize("name", NASTY)
def test_names_of_users_are_whole_words(name: str) -> None:
    program = recipe.program(question("gptq-int4", texts=(name,), calibration=(name,), original=name))
    used = [word for step in program.steps for word in step.command if name in word]
    assert used
    assert set(used) == {name if name.startswith("/") else f"./{name}"}


def test_an_artefact_is_fetched_and_not_made() -> None:
    model = "meta-llama/Llama-3.1-8B-Instruct"
    asked = question("fp8", model=model)
    assert asked.candidate.artifact is not None
    steps = {step.id: step for step in recipe.program(asked).steps}
    assert asked.candidate.artifact.repo in steps["candidate"].command
    assert "calibration" not in steps
    made = recipe.program(question("fp8", "fp8-static", model=model))
    assert {"calibration", "candidate"} <= {step.id for step in made.steps}


def test_gguf_repositories_are_asked_for_one_type() -> None:
    asked = question("gguf:Q4_K_M", model="meta-llama/Llama-3.1-8B-Instruct")
    steps = {step.id: step for step in recipe.program(asked).steps}
    assert steps["candidate"].command[-2:] == ("--file", "*Q4_K_M*.gguf")


def test_without_text_the_program_is_shown_and_says_what_is_missing() -> None:
    program = recipe.program(question("gptq-int4", texts=(), calibration=()))
    assert [said.partition(":")[0] for said in program.missing] == [
        "text of your own to score both sides on",
        "calibration text of your own kind (100% chat) through the chat template, none of it from your evaluation",
    ]


def test_the_neutral_text_is_scored_where_it_is_given_and_left_out_by_name_where_not() -> None:
    without = recipe.program(question("gptq-int4"))
    given = recipe.program(question("gptq-int4", neutral=("/data/wiki.txt",)))
    assert any("wikitext-2" in each.because for each in without.left_out)
    assert not any("wikitext-2" in each.because for each in given.left_out)
    assert "compare-neutral-512" in {step.id for step in given.steps}


def test_an_fp8_cache_gets_scales_where_there_is_text_for_them() -> None:
    model = "meta-llama/Llama-3.1-8B-Instruct"
    asked = question("fp8", "fp8-dynamic", model=model)
    cached = structs.replace(asked.candidate, kv_cache_dtype="fp8")
    for text, scaled in ((("/data/c.txt",), True), ((), False)):
        steps = recipe.program(question_with(asked, cached, text)).steps
        (made,) = (step for step in steps if step.id == "candidate")
        assert ("--cache" in made.command) == scaled
        assert ("calibration" in made.needs) == scaled


def question_with(asked: recipe.Asked, candidate: object, text: tuple[str, ...]) -> recipe.Asked:
    given = {name: getattr(asked, name) for name in asked.__dataclass_fields__}
    return recipe.Asked(**given | {"candidate": candidate, "calibration": text})


def test_a_cpu_takes_longer_and_no_gpu_is_asked_for() -> None:
    one, none = (recipe.program(question("gptq-int4", gpus=gpus)) for gpus in (1, 0))
    assert one.expected_s.value < none.expected_s.value
    assert {step.gpus for step in none.steps} == {0}
    assert {step.gpus for step in one.steps} == {0, 1}
    assert all(step.env.get("CUDA_VISIBLE_DEVICES") == "" for step in none.steps if step.tool)


def test_nvfp4_on_a_cpu_says_that_it_is_not_served() -> None:
    assert any("never served" in note for note in recipe.program(question("nvfp4", gpus=0)).notes)
    assert not any("never served" in note for note in recipe.program(question("nvfp4", gpus=1)).notes)


def test_what_loses_nothing_has_nothing_to_prove() -> None:
    program = recipe.program(question("bf16"))
    assert [step.id for step in program.steps] == ["original"]
    assert program.measures == {}
    assert program.notes == (recipe.NOTHING_LOST,)


def test_weights_that_the_engine_quantizes_are_left_out_by_name() -> None:
    asked = question("fp8")
    assert asked.candidate.recipe.online
    program = recipe.program(asked)
    assert program.measures == {}
    assert any("the engine quantizes while it loads" in each.because for each in program.left_out)


def test_what_is_not_made_is_refused_by_name() -> None:
    asked = question("gguf:Q4_K_M")
    make = asked.candidate.make
    assert make is not None
    unsloth = structs.replace(asked.candidate, make=structs.replace(make, scheme="UD-Q4_K_XL"))
    with pytest.raises(Unsupported, match="its publisher makes"):
        recipe.program(question_with(asked, unsloth, ()))
    with pytest.raises(Unsupported, match="not from a GGUF file"):
        recipe.program(question("gptq-int4", original="/models/x.gguf"))
    with pytest.raises(BadInput, match="fp8-dynamic, fp8-block, fp8-static"):
        question("fp8", "gptq")
    with pytest.raises(BadInput, match="shows no candidate"):
        recipe.candidate_of(plan_of("fp8"), "nvfp4")
    infeasible = structs.replace(plan_of("fp8"), choice=None, alternatives=())
    with pytest.raises(NotFound, match="nothing to verify"):
        recipe.candidate_of(infeasible, None)


def test_a_gguf_original_needs_no_conversion() -> None:
    program = recipe.program(question("gguf:Q4_K_M", original="/models/x-f16.gguf"))
    assert "baseline" not in {step.id for step in program.steps}
    quantize = next(step for step in program.steps if step.id == "candidate")
    assert "{run}/original/model.gguf" in quantize.command


def test_a_budget_keeps_the_first_gates_whole_and_names_the_others() -> None:
    whole = recipe.program(question("gptq-int4", gpus=1))
    tight = recipe.within(whole, whole.expected_s.value - 1)
    assert 0 < len(tight.steps) < len(whole.steps)
    assert tight.expected_s.value <= whole.expected_s.value - 1
    lost = whole.measures.keys() - tight.measures.keys()
    assert lost == {each.gate for each in tight.left_out if "budget" in each.because}
    assert recipe.within(whole, whole.expected_s.value + 1) == whole
    assert recipe.within(whole, 0.1).steps == ()


def test_a_program_survives_its_document() -> None:
    program = recipe.program(question("awq-int4"))
    assert msgspec.json.decode(msgspec.json.encode(program), type=Program) == program


def test_rounding_without_text_is_never_called_gptq() -> None:
    make = Make(tool="llm-compressor", scheme="W8A16", because="", algorithm="GPTQ")
    assert preparing.algorithm(make, None) == "rtn"


def test_steps_are_strict() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"id": "a", "does": "b", "command": [], "shell": true}', type=Step)


def test_a_neutral_text_is_called_what_it_is() -> None:
    """Gates name the text that the plan asks for; the file is the user's, and nobody compared the two."""
    notes = recipe.program(question("gptq-int4", neutral=("/data/private/comments.txt",))).notes
    assert [each for each in notes if "wikitext-2" in each] == [
        "what gates call wikitext-2 is the text of --neutral (comments.txt): nobody checked that it is the same"
    ]
    assert not any("wikitext-2" in each for each in recipe.program(question("gptq-int4")).notes)
