"""The rules, by the stage at which a plan asks them. Adding a rule: a function in its family's file, its name here."""

from __future__ import annotations

from typing import Any

from catalog.errors import BadInput
from planner.request import Request
from planner.rules import (
    caches,
    checkpoints,
    cost,
    drafts,
    hardware,
    latency,
    layout,
    machine,
    proof,
    quality,
    recipes,
    simulated,
    sockets,
)
from planner.rules.rule import Cached, Measured, Pairing, Placed, Rule, Shown

PAIRING: tuple[Rule[Pairing], ...] = (
    quality.nf4_is_for_fine_tuning,
    hardware.unplanned_layout,
    machine.waits_for_a_reset,
    machine.not_compiled_for_the_device,
    machine.driver_too_old,
    hardware.no_kernel,
    sockets.not_read_on_cpus,
    sockets.another_host_than_was_read,
    drafts.nothing_drafts_here,
    hardware.memory_unknown,
    hardware.no_compute_rate,
    hardware.beyond_the_models_context,
    hardware.no_sixteen_bit_original,
    machine.disk_too_small,
    proof.tiny_models_stay_16_bit,
    proof.small_models_lose_at_four_bits,
    proof.hard_generation_needs_proof,
    proof.fp4_needs_a_large_model,
    proof.under_three_bits,
    proof.other_languages_need_proof,
    recipes.adapters_over_fixed_ranges,
    hardware.nothing_to_quantize_from,
    hardware.unconfirmed_facts,
    hardware.kernel_note,
    machine.another_image_for_the_driver,
    quality.nvfp4_before_mxfp4,
    latency.llama_cpp_under_load,
    sockets.llama_cpp_before_assumed_speed,
    latency.where_llama_cpp_is_the_engine,
)
"""A lane on an engine on a device, whatever it costs: pairings that differ in price alone are asked once."""
ANYWHERE: tuple[Rule[Pairing], ...] = (
    quality.nf4_is_for_fine_tuning,
    hardware.unplanned_layout,
    drafts.nothing_drafts_here,
    hardware.beyond_the_models_context,
    hardware.no_sixteen_bit_original,
    proof.tiny_models_stay_16_bit,
    proof.small_models_lose_at_four_bits,
    proof.hard_generation_needs_proof,
    proof.fp4_needs_a_large_model,
    proof.under_three_bits,
    proof.other_languages_need_proof,
    recipes.adapters_over_fixed_ranges,
    hardware.nothing_to_quantize_from,
    quality.nvfp4_before_mxfp4,
)
"""Those of them that see nothing of the device: they say the same of a lane, made one way for one engine, on all."""
PROBED: tuple[Rule[Pairing], ...] = (
    machine.waits_for_a_reset,
    machine.driver_too_old,
    machine.disk_too_small,
    machine.another_image_for_the_driver,
    sockets.another_host_than_was_read,
)
"""Those of them that speak of probed machines alone."""
PRICED: tuple[Rule[Pairing], ...] = (
    cost.no_price,
    cost.stale_price,
)
"""What is said of the device's price, the same for every lane and engine; refuses nothing."""
CACHED: tuple[Rule[Cached], ...] = (
    hardware.no_such_cache,
    caches.sinks_need_a_full_cache,
    caches.four_bit_caches,
    quality.loses_too_much,
    proof.long_documents_need_proof,
    quality.few_sources,
    quality.proxy_families,
    caches.cache_scales_are_one,
)
"""With a cache format: of lane, engine, format and losses; of the device nothing but how the engine has the format."""
PLACED: tuple[Rule[Placed], ...] = (
    layout.slices_do_not_talk,
    layout.ranks_leave_the_node,
    layout.heads_do_not_divide,
    layout.groups_do_not_divide,
    layout.sizes_do_not_divide,
    layout.tensor_parallel_leaves_the_node,
    layout.experts_do_not_divide,
    sockets.a_replica_is_one_socket,
    drafts.drafts_do_not_cross_stages,
    drafts.drafts_do_not_cross_ranks,
)
"""On a layout of devices."""
RANKED = (layout.ranks_leave_the_node, layout.experts_do_not_divide, drafts.drafts_do_not_cross_ranks)
"""Those of them that speak of data-parallel attention alone."""
UNRANKED = tuple(each for each in PLACED if each not in RANKED)
"""The others: all that a search need ask of a layout of one rank."""
MEASURED: tuple[Rule[Measured], ...] = (
    hardware.cannot_start,
    hardware.longest_context_does_not_fit,
    latency.misses_the_objective,
    latency.too_few_devices,
    cost.over_budget,
)
"""With the numbers of the whole candidate; the array pass asks the same questions of thousands at once."""

SHOWN: tuple[Rule[Shown], ...] = (
    latency.fewer_bits_no_longer_help,
    latency.gain_over_sixteen_bits,
    latency.speculative_decoding,
    drafts.drafts_help,
    drafts.drafts_slow_down,
    latency.common_prefix_is_cached,
    latency.quantized_at_every_start,
    latency.added_replicas_take_time,
    latency.spares_are_paid,
    simulated.simulation_misses_the_objective,
    simulated.simulation_speaks,
    hardware.little_room,
    layout.key_value_heads_are_repeated,
    layout.tensor_parallel_over_pcie,
    machine.memory_errors,
    machine.power_is_capped,
    machine.others_hold_memory,
    machine.memory_is_shared_with_the_system,
    machine.another_version_is_installed,
    machine.host_memory_too_small_to_quantize,
    checkpoints.never_opened,
    checkpoints.licence_to_accept,
    checkpoints.publisher_without_a_record,
    checkpoints.must_be_brought_along,
    checkpoints.revision_cannot_be_pinned,
    quality.eight_bits_first,
    quality.low_bits_need_an_importance_matrix,
    quality.other_languages_are_pooled,
    quality.larger_in_four_bits,
    recipes.published_checkpoint_is_reused,
    recipes.published_checkpoint_loses_too_much,
    recipes.what_would_prove_it,
    recipes.calibrate_on_your_own_text,
    recipes.calibrated_in_another_language,
    recipes.keep_the_original,
    recipes.retune_the_temperature,
    recipes.group_size,
    recipes.adapters_need_their_own_proof,
    recipes.merge_then_quantize,
    cost.spot_may_be_taken_away,
    cost.peak_is_paid_all_day,
    cost.sixteen_bits_on_fp8_hardware,
)
"""Of what is shown, at its planned load."""

EARLY: tuple[Rule[Any], ...] = (*PAIRING, *PRICED, *CACHED)
"""Asked before anything is estimated."""
RULES: tuple[Rule[Any], ...] = (*EARLY, *PLACED, *MEASURED, *SHOWN)
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


__all__ = [
    "ANYWHERE",
    "BY_CODE",
    "CACHED",
    "MEASURED",
    "PAIRING",
    "PLACED",
    "PRICED",
    "PROBED",
    "RULES",
    "SHOWN",
    "UNRANKED",
    "WAIVABLE",
    "Rule",
    "waived",
]
