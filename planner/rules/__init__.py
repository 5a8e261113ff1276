"""The rules, by the stage at which a plan asks them. Adding a rule: a function in its family's file, its name here."""

from __future__ import annotations

from typing import Any

from catalog.errors import BadInput
from planner.request import Request
from planner.rules import cost, hardware, latency, quality
from planner.rules.rule import Cached, Measured, Pairing, Placed, Rule, Running

PAIRING: tuple[Rule[Pairing], ...] = (
    quality.nf4_is_for_fine_tuning,
    hardware.unplanned_layout,
    hardware.no_kernel,
    hardware.memory_unknown,
    hardware.no_compute_rate,
    hardware.beyond_the_models_context,
    hardware.no_sixteen_bit_original,
    quality.tiny_models_stay_16_bit,
    quality.small_models_lose_at_four_bits,
    quality.hard_generation_needs_eight_bits,
    hardware.nothing_to_quantize_from,
    hardware.unconfirmed_facts,
    hardware.kernel_note,
    latency.llama_cpp_under_load,
    cost.no_price,
    cost.unconfirmed_price,
    cost.stale_price,
)
"""A lane on an engine on a device."""
CACHED: tuple[Rule[Cached], ...] = (
    hardware.no_such_cache,
    quality.sinks_need_a_full_cache,
    quality.loses_too_much,
    quality.long_documents_need_proof,
    quality.few_sources,
    quality.proxy_families,
)
"""With a cache format."""
PLACED: tuple[Rule[Placed], ...] = (
    hardware.heads_do_not_divide,
    hardware.groups_do_not_divide,
    hardware.tensor_parallel_leaves_the_node,
    hardware.too_few_layers,
)
"""On a layout of devices."""
MEASURED: tuple[Rule[Measured], ...] = (
    hardware.cannot_start,
    hardware.longest_context_does_not_fit,
    latency.misses_the_objective,
    latency.too_few_devices,
    cost.over_budget,
)
"""With the numbers of the whole candidate; the array pass asks the same questions of thousands at once."""

RUNNING: tuple[Rule[Running], ...] = (latency.fewer_bits_no_longer_help,)
"""Of what is shown, at its planned load."""

EARLY: tuple[Rule[Any], ...] = (*PAIRING, *CACHED)
"""Asked before anything is estimated."""
RULES: tuple[Rule[Any], ...] = (*EARLY, *PLACED, *MEASURED, *RUNNING)
BY_CODE = {rule.code: rule for rule in RULES}
WAIVABLE = frozenset(
    rule.code
    for rule in EARLY
    if rule.code[0] in "QL" and rule.effect in ("refuse", "prefer") and rule is not quality.nf4_is_for_fine_tuning
)
"""Judgements of quality and preference. What an engine, a device or an objective rules out stays ruled out."""


def waived(request: Request) -> frozenset[str]:
    """The rules that the request waives. Raises BadInput for one that does not exist or is no judgement."""
    codes = request.overrides.waive if request.overrides else ()
    for index, code in enumerate(codes):
        if code not in WAIVABLE:
            why = "states a fact, not a judgement" if code in BY_CODE else "does not exist"
            choices = ", ".join(sorted(WAIVABLE))
            raise BadInput(f"rule {code!r} {why}; rules to waive are {choices}", f"$.overrides.waive[{index}]")
    return frozenset(codes)


__all__ = ["BY_CODE", "CACHED", "MEASURED", "PAIRING", "PLACED", "RULES", "RUNNING", "WAIVABLE", "Rule", "waived"]
