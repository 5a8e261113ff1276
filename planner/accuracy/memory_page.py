"""docs/accuracy/memory.md, how accurate memory predictions are: written by `lanewise accuracy memory --page`."""

from __future__ import annotations

from collections.abc import Sequence

from planner.accuracy import memory_board, memory_fit, predict_memory
from planner.accuracy.memory_board import Cell, Key, Score
from planner.accuracy.truth import Prediction

PAGE = """\
# How accurate the memory estimates are

Written by `lanewise accuracy memory --page docs/accuracy/memory.md` from the shipped start-up logs. Errors are
|ln(predicted/measured)|, median / 90th percentile, every row counted once (0.010 is about 1 %). Many rows repeat one
model, so rows overstate the evidence. *Left out* means: the numeric constants were fitted without any row of that model's
shape, or of that device, and then asked for it; formula shapes were chosen with all rows in view, so that is optimistic.
A dash means that every row is of one device. The 80 % interval is the one that `lanewise predict memory` prints, counted
on predictions without the row's model; above 80 % it is wider than these rows need, on purpose where a term has no rows.

{rows} rows, {answered} answered. {excluded} rows are scored here but no constant is fitted to them.

| engine | version | metric | rows | models | answered | in sample | model left out | device left out | in the 80 % interval | bias |
|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|
{table}

`starts` is right or wrong: {right} of {starts} right, {false_yes} rows that did not start were called startable.

## What is refused

{refused}

## Rows that no constant is fitted to

{unfitted}

## What has no rows

Mixtures of experts, latent attention, groups of more than four devices, and versions since 0.20 have no row that prints
their activations, graphs or libraries: their terms come from the engine's code or from 0.19, and their intervals are
marked `assumed` in `catalog/data/engines/vllm.toml`. The scaling with the number of sequences and batched tokens rests
on the code too: every row of 0.19 has 1024 and 8192.

## What the engines' own code says

- Weights per device: vLLM 0.33's model classes, built without memory for 146 models, lanes and layouts, hold the same within
  0.1 % in 16 bits and 0.5 % quantized but for AWQ experts whose slices are no whole number of groups
  (`tests/memory/test_vllm_weights.py`). Checkpoints of llm-compressor weigh the same to the byte (`test_quantized_checkpoints.py`).
- The cache: vLLM 0.33's planner divides it into as many sequences in 72 cases with full, windowed, latent and linear layers
  (`tests/fit/test_vllm_cache_planner.py`); eight starts of a vLLM server on a CPU print our tokens and concurrency
  (`test_vllm_server.py`).
- GGUF: the block format of every tensor in 12 models and 33 types is llama.cpp's own, ten files of two models have our bytes
  (`test_schemas.py`, `test_quantize.py`). Beside llama-fit-params model and cache buffers of 37 starts of 16 models are
  equal, compute buffers within 0.2 % in the median and 17 % at most (`test_offload.py`).
"""  # noqa: E501


def page(lines: Sequence[dict[str, str]]) -> str:
    """The page, in Markdown."""
    inside = predict_memory.memory(lines)
    folds = [memory_board.left_out(lines, group) for group in (memory_fit.geometry, memory_fit.device)]
    boards = [_board(lines, answers) for answers in (inside, *folds)]
    devices = {key: {line["accelerator"] for line in lines if memory_board.key(line) == key} for key in boards[0]}
    scored = memory_board.scores(lines, inside)
    begun = [one for one in scored if one.key[2] == "starts" and one.answer.predicted is not None]
    rows = [_row(boards, key, devices=len(devices[key])) for key in boards[0]]
    return PAGE.format(
        rows=len(lines),
        answered=sum(not one.refused for one in inside),
        excluded=sum(len(entry.ids) for entry in memory_board.excluded()),
        table="\n".join(rows),
        right=sum(one.answer.predicted == one.value for one in begun),
        starts=len(begun),
        false_yes=sum(_false_yes(one) for one in begun),
        refused=_refused(inside),
        unfitted="\n".join(f"- {', '.join(entry.ids)}: {entry.reason}." for entry in memory_board.excluded()),
    )


def _false_yes(one: Score) -> bool:
    return one.value == 0 and one.answer.predicted == 1


def _board(lines: Sequence[dict[str, str]], answers: Sequence[Prediction]) -> dict[Key, Cell]:
    found = memory_board.cells(memory_board.scores(lines, answers))
    return {(cell.engine, cell.version, cell.metric): cell for cell in found}


def _row(boards: Sequence[dict[Key, Cell]], key: Key, *, devices: int) -> str:
    cell, model, device = (board[key] for board in boards)
    parts = [*key, f"{cell.rows}", f"{cell.models}", f"{cell.coverage:.0%}", _error(cell), _error(model)]
    parts.append(_error(device) if devices > 1 else "-")
    parts += [_percent(model.interval_coverage), "-" if cell.bias is None else f"{cell.bias:+.4f}"]
    return f"| {' | '.join(parts)} |"


def _error(cell: Cell) -> str:
    if cell.right is not None:
        return f"{cell.right} right"
    return "-" if cell.median is None or cell.p90 is None else f"{cell.median:.4f} / {cell.p90:.4f}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _refused(answers: Sequence[Prediction]) -> str:
    reasons: dict[str, list[str]] = {}
    for one in answers:
        if one.refused:
            reasons.setdefault(one.refused, []).append(one.id)
    return "\n".join(f"- {reason}: {', '.join(ids)}." for reason, ids in reasons.items()) or "Nothing."
