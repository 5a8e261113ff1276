"""The accuracy page of a fit: what it explains, and how well it predicts what it has not seen."""

from __future__ import annotations

import math

import numpy as np

from planner.accuracy.speed_board import weighted
from planner.accuracy.speed_fit import Refit
from planner.trace import Array

PAGE = """\
# How accurate the speed estimates are

Written together with the parameter file; `lanewise accuracy speed` prints the in-sample part. Errors are |ln(predicted/measured)|,
median / 90th percentile, every group of rows counted once (0.10 is about 10 %). *Left out* means: the whole fit was
repeated without that accelerator, model or architecture family, and then asked for it. The 80 % interval is the band
shipped with the parameters; its share of rows is counted on predictions without the row's accelerator.

{rows} rows in {groups} groups were fitted with {free} numbers (of which {globals} global); {excluded} rows are excluded
from the fit but scored here, for reasons listed in the parameter file.

| engine | load | metric | rows | groups | in sample | accelerator left out | model left out | architecture left out | in the 80 % interval | bias |
|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|
{table}

What these formulas do not explain, seen in the residuals of the shipped measurements (written by hand):

- vLLM 0.12.0 rows of FP8 models with prompts of 1000 tokens and more and 16 to 144 users (AIC-02625 and following): time
  per token 2 to 3 times shorter than predicted, shorter than the prompts of the other users leave room for; reused
  prefixes are likely, not verified. They make the 90th percentile of vLLM's closed-loop TPOT.
- First-token times of queued benchmarks depend on how the harness sends its requests, which the tables do not say.
- Mixture-of-experts kernels of 2025 differ by an order of magnitude between engines and formats (`expert_cost`);
  an engine generation without rows takes the mean and a wider interval.
- Qwen3-8B on one A100 under vLLM 0.9.2 (GSQ-00016..00036) is 20 to 40 % faster than predicted in every lane.
- llama.cpp on AMD: backend, build and BLAS library matter more than the device; left out, nothing predicts them.

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
        table="\n".join(_page_row(key, np.array(places[key]), found) for key in sorted(places)),
    )


def _page_row(key: tuple[str, str, str], places: Array, found: Refit) -> str:
    at = places.astype(int)
    measured, weights = found.table.measured.log[at], found.table.measured.weight[at]
    groups = len({found.table.groups[place] for place in at})

    def error(log: Array) -> str:
        size = np.abs(log[at] - measured)
        return f"{weighted(size, weights, 0.5):.3f} / {weighted(size, weights, 0.9):.2f}"

    low, high = found.parameters.band(*key)
    apart = measured - found.left_out["accelerator"][at]
    inside = float(weights[(apart >= math.log(low)) & (apart <= math.log(high))].sum() / weights.sum())
    bias = weighted(found.inside[at] - measured, weights, 0.5)
    outs = " | ".join(error(found.left_out[kind]) for kind in ("accelerator", "model", "architecture"))
    return f"| {' | '.join(key)} | {len(at)} | {groups} | {error(found.inside)} | {outs} | {inside:.0%} | {bias:+.3f} |"
