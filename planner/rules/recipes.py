"""Q rules about making a lane and about adapters: calibration, groups, merging, what to prove afterwards."""

from __future__ import annotations

from planner.quality import worst
from planner.rules.proof import tolerates
from planner.rules.quality import four_bit
from planner.rules.rule import Pairing, Says, Shown, rule
from planner.wording import duration

CALIBRATED = ("awq", "gptq", "autoround", "smoothquant", "fp8-static", "nvfp4")
"""Recipes whose result depends on the text they were calibrated on."""
STATIC = ("fp8-static", "nvfp4")
"""Recipes that fix the range of activations beforehand."""
NOTICEABLE = 0.1
"""Points of loss below which another recipe is not worth a word."""
SAMPLES, LENGTH = 512, 2048
"""Sequences and tokens each (llm-compressor 0.14 oneshot: num_calibration_samples=512; 2048 in its examples)."""
TEXT = f"{SAMPLES} samples of {LENGTH:,} tokens"
TAKES = {
    "AWQ": f"{TEXT}, 10 minutes for 8B",
    "GPTQ": f"{TEXT}, 23-30 minutes for 8B",
    "AutoRound": f"{TEXT}, 200 steps a layer",
    "QAT": "a training run",
}
"""What a recipe costs (derekl35 for AWQ and GPTQ; llm-compressor 0.14's default steps for AutoRound)."""
FOREIGN = 0.2
"""Share of other languages at which foreign calibration is worth a warning (assumed)."""


@rule("Q104", "note")
def published_checkpoint_is_reused(case: Shown) -> Says | None:
    """Notes that a published checkpoint within the tolerance is taken instead of quantizing anew, and what a better recipe would win back.

    Why: the plan's tolerance is met by what exists, and published recipes were evaluated by their makers. What another
    recipe is expected to lose comes from the same law of losses; group sizes have no measured slope there. Training
    with quantization wins most and is a training run.
    Articles: A3, rule 3: an existing GPTQ artefact and 2 % tolerated: ship it. Applied to every published lane; "a day
    of compute" is 23-30 minutes for 8B (derekl35).
    Source: the catalogue's checkpoints; the law of losses; quality evidence rules R8 and R9, S2-7 (minutes).
    Fires: --model meta-llama/Llama-3.1-70B-Instruct --on a100-sxm4-80:2 --qps 0.3 --lanes gptq-int4,w4a16 --max-loss 5
    Silent: --model meta-llama/Llama-3.1-70B-Instruct --on a100-sxm4-80:2 --qps 0.3 --lanes bf16
    """
    pairing = case.pairing
    artifact = pairing.artifact
    if artifact is None or artifact.repo == pairing.model.id or pairing.lane.family in ("16-bit", "gguf"):
        return None
    now = worst(pairing.losses.values()).value if pairing.losses else 0.0
    better = {name: loss.value for name, loss in pairing.remade.items() if now - loss.value >= NOTICEABLE}
    return Says(
        because=f"{artifact.repo} exists and is expected to lose {now:.1f} %: {_gains(better, now)}",
        facts={
            "repo": artifact.repo,
            "recipe": pairing.method.recipe.name,
            "loss_pct": now,
            "remade_loss_pct": {name: round(loss, 3) for name, loss in better.items()},
            "samples": SAMPLES,
            "tokens": SAMPLES * LENGTH,
        },
        source=artifact.source,
    )


def _gains(better: dict[str, float], now: float) -> str:
    """What quantizing anew would buy, and what it takes."""
    if not better:
        return f"no recipe of ours is expected to lose {NOTICEABLE:g} points less"
    return "; ".join(
        f"{name} would win back {now - loss:.1f} points ({TAKES.get(name, TEXT)})" for name, loss in better.items()
    )


@rule("Q106", "note")
def published_checkpoint_loses_too_much(case: Shown) -> Says | None:
    """Notes that a published checkpoint was passed over because it is expected to lose more than is tolerated, and what is made instead.

    Why: work is worth its while where it decides: the same lane, made by a better recipe, stays within the tolerance.
    Articles: A3, rule 3 ships an existing artefact where its loss is tolerated; this is the other half.
    Source: the law of losses: recipes of one lane differ (Llama-2-70B, eleven tasks by one source: rounded 99.6 %, GPTQ 100.2 %, AutoRound 100.4 %: Q0781, Q0783, Q0791).
    Fires: --model meta-llama/Llama-3.1-8B-Instruct --on a100-sxm4-80 --qps 1 --lanes w4a16 --max-loss 3.5
    Silent: --model meta-llama/Llama-3.1-8B-Instruct --on a100-sxm4-80 --qps 1 --lanes w4a16 --max-loss 5
    """
    pairing = case.pairing
    if pairing.passed_over is None:
        return None
    repo, made = pairing.passed_over.repo, pairing.method.recipe.algorithm
    loss = worst(pairing.losses.values()).value if pairing.losses else 0.0
    how = "while it loads" if pairing.method.recipe.online else TAKES.get(made, TEXT)
    instead = (
        f"{made} loses {loss:.1f} % ({how})"
        if pairing.artifact is None
        else f"{pairing.artifact.repo} loses {loss:.1f} %"
    )
    return Says(
        because=f"{repo} is expected to lose more than is tolerated; {instead}",
        facts={"repo": repo, "recipe": pairing.method.recipe.name, "loss_pct": loss},
        source=pairing.passed_over.source,
    )


@rule("Q105", "note")
def what_would_prove_it(case: Shown) -> Says | None:
    """Notes how many gates would settle whether the quality holds for this mix, in what time, and on which tests.

    Why: perplexity and MMLU hide what long generation loses, GSM8K no longer moves above 3B, and a benchmark of a few
    hundred questions cannot resolve two points: compare paired answers, 1,240 or more for two points at 80 % power.
    Articles: A2 gates on perplexity +0.3 (5 %) and 2 % on MMLU, C-Eval, HumanEval; A3 on GSM8K instead of MMLU. 0.3 is
    4.8 % at 6.2 and 7 % at 4.2; 2 % is below a standard error of HumanEval (3-3.7 points); GSM8K does not see what MATH
    level 5 sees at 8B (100.1 against 94.3 %). 1,240 paired items settle two points. A2's 1 % adoption rate has no
    source.
    Source: quality evidence §3 (noise) and §6 (gates).
    Fires: --model Qwen/Qwen3-8B --on h100-sxm5-80 --qps 1 --lanes fp8 --mix math=0.5,chat=0.5
    Silent: --model meta-llama/Llama-3.1-8B-Instruct --on t4:2 --qps 0.1 --lanes fp16 --mix math=0.5,chat=0.5
    """
    proof = case.verification
    if proof is None:
        return None
    tasks = {gate.id: gate.benchmarks[0].name for gate in proof.gates if gate.benchmarks}
    named = "; ".join(f"{name.removeprefix('task:')}: {test}" for name, test in tasks.items())
    return Says(
        because=f"what would prove it, paired with the original: {len(proof.gates)} gates, about {duration(proof.expected_s.value)} on one replica; {named}",
        facts={"gates": [gate.id for gate in proof.gates], "tests": tasks, "expected_s": proof.expected_s.value},
        source="the candidate's verification; catalog/data/gates.toml",
    )


@rule("Q110", "note")
def calibrate_on_your_own_text(case: Shown) -> Says | None:
    """Notes what a lane that has to be made should be calibrated on: domain, chat format, language, never the test set.

    Why: AWQ and GPTQ protect the weights that the calibration text uses; importance matrices likewise.
    Articles: A2: 100-500 samples of the domain, chat-formatted, in the language, never the test set; its own code
    calibrates a chat model on wikitext (128 or 512 entries, fewer after its filter). A3: 512 samples. 512 x 2,048
    tokens are used. "Perplexity +1 otherwise" has no source.
    Source: llm-compressor 0.14 defaults (512 samples); llama.cpp imatrix README.
    Fires: --model Qwen/Qwen3-14B --on l40s --qps 0.5 --lanes w4a16 --max-loss 20 --set workload.lora.merged=true
    Silent: --model Qwen/Qwen3-14B --on l40s --qps 0.5 --lanes fp8
    """
    asked = case.make.calibration if case.make is not None else None
    if asked is None:
        return None
    shares = ", ".join(f"{share:.0%} {family}" for family, share in asked.domains.items())
    form = ", through the chat template" if asked.chat_format else ""
    return Says(
        because=f"calibrate on {asked.samples} samples of {asked.sequence_length} tokens of your own text ({shares}; {', '.join(asked.languages)}{form}), none of it from the evaluation",
        facts={"samples": asked.samples, "sequence_length": asked.sequence_length, "public": list(asked.public)},
        source="llm-compressor 0.14 oneshot defaults",
    )


@rule("Q111", "warn")
def calibrated_in_another_language(case: Shown) -> Says | None:
    """Warns of a published checkpoint with calibrated weights where much of the work is in other languages than English.

    Why: public calibration sets are English (UltraChat, Open-Platypus); OmniQuant at 4 bits lost 1.9 % in English and
    4.5 % in Russian, AWQ 1.5 % of MMLU and 8.9 % of C-Eval at 1.5B.
    Articles: A2: match the calibration language. Applied to published calibrated checkpoints, whose calibration text is
    rarely stated (A2-088a).
    Source: quality evidence §2.10.
    Fires: --model meta-llama/Llama-3.1-70B-Instruct --on a100-sxm4-80:2 --qps 0.3 --lanes w4a16,gptq-int4 --max-loss 20 --languages en=0.5,ru=0.5
    Silent: --model meta-llama/Llama-3.1-70B-Instruct --on a100-sxm4-80:2 --qps 0.3 --lanes w4a16,gptq-int4 --max-loss 20
    """
    artifact, load = case.pairing.artifact, case.pairing.settled.load
    if artifact is None or artifact.recipe not in CALIBRATED or load.foreign < FOREIGN:
        return None
    others = sorted(load.languages.keys() - {"en"})
    return Says(
        because=f"{artifact.repo} was calibrated on text that its makers chose, most likely English: measure it in {', '.join(others)}",
        facts={"languages": load.languages, "recipe": artifact.recipe},
        source="quality evidence: OmniQuant card (ru), Qwen2 1.5B C-Eval",
    )


@rule("Q112", "note")
def keep_the_original(case: Shown) -> Says | None:
    """Notes that the 16-bit original has to be kept where a lane is made.

    Why: quantization cannot be undone, every gate compares with the original, and the next engine may want another format.
    Articles: A2: always keep a full-precision backup; A3: be ready to re-validate when the model changes (A2-120a,
    A3-168c).
    Source: llm-compressor and llama-quantize take 16-bit input.
    Fires: --model Qwen/Qwen3-14B --on l40s --qps 0.5 --lanes w4a16 --max-loss 20 --set workload.lora.merged=true
    Silent: --model Qwen/Qwen3-14B --on l40s --qps 0.5 --lanes bf16
    """
    if case.make is None or case.pairing.method.recipe.online:
        return None
    return Says(
        because=f"keep the 16-bit original of {case.pairing.model.id}, by hash, beside what {case.make.tool} makes"
    )


@rule("Q113", "note")
def retune_the_temperature(case: Shown) -> Says | None:
    """Notes that sampling parameters were tuned on the original and should be looked at again below eight bits.

    Why: quantization flattens or sharpens the tail of the distribution that sampling draws from; no paired measurement of
    a best temperature was found, so nothing is prescribed.
    Articles: A2: sampling temperature is more sensitive after quantization; re-tune or lower it. No primary evidence
    (A2-093, A2-084c).
    Source: no primary evidence (quality evidence, S2-14); Δp asymmetry of Q4_K_M -19.6/+12.1 in the llama.cpp README.
    Fires: --model meta-llama/Llama-3.1-70B-Instruct --on a100-sxm4-80:2 --qps 0.3 --lanes gptq-int4 --max-loss 5
    Silent: --model meta-llama/Llama-3.1-70B-Instruct --on a100-sxm4-80:2 --qps 0.3 --lanes fp8 --max-loss 5
    """
    if not four_bit(case.pairing):
        return None
    return Says(
        because="compare a few temperatures again: they were chosen for the original's token probabilities",
        source="unverified: no paired measurement known",
    )


@rule("Q114", "note")
def group_size(case: Shown) -> Says | None:
    """Notes the group size of 4-bit weights that have to be made, and what a smaller one would cost.

    Why: smaller groups are never worse and cost size: 16 bits of scale per group are 0.125 bits per weight at 128, 0.25
    at 64, 0.5 at 32. Groups must divide every matrix.
    Articles: A2: 128 by default, 64 for precision, 256 for memory, 32 "fast but may hurt accuracy". The last is wrong
    way round: smaller groups are never worse (LLaMA-7B 3-bit 8.07 to 6.61 with g128, Q0957 and Q0958; GSM8K g32 72.1,
    g128 72.0) and cost size. A3: 128. No kernel takes 256 (Machete -1/64/128, Marlin -1/32/64/128), and it would save
    0.0625 bits per weight (A2-029d, A2-087c).
    Source: GPTQ paper (3-bit perplexity 8.07 to 6.61 with groups of 128); llm-compressor group_size_validation.py.
    Fires: --model HuggingFaceTB/SmolLM2-135M-Instruct --on l4 --qps 0.5 --lanes w4a16 --max-loss 60 --set workload.lora.merged=true
    Silent: --model HuggingFaceTB/SmolLM2-135M-Instruct --on l4 --qps 0.5 --lanes bf16
    """
    made, usual = case.make, case.pairing.lane.methods[0].recipe.group_size
    if made is None or usual is None or made.group_size is None:
        return None
    why = "" if made.group_size == usual else f" because {usual} does not divide this model's matrices"
    return Says(
        because=f"groups of {made.group_size}{why}, {16 / made.group_size:.3g} bits of scale per weight; smaller ones are never worse and cost size",
        facts={"group_size": made.group_size, "usual": usual},
        source="llm-compressor 0.14 group_size_validation.py",
    )


@rule("Q601", "refuse")
def adapters_over_fixed_ranges(case: Pairing) -> Says | None:
    """Refuses to load LoRA adapters beside weights whose activation ranges were fixed by calibration, unless 5 % may be lost.

    Why: an adapter moves activations out of the range that was measured without it; per-token scales follow it, fixed
    scales cut it off. Nobody published how much that loses. Merge the adapter first, or take a dynamic recipe.
    Articles: A3: LoRA activations can leave the calibrated range of an FP8 base. Applied to static scales only; dynamic
    scales follow the activations. No measurement of the effect was found; llm-compressor issue 164 asks for guidance.
    Source: no primary measurement (quality evidence, S2-14); compressed-tensors FP8 and NVFP4 store input scales.
    Fires: --model mistralai/Ministral-3-8B-Instruct-2512 --on h100-sxm5-80 --qps 0.5 --set workload.lora=true
    Silent: --model mistralai/Ministral-3-8B-Instruct-2512 --on h100-sxm5-80 --qps 0.5
    """
    lora = case.settled.load.lora
    if lora is None or lora.merged or case.method.recipe.name not in STATIC or tolerates(case):
        return None
    return Says(
        because=f"{case.method.recipe.name} fixes activation ranges that an adapter moves: merge it first, or take a dynamic recipe",
        facts={"recipe": case.method.recipe.name},
        source="unverified: no paired measurement known",
    )


@rule("Q602", "warn")
def adapters_need_their_own_proof(case: Shown) -> Says | None:
    """Warns that losses are those of the base model where adapters are loaded beside quantized weights.

    Why: the adapter was trained against 16-bit weights; gate it on its own evaluation. Speed estimates do not count its
    matrices, memory estimates do.
    Articles: A3: re-validate LoRA over FP8 on the fine-tuned set. Kept as a warning for all quantized weights.
    Source: no paired measurement of adapters over quantized weights is in the evidence.
    Fires: --model Qwen/Qwen3-8B --on l40s --qps 0.5 --lanes fp8 --set workload.lora=true
    Silent: --model Qwen/Qwen3-8B --on l40s --qps 0.5 --lanes fp8
    """
    lora = case.pairing.settled.load.lora
    if lora is None or lora.merged or case.pairing.lane.family == "16-bit":
        return None
    return Says(
        because=f"losses are those of the base: measure {lora.adapters} adapter{'s' if lora.adapters > 1 else ''} over {case.pairing.lane.id} on their own tasks; the speed estimate leaves them out",
        facts={"adapters": lora.adapters, "max_rank": lora.max_rank},
        source="unverified: no paired measurement known",
    )


@rule("Q603", "note")
def merge_then_quantize(case: Shown) -> Says | None:
    """Notes the order: merge the adapter into the 16-bit weights, then quantize; published checkpoints lack it.

    Why: merging into quantized weights rounds the adapter away, and a calibrated recipe must see it.
    Articles: A1: NF4 in training, convert after merging; A3: merge the LoRA before FP8. Merge into 16-bit weights:
    merging into quantized ones is reported to ruin quality (transformers issue 31293, peft issue 1043).
    Source: llm-compressor and llama-quantize take 16-bit input; PEFT merge_and_unload.
    Fires: --model Qwen/Qwen3-8B --on l40s --qps 0.5 --lanes fp8 --set workload.lora.merged=true
    Silent: --model Qwen/Qwen3-8B --on l40s --qps 0.5 --lanes fp8 --set workload.lora=true
    """
    lora = case.pairing.settled.load.lora
    if lora is None or not lora.merged:
        return None
    return Says(
        because="merge the adapter into the 16-bit weights first, then quantize those: published checkpoints do not contain it",
        facts={"published_checkpoints": "not used"},
    )
