"""Steps that measure gates, and the gates that this version does not measure, with the reason.

Statistics of tokens are measured: the baseline's log-probabilities are recorded once per text and context, the
candidate's are compared with them. What needs answers is asked by `planner/proving/answering.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath

from planner.making import ASKED
from planner.plan import Estimate, Gate, Text
from planner.proof import OWN_TEXT
from planner.proving import answering, benchmarks, cache_gate, opening, toolrates
from planner.proving.asked import Asked, named
from planner.proving.preparing import (
    BASELINE,
    COMPRESSOR,
    LLAMA,
    ORIGINAL,
    WORKING,
    baseline_path,
    candidate_is_original,
    made_here,
)  # fmt: skip
from planner.proving.steps import OUT, RUN, WORKERS, LeftOut, Step, gate_key
from planner.spread import between

LOG_BYTES = 4.0
"""Per token of the vocabulary and scored place, as float32."""
SCORED_SHARE = 0.5
"""The first half of a window is context alone, as in llama-perplexity."""
SAME_ANSWERS = "answers are read with a 16-bit cache, and the weights are the original's"


def scoring(asked: Asked) -> tuple[list[Step], dict[str, str], list[LeftOut]]:
    """Steps in the plan's order, gate -> the gate whose run measures it, and what is left out."""
    steps: list[Step] = []
    measures: dict[str, str] = {}
    out: list[LeftOut] = []
    for gate in _gates(asked):
        because = unmeasured(asked, gate)
        if because:
            out.append(LeftOut(gate=gate_key(gate), because=because))
        else:
            measures[gate_key(gate)] = (
                answering.run_of(asked, gate) if _answered(gate) else gate.shares or gate_key(gate)
            )
    runs = [gate for gate in _gates(asked) if measures.get(gate_key(gate)) == gate_key(gate)]
    for gate in runs:
        steps += answering.steps(asked, gate) if _answered(gate) else _run_of(asked, gate)
        out += [*_untested_texts(asked, gate, measures), *benchmarks.untested(asked, gate)]
    return steps, measures, out


def _gates(asked: Asked) -> tuple[Gate, ...]:
    return asked.candidate.verification.gates if asked.candidate.verification is not None else ()


def unmeasured(asked: Asked, gate: Gate) -> str:
    """Why this version does not measure a gate; "" where it does."""
    because = answering.lacking(asked, gate) if _answered(gate) else ""
    if because:
        return because
    if cache_gate.is_of_cache(gate):
        return _unread_weights(asked) or _never(cache_gate.unread(asked))
    if not asked.has_baseline:
        return "its baseline is the 16-bit model that this one was quantized from: name it with --original"
    if candidate_is_original(asked) and not asked.candidate.recipe.online:
        return _never(SAME_ANSWERS if _answered(gate) else cache_gate.unread(asked))
    return _unread_weights(asked)


def _never(because: str) -> str:
    return f"not measured by this version: {because}" if because else ""


def _unread_weights(asked: Asked) -> str:
    """Why no file of the candidate can be scored."""
    if asked.candidate.recipe.online:
        return "not measured by this version: the engine quantizes while it loads, so no file is scored (--recipe)"
    unread = opening.unreadable(asked)
    return f"not measured by this version: its scorer opens {opening.OPENED}, not {unread}" if unread else ""


def _answered(gate: Gate) -> bool:
    """Whether answers settle a gate, and not log-probabilities."""
    return gate.id.partition(":")[0] in answering.KINDS


def notes(asked: Asked) -> Iterator[str]:
    """What the numbers do not contain, and what cannot be done here."""
    candidate = asked.candidate
    make = candidate.make
    if make is not None and make.because == ASKED:
        yield f"made here by the recipe {candidate.recipe.name}, which was {ASKED}: the plan's own may be another"
    yield from filter(None, (cache_gate.note(asked), opening.note(asked)))
    for name in dict.fromkeys(text.name for gate in _gates(asked) for text in gate.texts if text.name != OWN_TEXT):
        if asked.neutral:
            given = ", ".join(PurePath(path).name for path in asked.neutral)
            yield f"what gates call {name} is the text of --neutral ({given}): nobody checked that it is the same"
    if candidate.verification is not None:
        yield from answering.notes(asked)
    if candidate.lane == "nvfp4" and not asked.gpus:
        yield "vLLM has no NVFP4 kernel for a CPU: the checkpoint is made and scored through transformers, never served"
    if make is not None and made_here(asked) and make.calibration is None and "gptq" in make.algorithm.lower():
        yield f"{make.scheme} is made by rounding to nearest: the plan asks for no calibration text"


def _run_of(asked: Asked, gate: Gate) -> Iterator[Step]:
    """Tokens, baseline, candidate: for every text that there is."""
    texts = [(text, _slug(text)) for text in gate.texts if _files(asked, text)]
    share = 1.0 / sum(text.windows for text, _ in texts) if texts else 0.0
    for text, slug in texts:
        name = f"{slug}-{gate.context_tokens}"
        name = f"cache-{name}" if cache_gate.is_of_cache(gate) else name
        yield _tokens(asked, gate, text, name)
        yield _record(asked, gate, text, (name, share))
        yield _compare(asked, gate, text, (name, share))


def _sides(asked: Asked, gate: Gate) -> tuple[tuple[str, str], tuple[str, str]]:
    """(path, the step that makes it) of the side that is held against, and of the candidate."""
    first = (baseline_path(asked), _source(asked))
    own = first if candidate_is_original(asked) else opening.scored_path(asked)
    return (own if cache_gate.is_of_cache(gate) else first), own


def _slug(text: Text) -> str:
    return "own" if text.name == OWN_TEXT else "neutral"


def _files(asked: Asked, text: Text) -> tuple[str, ...]:
    """The user's text always, even while it is not named; the neutral one where it is."""
    if text.name == OWN_TEXT:
        return named(asked.texts, "{text}")
    return named(asked.neutral, "") if asked.neutral else ()


def _untested_texts(asked: Asked, gate: Gate, measures: dict[str, str]) -> Iterator[LeftOut]:
    for text in gate.texts:
        if not _files(asked, text):
            for name in (name for name, run in measures.items() if run == gate_key(gate)):
                yield LeftOut(gate=name, because=f"on {text.name}: give that text with --neutral")


def _tool(asked: Asked) -> tuple[str, str]:
    """(environment, the scorer's name of the backend)."""
    return (LLAMA, "llama.cpp") if asked.gguf else (COMPRESSOR, "transformers")


def _scorer(asked: Asked, verb: str) -> tuple[str, ...]:
    tool, backend = _tool(asked)
    given = () if verb == "tokens" else ("--backend", backend)
    return (f"{{python:{tool}}}", f"{WORKERS}/score.py", verb, *given)


def _tokens(asked: Asked, gate: Gate, text: Text, name: str) -> Step:
    context, files = gate.context_tokens or 0, _files(asked, text)
    (tokenizer, source), _ = _sides(asked, gate)
    return Step(
        id=f"tokens-{name}",
        does=f"{text.windows} windows of {context} tokens of {text.name}",
        proves="both sides get the same token ids",
        tool=_tool(asked)[0],
        command=(
            *_scorer(asked, "tokens"), "--tokenizer", tokenizer, "--text", *files, "--context", str(context),
            "--windows", str(text.windows), "--seed", str(asked.seed), "--out", f"{OUT}/tokens.json",
        ),
        env=asked.env,
        needs=(source,),
        reads=asked.texts if text.name == OWN_TEXT else asked.neutral,
        makes=(f"tokens-{name}/tokens.json",),
        ram_bytes=WORKING,
        disk_bytes=16.0 * text.windows * context,
        expected_s=toolrates.tokenized(float(text.windows * context)),
    )  # fmt: skip


def _source(asked: Asked) -> str:
    return BASELINE if asked.gguf and not asked.is_file else ORIGINAL


def _record(asked: Asked, gate: Gate, text: Text, place: tuple[str, float]) -> Step:
    """The baseline's log-probabilities: large, kept for every later candidate."""
    name, share = place
    context = gate.context_tokens or 0
    stored = LOG_BYTES * text.windows * context * SCORED_SHARE * asked.model.vocab
    (path, source), _ = _sides(asked, gate)
    own = cache_gate.is_of_cache(gate)
    return Step(
        id=f"baseline-{name}",
        does=f"log-probabilities of the {gate.compares[1] if own else 'baseline'} on {text.name}, {context} tokens",
        proves="what the same weights say with whole keys and values" if own else "what the unquantized model says",
        tool=_tool(asked)[0],
        command=(
            *_scorer(asked, "record"), "--model", path, *(cache_gate.full(asked) if own else ()),
            "--tokens", f"{RUN}/tokens-{name}/tokens.json", "--out", f"{OUT}/base",
        ),
        env=asked.env,
        needs=(source, f"tokens-{name}"),
        makes=(f"baseline-{name}/base",),
        ram_bytes=_ram(asked, context, asked.original_bytes),
        disk_bytes=stored,
        gpus=asked.gpus,
        expected_s=_expected(asked, gate, text, share),
    )  # fmt: skip


def _compare(asked: Asked, gate: Gate, text: Text, place: tuple[str, float]) -> Step:
    name, share = place
    _, (path, source) = _sides(asked, gate)
    return Step(
        id=f"compare-{name}",
        does=f"the candidate against it on {text.name}, {gate.context_tokens} tokens",
        proves="KL divergence, agreement, perplexity and changed probabilities per token",
        tool=_tool(asked)[0],
        command=(
            *_scorer(asked, "compare"), "--model", path, *cache_gate.served(asked),
            "--tokens", f"{RUN}/tokens-{name}/tokens.json", "--against", f"{RUN}/baseline-{name}/base",
            "--out", f"{OUT}/stats.npz",
        ),
        env=asked.env,
        needs=(source, f"tokens-{name}", f"baseline-{name}"),
        makes=(f"compare-{name}/stats.npz",),
        ram_bytes=_ram(asked, gate.context_tokens or 0, asked.original_bytes),
        disk_bytes=64.0 * text.windows * (gate.context_tokens or 0),
        gpus=asked.gpus,
        expected_s=_expected(asked, gate, text, share),
        gate=gate_key(gate),
        text=text.name,
    )  # fmt: skip


def _ram(asked: Asked, context: int, weights: float) -> float:
    """Weights, in 32 bits where transformers computes on a CPU (assumed), and three windows of logits."""
    wide = 2.0 if not asked.gguf and not asked.gpus else 1.0
    return WORKING + wide * weights + 3 * LOG_BYTES * context * asked.model.vocab


def _expected(asked: Asked, gate: Gate, text: Text, share: float) -> Estimate:
    """One side: the trial's rates on a CPU, half of the plan's own time on the planned devices."""
    if not asked.gpus:
        return toolrates.scored(asked.params, float(text.windows * (gate.context_tokens or 0)), _tool(asked)[1])
    part, plan = text.windows * share / 2, gate.expected_s
    start = toolrates.about(toolrates.START_S)
    ends = (part * plan.low + start.low, part * plan.value + start.value, part * plan.high + start.high)
    return between(*ends, "assumed", "s")
