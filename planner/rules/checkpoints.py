"""H rules about published checkpoints: whether anybody looked, whose they are, whether one may use them."""

from __future__ import annotations

from planner.rules.rule import Pairing, Says, Shown, rule

TRUSTED = ("RedHatAI", "neuralmagic", "nvidia", "Qwen", "amd", "google", "ggml-org", "unsloth", "bartowski")
"""Publishers in the order in which their checkpoints are taken (most measured rows first)."""
OPEN = ("apache-2.0", "mit", "modified-mit", "")
"""Licences that ask for nothing before a download; "" where the catalogue does not know."""


def recorded(pairing: Pairing) -> bool:
    """Whether the weights come from the model's owner or from a publisher with measured rows."""
    artifact, model = pairing.artifact, pairing.model
    if artifact is None:
        return False
    return artifact.repo == model.id or artifact.publisher in (*TRUSTED, model.id.partition("/")[0])


@rule("H130", "warn")
def never_opened(case: Shown) -> Says | None:
    """Warns of a published checkpoint that nobody opened: it stands in a list, its files were not looked at.

    Why: repositories move, are withdrawn, or hold something else than their name says.
    Articles: A3 (and A2 by its code) take published checkpoints on trust; A3 names ModelOpt and Quark as the makers. A
    card's own recovery is a prior: six of those read disagree with their own numbers (A3-010, A3-065a).
    Source: the catalogue's `checked` date.
    Fires: --model meta-llama/Llama-3.1-8B-Instruct --on l40s --qps 1 --lanes w4a16 --max-loss 10
    Silent: --model meta-llama/Llama-3.1-8B-Instruct --on l40s --qps 1 --lanes bf16
    """
    artifact = case.pairing.artifact
    if artifact is None or artifact.repo == case.pairing.model.id or artifact.checked is not None:
        return None
    return Says(
        because=f"{artifact.repo} was never opened: check that it exists and loads before you rely on it",
        facts={"repo": artifact.repo},
        source=artifact.source,
    )


@rule("H131", "warn")
def licence_to_accept(case: Shown) -> Says | None:
    """Warns of weights under a licence with conditions of its own.

    Why: the hub may hand them out only after the licence was accepted, and some forbid commercial use.
    Articles: No article speaks of licences; A2 loads models by name only (A2-068).
    Source: the licence in the catalogue.
    Fires: --model meta-llama/Llama-3.1-8B-Instruct --on l40s --qps 1
    Silent: --model Qwen/Qwen3-8B --on l40s --qps 1
    """
    licence = case.pairing.model.license
    if licence in OPEN:
        return None
    return Says(
        because=f"the weights of {case.pairing.model.id} are under the licence {licence!r}: read and accept it first",
        facts={"license": licence},
        source=case.pairing.model.source,
    )


@rule("H132", "warn")
def publisher_without_a_record(case: Shown) -> Says | None:
    """Warns of a checkpoint whose publisher has no measured rows in the evidence and is not the model's owner.

    Why: recipes differ more than algorithms do; vendors publish what they evaluated, strangers may not.
    Articles: A2 and A3 take community quantizations as they are ("the zoo skews GPTQ"): 41 GPTQ and 33 AWQ INT4
    checkpoints are catalogued (A3-090).
    Source: the order of publishers follows their rows in the evidence table.
    Fires: --model meta-llama/Llama-3.1-70B-Instruct --on a100-sxm4-80:2 --qps 0.2 --lanes awq-int4 --max-loss 20
    Silent: --model Qwen/Qwen3-8B --on l40s --qps 1 --lanes awq-int4 --max-loss 20
    """
    artifact = case.pairing.artifact
    if artifact is None or recorded(case.pairing):
        return None
    return Says(
        because=f"{artifact.publisher or artifact.repo} has no measured checkpoint in the evidence: gate this one yourself",
        facts={"publisher": artifact.publisher},
        source=artifact.source,
    )


@rule("H133", "note")
def must_be_brought_along(case: Shown) -> Says | None:
    """Notes weights that have to be copied to a machine without a way to the hub.

    Why: the launch files set the offline switches, so nothing is fetched at start.
    Source: the request's `air_gapped`.
    Fires: --model Qwen/Qwen3-8B --on l40s --qps 1 --set air_gapped=true
    Silent: --model Qwen/Qwen3-8B --on l40s --qps 1
    """
    pairing = case.pairing
    if not pairing.settled.request.air_gapped:
        return None
    repo = pairing.artifact.repo if pairing.artifact is not None else pairing.model.id
    return Says(because=f"copy {repo} to the serving machine first: nothing is downloaded there", facts={"repo": repo})


@rule("H134", "note")
def revision_cannot_be_pinned(case: Shown) -> Says | None:
    """Notes that llama.cpp takes the newest revision of a repository.

    Why: `--hf-repo` has no revision; a file that was downloaded once and is opened by `--model` stays the same.
    Source: llama.cpp@0c1e57098 common/arg.cpp, --hf-repo.
    Fires: --model Qwen/Qwen3-8B --on apple-m3-max-40c --qps 0.05 --set hardware.accelerators[0].memory_gib=64
    Silent: --model Qwen/Qwen3-8B --on l40s --qps 1 --lanes fp8
    """
    pairing = case.pairing
    if pairing.engine.id != "llama.cpp" or pairing.artifact is None or pairing.artifact.repo == pairing.model.id:
        return None
    return Says(
        because=f"llama.cpp fetches the newest revision of {pairing.artifact.repo}: keep the file you have tested",
        facts={"repo": pairing.artifact.repo},
        source="llama.cpp@0c1e57098 common/arg.cpp",
    )
