"""H and L rules about speculative decoding: what can draft, and whether it helps at the planned load."""

from __future__ import annotations

from planner.rules.rule import Pairing, Placed, Says, Shown, rule, whole


@rule("H140", "refuse")
def nothing_drafts_here(case: Pairing) -> Says | None:
    """Refuses speculative decoding where the engine, the model or the draft cannot do it.

    Why: only methods with facts are planned (vLLM's); multi-token prediction needs layers that the checkpoint brings;
    a smaller model drafts tokens of its own vocabulary, which has to be the large one's.
    Articles: A1 and A2 offer speculative decoding for every model; a drafter has to exist for the very model.
    Source: vllm 0.33 config/speculative.py; model facts of the catalogue.
    Fires: --model Qwen/Qwen3-8B --on l40s --qps 0.1 --set speculative.method=mtp --set speculative.tokens=1
    Silent: --model Qwen/Qwen3-8B --on l40s --qps 0.1 --engines vllm --set speculative.method=ngram --set speculative.tokens=3
    """
    asked, model, draft = case.settled.request.speculative, case.model, case.settled.draft
    if asked is None:
        return None
    if all(row.method != asked.method or not row.exists(case.engine.version) for row in case.engine.drafts):
        because = f"speculative decoding by {asked.method} is not planned under {case.engine.id} {case.engine.version}"
    elif asked.method == "mtp" and not model.mtp_params:
        because = f"no layers for multi-token prediction are known of {model.id}"
    elif draft is not None and draft.vocab != model.vocab:
        because = f"{draft.id} drafts from {draft.vocab:,} tokens, {model.id} knows {model.vocab:,}"
    else:
        return None
    return Says(because=because, facts={"method": asked.method}, source=case.engine.source)


@rule("H309", "refuse")
def drafts_do_not_cross_stages(case: Placed) -> Says | None:
    """Refuses pipelines together with speculative decoding.

    Why: vLLM's documentation called the two incompatible for years. The configuration of 0.33 accepts both, with the
    drafter on the last stage, and nobody has measured what that gives.
    Source: docs.vllm.ai features/spec_decode, 0.6 to 0.14; vllm 0.33 v1/worker/gpu_model_runner.py.
    Fires: --model Qwen/Qwen3-32B --on l4:8 --qps 0.05 --set speculative.method=ngram --set speculative.tokens=3
    Silent: --model Qwen/Qwen3-32B --on l4:8 --qps 0.05
    """
    if case.pairing.settled.request.speculative is None or case.pipeline == 1:
        return None
    return Says(
        because="speculative decoding over pipeline stages is not planned: nobody has measured it",
        facts={"pipeline_parallel": case.pipeline},
        source="vllm documentation to 0.14: not compatible; vllm 0.33: the last stage drafts",
    )


@rule("H312", "refuse")
def drafts_do_not_cross_ranks(case: Placed) -> Says | None:
    """Refuses data-parallel attention together with speculative decoding.

    Why: vLLM runs both, but the estimates know nothing of drafters whose experts lie on all ranks.
    Source: vllm 0.33 v1/spec_decode: the drafter runs in every rank.
    Fires: --model Qwen/Qwen3-30B-A3B --on h100-sxm5-80:8 --qps 1 --set speculative.method=ngram --set speculative.tokens=3
    Silent: --model Qwen/Qwen3-30B-A3B --on h100-sxm5-80:8 --qps 1
    """
    if case.pairing.settled.request.speculative is None or case.data == 1:
        return None
    return Says(
        because="speculative decoding over ranks of data-parallel attention is not planned",
        facts={"data_parallel": case.data},
        source="vllm 0.33 v1/spec_decode",
    )


@rule("L105", "note")
def drafts_help(case: Shown) -> Says | None:
    """Notes how much speculative decoding gains at the planned load, and from which load on it stops.

    Why: checking several tokens costs a small batch nothing that it would not read anyway; a full one has no idle
    arithmetic, and drafts that are refused are wasted.
    Articles: A1: speculative decoding lowers latency; A2: it doubles throughput. Llama-3.1-8B on an H100, one sequence:
    1.36 and 1.28 times with two and four drafts of an EAGLE head (vllm PR 16035), 1.65 with two of EAGLE-3 (PR 16937).
    Source: arXiv 2211.17192; the step-time model; acceptance as stated or published for the method.
    Fires: --model Qwen/Qwen3-8B --on l40s --users 1 --set speculative.method=ngram --set speculative.tokens=3
    Silent: --model Qwen/Qwen3-8B --on l40s --users 1
    """
    if case.undrafted_rate is None or case.rate < case.undrafted_rate:
        return None
    gain, until = case.rate / case.undrafted_rate, case.undrafted_slower_from
    ends = "it still helps at 1,024" if until is None else f"from {until:.0f} on it slows down"
    return Says(
        because=f"drafting serves {gain:.2f} times the requests with {case.batch:.1f} running sequences; {ends}",
        facts={"gain": round(gain, 3), "running_sequences": round(case.batch, 1), "slower_from": whole(until)},
        source="arXiv 2211.17192 and the step-time model; measure the acceptance on your own traffic",
    )


@rule("L203", "warn")
def drafts_slow_down(case: Shown) -> Says | None:
    """Warns where speculative decoding serves fewer requests than plain decoding would at the planned load.

    Why: every drafted token is computed like a real one, and a full batch has no idle arithmetic for those that are
    refused.
    Articles: A2: speculative decoding doubles throughput. Beyond the batch that this rule names it costs some.
    Source: arXiv 2211.17192; the step-time model; arXiv 2601.11580: gains shrink with the batch in vLLM.
    Fires: --model Qwen/Qwen3-8B --on l40s --users 200 --set speculative.method=ngram --set speculative.tokens=6
    Silent: --model Qwen/Qwen3-8B --on l40s --users 1 --set speculative.method=ngram --set speculative.tokens=3
    """
    if case.undrafted_rate is None or case.rate >= case.undrafted_rate:
        return None
    slower = 1 - case.rate / case.undrafted_rate
    since = case.undrafted_slower_from
    already = "" if since is None else f", as it does from {since:.0f} on"
    return Says(
        because=f"with {case.batch:.0f} running sequences drafting serves {slower:.0%} fewer requests{already}: leave it out",
        facts={"slower": round(slower, 3), "running_sequences": round(case.batch, 1), "slower_from": whole(since)},
        source="arXiv 2211.17192 and the step-time model",
    )
