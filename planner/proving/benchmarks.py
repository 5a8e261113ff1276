"""Steps that run benchmarks on both sides through lm-eval: public ones, task files of the user's, and retrieval.

A family is proved by a task file of its own, else by the user's items (`planner/proving/answering.py`), else by the
plan's public benchmark where the user asks for it: its data comes from the hub. Retrieval documents are made on
the machine.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from msgspec import Struct

from catalog.public_tasks import PublicTask
from planner.plan import Estimate, Gate, Trial
from planner.proving import opening, toolrates
from planner.proving.answers import Sampling
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
from planner.proving.questions import TaskFile
from planner.proving.steps import OUT, RUN, WORKERS, LeftOut, Step, gate_key, word

HARNESS = "lm-eval"
TASK, LONG = "task:", "long_context"
RULER_TASKS = 13
WITHOUT_TEXT, WITH_TEXT = 6, 11
"""RULER's tasks that are run: the others' haystacks are the user's text, and two ask about articles of the hub."""
MOST_EACH = 500
"""Documents of each retrieval task, as RULER has them."""
CACHE = 2.0**30
"""RAM of lm-eval beside the model (assumed)."""
TEXT = 32.0
"""Bytes of a token in a file of answers (assumed)."""
HARNESS_S = 16.0
"""To load lm-eval's list of tasks (measured on two cores)."""
LETTERS = 3.0
"""Of a token (assumed)."""
SLUG = re.compile(r"[^a-z0-9]+")


class Asking(Struct, frozen=True, kw_only=True):
    """One task that is put to both sides."""

    slug: str
    """Of the steps' names."""
    told: str
    what: tuple[str, ...]
    """Words that name it."""
    needs: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    documents: int
    limit: int = 0
    """Of these, drawn by the seed; 0: every one."""
    repeats: int = 1
    prompt_tokens: float
    answer_tokens: float


def proves(asked: Asked, gate: Gate) -> bool:
    """Whether a benchmark is run for a gate."""
    return not lacking(asked, gate) if _kind(gate) else False


def lacking(asked: Asked, gate: Gate) -> str:
    """Why no benchmark proves a gate; "" where one does."""
    if files_of(asked, gate):
        return ""
    trial = gate.benchmarks[0] if gate.benchmarks else None
    if trial is None or trial.items is None:
        return "items of your own prove it: --task FILE"
    tried = [_unrun(asked, each) for each in gate.benchmarks]
    if "" in tried:
        return ""
    return "; ".join(dict.fromkeys(tried))


def _kind(gate: Gate) -> bool:
    return gate.id == LONG or gate.id.startswith(TASK)


def _unrun(asked: Asked, trial: Trial) -> str:
    """Why one benchmark is not run."""
    wanted, task = asked.questions.benched, known(asked, trial)
    if task is None:
        return f"{trial.name} is none that this version runs"
    if task.because:
        return f"{trial.name} is not run: {task.because}"
    if task.retrieval:
        own = "--retrieval makes its documents on this machine and runs them, --benchmarks too"
        return "" if wanted.retrieval or wanted.public else own
    if wanted.public:
        return ""
    note = f"; {task.note}" if task.note else ""
    return f"--benchmarks runs {trial.name} (lm-eval {task.lm_eval}; its data comes from the hub: {task.data}{note})"


def known(asked: Asked, trial: Trial) -> PublicTask | None:
    """lm-eval's task for a benchmark of the plan."""
    return next((each for each in asked.questions.benched.tasks if each.benchmark == trial.name), None)


def files_of(asked: Asked, gate: Gate) -> tuple[TaskFile, ...]:
    """Task files that count for a gate: of its family; of no family where the plan has but one task's gate."""
    files = asked.questions.benched.files
    if not files or not gate.id.startswith(TASK):
        return ()
    family = gate.id.removeprefix(TASK)
    alone = len(families(asked)) == 1
    return tuple(each for each in files if each.family == family or (not each.family and alone))


def families(asked: Asked) -> tuple[str, ...]:
    """Task families that the plan has a gate for."""
    verification = asked.candidate.verification
    gates = verification.gates if verification is not None else ()
    return tuple(gate.id.removeprefix(TASK) for gate in gates if gate.id.startswith(TASK))


def notes(asked: Asked) -> Iterator[str]:
    """Task files that no gate counts."""
    for each in asked.questions.benched.files:
        if not each.family and len(families(asked)) != 1:
            several = ", ".join(families(asked)) or "none"
            yield f"{each.path} is not run: say which family it is of, as `metadata: {{family: …}}` ({several})"
        elif each.family and each.family not in families(asked):
            yield f"{each.path} is not run: the plan has no gate for {each.family}"


def untested(asked: Asked, gate: Gate) -> Iterator[LeftOut]:
    """Parts of a benchmark that are not run."""
    if not proves(asked, gate) or not any(each.retrieval for each in _tasks(asked, gate)):
        return
    run = _retrieval_tasks(asked)
    yield LeftOut(
        gate=gate_key(gate),
        because="ruler_qa_squad and ruler_qa_hotpot ask about articles of the hub"
        + ("" if run == WITH_TEXT else "; five tasks hide their needles in text of your own: give --text")
        + f": {run} of RULER's {RULER_TASKS} tasks are run",
    )


def _tasks(asked: Asked, gate: Gate) -> list[PublicTask]:
    """The one public task that is run for a gate, if any."""
    if files_of(asked, gate):
        return []
    runnable = (known(asked, each) for each in gate.benchmarks if not _unrun(asked, each))
    return [task for task in runnable if task is not None][:1]


def _retrieval_tasks(asked: Asked) -> int:
    return WITH_TEXT if asked.texts else WITHOUT_TEXT


def steps(asked: Asked, gate: Gate) -> Iterator[Step]:
    """Every step of a gate's benchmarks: data, baseline, candidate; then sampled answers where they are asked for."""
    for made in askings(asked, gate):
        yield from _prepared(asked, gate, made)
        greedy = Sampling(seed=asked.seed)
        yield from _both(asked, gate, made, greedy)
        if asked.questions.sampled is not None:
            yield from _both(asked, gate, made, asked.questions.sampled)


def askings(asked: Asked, gate: Gate) -> list[Asking]:
    """What is put to both sides for a gate."""
    files = [_of_file(asked, each, place) for place, each in enumerate(files_of(asked, gate))]
    return files or [_of_task(asked, gate, each) for each in _tasks(asked, gate)]


def _slug(text: str) -> str:
    return SLUG.sub("-", text.lower()).strip("-")


def _of_file(asked: Asked, file: TaskFile, place: int) -> Asking:
    code = ("--allow-task-code",) if asked.questions.benched.code else ()
    limit = asked.questions.benched.limit
    count = min(file.documents, limit) if limit else file.documents
    return Asking(
        slug=_slug(f"{file.name}-{place}" if place else file.name),
        told=f"your task {file.name}",
        what=("--file", word(file.path), *code, *(("--chat",) if file.chat else ())),
        reads=(file.path, *file.data),
        documents=count,
        limit=limit,
        prompt_tokens=file.letters / LETTERS,
        answer_tokens=file.answer_tokens,
    )


def _of_task(asked: Asked, gate: Gate, task: PublicTask) -> Asking:
    trial = next(each for each in gate.benchmarks if each.name == task.benchmark)
    slug, limit = _slug(task.lm_eval), asked.questions.benched.limit
    items = trial.items or trial.samples
    count = min(trial.samples, items, limit or items)
    if task.retrieval:
        each = min(MOST_EACH, math.ceil(count / _retrieval_tasks(asked)))
        count = each * _retrieval_tasks(asked)
        what = ("--items", f"{RUN}/documents-{slug}/items.json", "--chat")
    else:
        what = ("--task", task.lm_eval, "--chat")
    named = (("--metric", task.metric), ("--filter", task.filter))
    length = ("--answer-tokens", str(task.answer_tokens)) if not task.retrieval else ()
    return Asking(
        slug=slug,
        told=f"{trial.name}, lm-eval {task.lm_eval}",
        what=(*what, *(each for flag, value in named if value for each in (flag, value)), *length),
        needs=(f"documents-{slug}",),
        documents=count,
        limit=0 if task.retrieval else count,
        repeats=max(1, trial.answers // items) if (trial.repeats or 1) > 1 else 1,
        prompt_tokens=_lengths(gate, task)[0],
        answer_tokens=_lengths(gate, task)[1],
    )


def _lengths(gate: Gate, task: PublicTask) -> tuple[float, float]:
    """Tokens of a prompt and of an answer: as long as they may be (assumed)."""
    if task.retrieval:
        return float(gate.context_tokens or 0), 128.0
    return 1000.0, float(max(task.answer_tokens, 512))


def _prepared(asked: Asked, gate: Gate, made: Asking) -> Iterator[Step]:
    """The public data set from the hub, or the documents of the retrieval tasks."""
    if not made.needs:
        return
    (step,) = made.needs
    if "--items" in made.what:
        yield _documents(asked, gate, made, step)
        return
    name = made.what[1]
    data = next(each.data for each in asked.questions.benched.tasks if each.lm_eval == name)
    yield Step(
        id=step,
        does=f"fetch the data of {made.told}: {data}, from the hub (network)",
        proves="which documents are asked, by a hash of all of them",
        tool=HARNESS,
        command=(f"{{python:{HARNESS}}}", f"{WORKERS}/benchmark.py", "fetch", "--task", name, "--out",
                 f"{OUT}/facts.json"),
        env={"CUDA_VISIBLE_DEVICES": ""},
        makes=(f"{step}/facts.json",),
        ram_bytes=CACHE,
        disk_bytes=LEAST_DISK + 2.0**28,
        expected_s=toolrates.about(HARNESS_S + 2.0**28 / asked.network),
    )  # fmt: skip


def _documents(asked: Asked, gate: Gate, made: Asking, step: str) -> Step:
    each, context = made.documents // _retrieval_tasks(asked), gate.context_tokens or 0
    haystack = ("--haystack", *map(word, asked.texts)) if asked.texts else ()
    return Step(
        id=step,
        does=f"{made.documents} documents to retrieve from, {context} tokens each",
        proves="prompts as long as the served context, by the model's own tokenizer",
        tool=HARNESS,
        command=(
            *_model(asked, "retrieval", baseline_path(asked)), "--context", str(context), "--each", str(each),
            "--seed", str(asked.seed), *haystack, "--out", f"{OUT}/items.json",
        ),
        env=asked.env,
        needs=(_source(asked),),
        reads=asked.texts,
        makes=(f"{step}/items.json",),
        ram_bytes=_ram(asked),
        disk_bytes=LEAST_DISK + 8.0 * made.documents * context,
        expected_s=toolrates.about(HARNESS_S + toolrates.START_S + 16.0 * made.documents * context / 1e6),
    )  # fmt: skip


def _source(asked: Asked) -> str:
    return BASELINE if asked.gguf and not asked.is_file else ORIGINAL


def _tool(asked: Asked) -> tuple[str, str]:
    """(environment of the model, name of the backend)."""
    return (LLAMA, "llama.cpp") if asked.gguf else (COMPRESSOR, "transformers")


def _model(asked: Asked, verb: str, path: str) -> tuple[str, ...]:
    """lm-eval in its own environment, the model in another's."""
    tool, backend = _tool(asked)
    return (
        f"{{python:{HARNESS}}}", f"{WORKERS}/benchmark.py", verb, "--speaker", f"{{python:{tool}}}",
        "--script", f"{WORKERS}/speaker.py", "--backend", backend, "--model", path,
    )  # fmt: skip


def _ram(asked: Asked) -> float:
    """As the answers of the user's items, with lm-eval beside them."""
    return WORKING + 2 * CACHE + asked.original_bytes * (1.0 if asked.gguf or asked.gpus else 2.0)


def _both(asked: Asked, gate: Gate, made: Asking, how: Sampling) -> Iterator[Step]:
    sampled = how.temperature > 0
    slug = f"{made.slug}-sampled" if sampled else made.slug
    repeats = max(made.repeats, asked.questions.samples) if sampled else 1
    paths = {"baseline": (baseline_path(asked), _source(asked)), "candidate": opening.scored_path(asked)}
    for side, (path, source) in paths.items():
        before = (f"answers-{slug}-baseline",) if side == "candidate" else ()
        yield Step(
            id=f"answers-{slug}-{side}",
            does=f"{made.told}: {made.documents} documents to the {side}, {how.words}"
            + (f", {repeats} answers each" if repeats > 1 else ""),
            proves="the score of every document, by lm-eval's own functions",
            tool=HARNESS,
            command=(*_model(asked, "run", path), *made.what, *_size(asked, gate, made),
                     *_sampling(how, repeats), "--out", f"{OUT}/answers.json"),
            env=asked.env,
            needs=(source, *made.needs, *before),
            reads=made.reads,
            makes=(f"answers-{slug}-{side}/answers.json",),
            ram_bytes=_ram(asked),
            disk_bytes=LEAST_DISK + TEXT * made.documents * repeats * (made.answer_tokens + made.prompt_tokens),
            gpus=asked.gpus,
            expected_s=_expected(asked, made, repeats),
            gate=gate_key(gate) if side == "candidate" else "",
            text=made.told,
        )  # fmt: skip


def _size(asked: Asked, gate: Gate, made: Asking) -> tuple[str, ...]:
    """How many documents, and how long prompt and answer may be together where the gate says."""
    far = ("--context", str(gate.context_tokens)) if "--items" in made.what else ()
    limit = ("--limit", str(made.limit)) if made.limit else ()
    return (*far, *limit)


def _sampling(how: Sampling, repeats: int) -> tuple[str, ...]:
    words = ["--seed", str(how.seed)]
    if how.temperature > 0:
        words += ["--temperature", f"{how.temperature:g}", "--top-p", f"{how.top_p:g}", "--top-k", str(how.top_k)]
        words += ["--repeats", str(repeats)]
    return tuple(words)


def _expected(asked: Asked, made: Asking, repeats: int) -> Estimate:
    answers = float(made.documents * repeats)
    tokens = (answers * made.prompt_tokens, answers * made.answer_tokens)
    spent = toolrates.answered(asked.params, tokens, _tool(asked)[1], asked.gpus)
    return toolrates.about(HARNESS_S + spent.value)


__all__ = ["askings", "lacking", "notes", "proves", "steps", "untested"]
