"""Steps that ask both sides: the smoke test, the user's items greedily and as served, and the user's scorer.

All items are asked in one run, which gives the numbers of every gate that they count for: a model is loaded once.
Items that say their family count for that family. Items that say none count for every family of the mix that the plan
proves on items of the user's own; where it proves each on a public benchmark, for every family of the mix.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from planner.plan import Gate
from planner.proving import benchmarks, opening, toolrates
from planner.proving.answers import OWN_ITEMS, Sampling
from planner.proving.asked import Asked
from planner.proving.preparing import (
    BASELINE,
    COMPRESSOR,
    LEAST_DISK,
    LLAMA,
    ORIGINAL,
    WORKING,
    baseline_path,
)  # fmt: skip
from planner.proving.questions import FORMED, SCORER, OwnItems
from planner.proving.steps import ALL_TASKS, OUT, OWN_PYTHON, RUN, WORKERS, Step, gate_key, word

SMOKE, FLIPS, TASK = "smoke", "flip_rate", "task:"
KINDS = (SMOKE, "task", benchmarks.LONG, FLIPS, FORMED, SCORER)
"""Kinds of gates that answers settle."""
ITEMS = f"{RUN}/items/items.json"
SMOKE_ITEMS, SMOKE_PROMPTS = f"{WORKERS}/smoke.json", 20
SMOKE_TOKENS, SMOKE_LETTERS = 256, 120.0
"""Of an answer, as the plan's scoring has it, and of a prompt (counted in the file)."""
LETTERS = 3.0
"""Of a token, in prompts of any language (assumed)."""
FRAME = 40.0
"""Tokens that a chat template adds (assumed)."""
CACHE = 2.0**30
"""RAM of the answers under way (assumed)."""
TEXT = 16.0
"""Bytes of a token in a file of answers, with what stands around it (assumed)."""
SIDES = ("baseline", "candidate")


def lacking(asked: Asked, gate: Gate) -> str:
    """What the user would have to give before answers settle a gate; "" where it is there."""
    own = asked.questions.own
    if (gate.id.startswith(TASK) or gate.id == benchmarks.LONG) and not counting(asked, gate):
        because = benchmarks.lacking(asked, gate)
        if because and own is not None:
            return f"no item of --task counts for it: give items of the family {_family(gate)}, or: {because}"
        return because
    if gate.id == FORMED and (own is None or not own.formed):
        return "items with a `schema` or `tools` prove it: --task FILE"
    if gate.id == FLIPS and not any(not lacking(asked, each) for each in _tasks(asked)):
        return "it is read off the answers to paired tasks, and none is asked: --task FILE"
    return ""


def _family(gate: Gate) -> str:
    return gate.id.removeprefix(TASK)


def _own(gate: Gate) -> bool:
    """Whether the plan proves a family on items of the user's own."""
    return bool(gate.benchmarks) and gate.benchmarks[0].items is None


def _tasks(asked: Asked) -> list[Gate]:
    verification = asked.candidate.verification
    return [gate for gate in verification.gates if gate.id.startswith(TASK)] if verification is not None else []


def counting(asked: Asked, gate: Gate) -> tuple[str, ...]:
    """Families whose items count for a task's gate, "" = those of no family; nothing where none does."""
    own = asked.questions.own
    if own is None or not gate.id.startswith(TASK) or benchmarks.files_of(asked, gate):
        return ()
    loose = _own(gate) or not any(map(_own, _tasks(asked)))
    return tuple(name for name in (_family(gate), *([""] if loose else [])) if own.scored.get(name))


def asked_families(asked: Asked) -> tuple[str, ...]:
    """Families whose items are asked at all."""
    own = asked.questions.own
    if own is None:
        return ()
    wanted = {name for gate in _tasks(asked) for name in counting(asked, gate)}
    return tuple(sorted(wanted | own.formed.keys() | (own.asked.keys() if asked.questions.scorer else set())))


def run_of(asked: Asked, gate: Gate) -> str:
    """The run that gives a gate's numbers: all that the user's items settle share one."""
    if gate.id == FLIPS:
        return ALL_TASKS
    if counting(asked, gate) or gate.id == FORMED:
        return own_run(asked)
    return gate_key(gate)


def own_run(asked: Asked) -> str:
    """The first gate that the user's items settle; "" where they settle none."""
    own, verification = asked.questions.own, asked.candidate.verification
    if own is None or verification is None:
        return ""
    settled = (each for each in verification.gates if counting(asked, each) or (each.id == FORMED and own.formed))
    return next(map(gate_key, settled), "")


def families(asked: Asked, measures: dict[str, str]) -> dict[str, tuple[str, ...]]:
    """Gate -> families of the user's items that count for it."""
    counted = {gate_key(gate): counting(asked, gate) for gate in _tasks(asked) if gate_key(gate) in measures}
    return {gate: names for gate, names in counted.items() if names}


def notes(asked: Asked) -> Iterator[str]:
    """What the answers do not contain, and items that no gate counts."""
    own = asked.questions.own
    cache = "a 16-bit cache" if asked.gguf else "a 16-bit cache unless the checkpoint itself says FP8"
    yield f"answers come from the files through {_tool(asked)[1]}, not from the served engine, with {cache}"
    yield from benchmarks.notes(asked)
    if own is None:
        return
    if own.formed:
        yield "answers that have to have a form are free: the engine's own guided decoding is not in them"
    idle = {name: count for name, count in own.asked.items() if name not in asked_families(asked)}
    for name, count in sorted(idle.items()):
        what = f"of the family {name}" if name else "of no family"
        yield f"{count} items {what} are not asked: no gate of the plan counts them"


def steps(asked: Asked, gate: Gate) -> Iterator[Step]:
    """The steps of one run, named by the gate that it is measured under."""
    if benchmarks.proves(asked, gate) and not counting(asked, gate):
        yield from benchmarks.steps(asked, gate)
    elif gate.id == SMOKE:
        yield from _both(asked, gate, SMOKE, (SMOKE_PROMPTS, SMOKE_LETTERS), Sampling(max_tokens=SMOKE_TOKENS))
    elif gate.id == SCORER:
        yield from _scored(asked, gate)
    else:
        yield from _own_items(asked, gate)


def items_step(asked: Asked) -> Step:
    """The user's task files as what is asked."""
    own = _items(asked)
    calibration = ("--calibration", *map(word, asked.calibration)) if asked.calibration else ()
    return Step(
        id="items",
        does=f"{sum(own.asked[name] for name in asked_families(asked))} items of your own",
        proves="what is asked and expected, by hash; none of it stands in the calibration text",
        command=(
            OWN_PYTHON, f"{WORKERS}/items.py", "read", "--task", *map(word, own.files), *calibration,
            "--family", *asked_families(asked), "--out", f"{OUT}/items.json",
        ),
        reads=(*own.files, *asked.calibration),
        makes=("items/items.json",),
        ram_bytes=2.0**28,
        disk_bytes=LEAST_DISK + 4 * own.letters * own.count,
        expected_s=toolrates.about(1.0),
    )  # fmt: skip


def _items(asked: Asked) -> OwnItems:
    assert asked.questions.own is not None
    return asked.questions.own


def _tool(asked: Asked) -> tuple[str, str]:
    """(environment, the name of the backend)."""
    return (LLAMA, "llama.cpp") if asked.gguf else (COMPRESSOR, "transformers")


def _own_items(asked: Asked, gate: Gate) -> Iterator[Step]:
    """Greedy answers of both sides, marked; then sampled ones where they are asked for."""
    own, wanted = _items(asked), asked.questions
    count = sum(own.asked[name] for name in asked_families(asked))
    yield items_step(asked)
    greedy = Sampling(max_tokens=wanted.answer_tokens, seed=asked.seed)
    yield from _marked(asked, gate, "own", (count, own.letters), greedy)
    if wanted.sampled is not None:
        yield from _marked(asked, gate, "sampled", (count, own.letters), wanted.sampled)


def _marked(asked: Asked, gate: Gate, slug: str, size: tuple[int, float], how: Sampling) -> Iterator[Step]:
    """What both sides say, and what it is worth."""
    yield from _both(asked, gate, slug, size, how, name="said")
    for side in SIDES:
        yield Step(
            id=f"answers-{slug}-{side}",
            does=f"mark the {side}'s answers, {how.words}",
            proves="which answers are right, and which have the form that they have to have",
            command=(
                OWN_PYTHON, f"{WORKERS}/items.py", "mark", "--items", ITEMS,
                "--said", f"{RUN}/said-{slug}-{side}/answers.json", "--out", f"{OUT}/answers.json",
            ),
            needs=("items", f"said-{slug}-{side}", *([f"answers-{slug}-baseline"] if side == "candidate" else [])),
            makes=(f"answers-{slug}-{side}/answers.json",),
            ram_bytes=2.0**28,
            disk_bytes=_disk(size[0] * _samples(asked, how), how.max_tokens),
            expected_s=toolrates.about(1.0),
            gate=gate_key(gate) if side == "candidate" else "",
            text=OWN_ITEMS,
        )  # fmt: skip


def _samples(asked: Asked, how: Sampling) -> int:
    return asked.questions.samples if how.temperature > 0 else 1


def _both(
    asked: Asked, gate: Gate, slug: str, size: tuple[int, float], how: Sampling, name: str = "answers"
) -> Iterator[Step]:
    """Both sides asked: the smoke items, or the user's."""
    source = BASELINE if asked.gguf and not asked.is_file else ORIGINAL
    paths = {"baseline": (baseline_path(asked), source), "candidate": opening.scored_path(asked)}
    own = name == "said"
    for side in SIDES:
        path, made_by = paths[side]
        before = [f"{name}-{slug}-baseline"] if side == "candidate" and not own else []
        yield Step(
            id=f"{name}-{slug}-{side}",
            does=f"ask the {side} {size[0]} {'items' if own else 'plain prompts'}, {how.words}",
            proves=_PROVES[own],
            tool=_tool(asked)[0],
            command=(
                f"{{python:{_tool(asked)[0]}}}", f"{WORKERS}/answer.py", "run", "--backend", _tool(asked)[1],
                "--model", path, "--items", ITEMS if own else SMOKE_ITEMS, *_sampling(asked, how),
                "--out", f"{OUT}/answers.json",
            ),
            env=asked.env,
            needs=(made_by, *(("items",) if own else ()), *before),
            makes=(f"{name}-{slug}-{side}/answers.json",),
            ram_bytes=WORKING + CACHE + asked.original_bytes * (1.0 if asked.gguf or asked.gpus else 2.0),
            disk_bytes=_disk(size[0] * _samples(asked, how), how.max_tokens),
            gpus=asked.gpus,
            expected_s=toolrates.answered(asked.params, _tokens(asked, size, how), _tool(asked)[1], asked.gpus),
            gate=gate_key(gate) if side == "candidate" and not own else "",
            text="" if own else "smoke prompts",
        )  # fmt: skip


_PROVES = {
    False: "finite numbers, no endless repetition, the chat template and BOS give both sides the same token ids",
    True: "what it says to your own items, by its own chat template",
}


def _tokens(asked: Asked, size: tuple[int, float], how: Sampling) -> tuple[float, float]:
    """Of all prompts, and of all answers at their longest."""
    answers, letters = size[0] * _samples(asked, how), size[1]
    return answers * (letters / LETTERS + FRAME), answers * float(how.max_tokens)


def _sampling(asked: Asked, how: Sampling) -> tuple[str, ...]:
    """As words; what is greedy says no more than its length."""
    words = ["--max-tokens", str(how.max_tokens), "--seed", str(how.seed)]
    if how.temperature > 0:
        words += ["--temperature", f"{how.temperature:g}", "--top-p", f"{how.top_p:g}", "--top-k", str(how.top_k)]
        words += ["--samples", str(asked.questions.samples)]
    return tuple(words)


def _disk(answers: int, tokens: int) -> float:
    return LEAST_DISK + TEXT * answers * tokens


def _scored(asked: Asked, gate: Gate) -> Iterator[Step]:
    """The user's command on each side's greedy answers."""
    scorer = asked.questions.scorer
    assert scorer is not None
    if not own_run(asked):
        yield from _own_items(asked, gate)
    for side in SIDES:
        yield Step(
            id=f"scorer-{side}",
            does=f"your scorer on the {side}'s answers",
            proves="what they are worth to you",
            command=(
                OWN_PYTHON, f"{WORKERS}/scorer.py", "--items", ITEMS,
                "--answers", f"{RUN}/answers-own-{side}/answers.json", "--command", json.dumps(list(scorer.command)),
                "--out", f"{OUT}/scores.json",
            ),
            needs=("items", f"answers-own-{side}", *(["scorer-baseline"] if side == "candidate" else [])),
            reads=scorer.files,
            makes=(f"scorer-{side}/scores.json",),
            ram_bytes=2.0**28,
            disk_bytes=_disk(_items(asked).count, asked.questions.answer_tokens),
            expected_s=toolrates.about(60.0),
            gate=gate_key(gate) if side == "candidate" else "",
        )  # fmt: skip
