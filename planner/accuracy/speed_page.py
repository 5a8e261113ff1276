"""The accuracy page of a fit: what it explains, how well it predicts what it has not seen, and what it cannot."""

from __future__ import annotations

import math

import numpy as np

from planner.accuracy import speed_order
from planner.accuracy.speed_board import weighted
from planner.accuracy.speed_fit import HELD_OUT, Refit
from planner.trace import Array

PAGE = """\
# How accurate the speed estimates are

Written together with the parameter file; `lanewise accuracy speed` prints the in-sample part. Errors are |ln(predicted/measured)|,
median / 90th percentile, every group of rows counted once (0.10 is about 10 %). *Left out* means: the whole fit was
repeated without that accelerator, model, architecture family or lab, and then asked for it. The 80 % interval is the band
shipped with the parameters; its share of rows is counted on predictions without the row's accelerator, then without its model.

{rows} rows in {groups} groups were fitted with {free} numbers (of which {globals} global); {excluded} rows are excluded
from the fit but scored here, for reasons listed in the parameter file.

| engine | load | metric | rows | groups | in sample | {outs} | in the 80 % interval | of unseen models | bias |
|---|---|---|---:|---:|---:|{rules}---:|---:|---:|
{table}

![Predicted against measured, one point per group of rows](speed-measured.svg)

![Errors by accelerator, lane, prompt length and users](speed-residuals.svg)

## In the measured order

Pairs of rows that differ in one choice alone and whose measured values differ by more than 8 %: how many are predicted in
the measured order. Rows of one setting are averaged first.

| choice | engine | pairs | in sample | accelerator left out |
|---|---|---:|---:|---:|
{orders}

Qwen3-8B with all requests queued (GPUStack, vLLM 0.9.2): throughput against BF16 on the same device.

| accelerator | lane | measured | predicted | accelerator left out |
|---|---|---:|---:|---:|
{signs}

## What these formulas do not explain

Seen in the residuals of the shipped measurements, written by hand:

- vLLM 0.12.0 rows of FP8 models with prompts of 1000 tokens and more and 16 to 144 users (AIC-02625 and following): time
  per token 2 to 3 times shorter than predicted; with 64 users and 2000-token prompts on one H200 (AIC-02628) the prompts
  and answers together would need more than the dense FP8 peak. Reused prefixes are likely, not verified. They make the
  90th percentile of vLLM's closed-loop TPOT.
- One lab's H100 (GPUStack) is 1.3 to 1.5 times slower than the same engine elsewhere wherever arithmetic binds, and its
  A100 is faster, with vLLM, SGLang and TensorRT-LLM alike: a machine, not an engine. No column tells them apart.
- First-token times of queued benchmarks depend on how the harness sends its requests, which the tables do not say.
- Mixture-of-experts kernels of 2025 differ by an order of magnitude between engines and formats (`expert_cost`);
  an engine generation without rows takes the mean and a wider interval.
- llama.cpp: a 70B Q4_K_M model gains nothing from four devices over one or two when it reads a prompt, while eight
  devices, F16 and smaller models do (XD-00147, 00171, 00507, 00603, 00667); the formula gives all of them the pipeline.

In the shipped measurements, repeats of one differ by 1.08x (median) and 1.49x (90th percentile): no prediction keyed on these columns
can be better than that.
"""  # noqa: E501


def page(found: Refit) -> str:
    """The accuracy page of a fit, in Markdown."""
    fitted = found.parameters
    free = [row for row in fitted.parameter if row.sd_ln > 0 and not row.of.endswith("=*")]
    places: dict[tuple[str, str, str], list[int]] = {}
    for place, one in enumerate(found.table.rows):
        places.setdefault((one.row.engine, one.row.load, one.row.metric), []).append(place)
    return PAGE.format(
        rows=fitted.rows,
        groups=fitted.groups,
        free=len(free),
        globals=sum(not row.of for row in free),
        excluded=sum(len(entry.ids) for entry in fitted.excluded),
        outs=" | ".join(f"{kind} left out" for kind in HELD_OUT),
        rules="---:|" * len(HELD_OUT),
        table="\n".join(_page_row(key, np.array(places[key]), found) for key in sorted(places)),
        orders="\n".join(_orders(found)),
        signs="\n".join(_signs(found)),
    )


def _page_row(key: tuple[str, str, str], places: Array, found: Refit) -> str:
    at = places.astype(int)
    measured, weights = found.table.measured.log[at], found.table.measured.weight[at]
    groups = len({found.table.groups[place] for place in at})

    def error(log: Array) -> str:
        size = np.abs(log[at] - measured)
        return f"{weighted(size, weights, 0.5):.3f} / {weighted(size, weights, 0.9):.2f}"

    low, high = found.parameters.band(*key)

    def inside(log: Array) -> str:
        apart = measured - log[at]
        return f"{float(weights[(apart >= math.log(low)) & (apart <= math.log(high))].sum() / weights.sum()):.0%}"

    shares = " | ".join(inside(found.left_out[kind]) for kind in ("accelerator", "model"))
    bias = weighted(found.inside[at] - measured, weights, 0.5)
    outs = " | ".join(error(found.left_out[kind]) for kind in HELD_OUT)
    return f"| {' | '.join(key)} | {len(at)} | {groups} | {error(found.inside)} | {outs} | {shares} | {bias:+.3f} |"


def _orders(found: Refit) -> list[str]:
    rows, measured = [one.row for one in found.table.rows], found.table.measured.log
    inside, unseen = (speed_order.orders(rows, measured, log) for log in (found.inside, found.left_out["accelerator"]))
    return [
        f"| {one.choice} | {one.engine or 'all'} | {one.pairs} | {one.share:.1%} | {other.share:.1%} |"
        for one, other in zip(inside, unseen, strict=True)
    ]


def _signs(found: Refit) -> list[str]:
    rows, measured = [one.row for one in found.table.rows], found.table.measured.log
    inside, unseen = (speed_order.signs(rows, measured, log) for log in (found.inside, found.left_out["accelerator"]))
    return [
        f"| {one.accelerator} | {one.lane} | {one.measured:.2f} | {_checked(one)} | {_checked(other)} |"
        for one, other in zip(inside, unseen, strict=True)
    ]


def _checked(one: speed_order.Sign) -> str:
    return f"{one.predicted:.2f}{'' if one.right else ' (wrong side)'}"
