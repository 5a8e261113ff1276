"""Steps that get the original and get or make the candidate: fetch, calibrate, quantize, convert."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import structs

from catalog.errors import Unsupported
from planner import making
from planner.engines.llamacpp import NEEDS_IMATRIX, file_type
from planner.lanes import BY_ID
from planner.lanes.gguf import UNSLOTH_BITS
from planner.plan import Calibration, Make
from planner.proving import toolrates
from planner.proving.asked import Asked, named
from planner.proving.steps import OUT, OWN_PYTHON, RUN, WORKERS, Step, word
from planner.rules.recipes import LENGTH, SAMPLES

ORIGINAL, CANDIDATE, BASELINE, CALIBRATION, IMPORTANCE = "original", "candidate", "baseline", "calibration", "imatrix"
COMPRESSOR, LLAMA = "llm-compressor", "llama.cpp"
ORIGINAL_MODEL, CANDIDATE_MODEL = f"{RUN}/{ORIGINAL}/model", f"{RUN}/{CANDIDATE}/model"
BASELINE_FILE, CANDIDATE_FILE = f"{RUN}/{BASELINE}/model.gguf", f"{RUN}/{CANDIDATE}/model.gguf"
ROWS = f"{RUN}/{CALIBRATION}"
LEAST_DISK = 2.0**20
"""For logs and manifests."""
WORKING = 2.0**31
"""RAM of a Python with torch and of the layer in work (assumed; 0.9 to 1.1 GiB were seen on a small model)."""
ALIVE = 2.0**28
"""RAM of a process that streams files (assumed)."""


def preparing(asked: Asked) -> Iterator[Step]:
    """The original, the candidate, and for llama.cpp the baseline as 16-bit GGUF. Raises Unsupported by name."""
    _refuse(asked)
    if asked.has_baseline or made_here(asked):
        yield _fetch(asked, ORIGINAL, asked.original, asked.revision, asked.original_bytes)
        if asked.gguf and not asked.is_file:
            yield _convert(asked)
    if asked.candidate.artifact is not None:
        yield _artifact(asked)
    elif asked.copy and not made_here(asked):
        yield _fetch(asked, CANDIDATE, asked.planned, asked.planned_revision, asked.candidate_bytes)
    elif made_here(asked):
        yield from _made(asked, _asked_make(asked))


def made_here(asked: Asked) -> bool:
    """Whether the candidate has to be quantized before it can be looked at."""
    make = asked.candidate.make
    return asked.candidate.artifact is None and make is not None and make.tool in (COMPRESSOR, "llama-quantize")


def candidate_is_original(asked: Asked) -> bool:
    """Whether the served weights are the original's files, as with 16-bit lanes and quantization while loading."""
    return asked.candidate.artifact is None and not asked.copy and not made_here(asked)


def baseline_path(asked: Asked) -> str:
    """What the scorer opens as the baseline."""
    if not asked.gguf:
        return ORIGINAL_MODEL
    return f"{RUN}/{ORIGINAL}/model.gguf" if asked.is_file else BASELINE_FILE


def candidate_path(asked: Asked) -> str:
    """What the scorer opens as the candidate."""
    return CANDIDATE_FILE if asked.gguf else CANDIDATE_MODEL


def _asked_make(asked: Asked) -> Make:
    assert asked.candidate.make is not None
    return asked.candidate.make


def _refuse(asked: Asked) -> None:
    """What this version does not make, by name."""
    lora = (asked.plan.request.get("workload") or {}).get("lora")
    if isinstance(lora, dict) and lora.get("merged"):
        raise Unsupported("merging an adapter is not a step of this version: merge it and plan the merged folder")
    if asked.is_file and not asked.gguf:
        raise Unsupported(f"{asked.candidate.lane} is made from a folder with safetensors, not from a GGUF file")
    if not made_here(asked):
        return
    make, native = _asked_make(asked), BY_ID.get(asked.model.native)
    if make.scheme in UNSLOTH_BITS:
        raise Unsupported(f"{make.scheme} is a mixture that its publisher makes: llama-quantize has no such type")
    if make.tool == COMPRESSOR and native is not None and native.family != "16-bit":
        raise Unsupported(
            f"{asked.model.id} is published in {asked.model.native}, and one-shot quantization starts from 16 bits: "
            "give a 16-bit folder with --original"
        )


def _fetch(asked: Asked, step: str, source: str, revision: str | None, size: float) -> Step:
    """Files that are here are linked and hashed, files of the hub are fetched into its cache first."""
    local = source.startswith("/")
    what = "the unquantized original" if step == ORIGINAL else "the candidate"
    name = "model.gguf" if source.endswith(".gguf") or (asked.gguf and step == CANDIDATE) else "model"
    where = ("folder", "--path", word(source)) if local else ("hub", "--repo", word(source))
    return Step(
        id=step,
        does=f"{'link' if local else 'fetch'} {what}: {source}" + (f" at {revision}" if revision else ""),
        proves="every file by its SHA-256 in manifest.json; no pickles, no code",
        command=(
            OWN_PYTHON, f"{WORKERS}/obtain.py", *where, *(("--revision", word(revision)) if revision else ()),
            "--out", OUT,
        ),
        reads=(source,) if local else (),
        makes=(f"{step}/{name}", f"{step}/manifest.json"),
        ram_bytes=ALIVE,
        disk_bytes=LEAST_DISK if local else size,
        expected_s=toolrates.found(size) if local else toolrates.fetched(size, asked.network),
    )  # fmt: skip


def _artifact(asked: Asked) -> Step:
    """The published checkpoint; of a repository of GGUF files the one of this type."""
    artifact = asked.candidate.artifact
    assert artifact is not None
    step = _fetch(asked, CANDIDATE, artifact.repo, artifact.revision, asked.candidate_bytes)
    if not asked.gguf:
        return step
    return structs.replace(step, command=(*step.command, "--file", f"*{file_type(asked.candidate)}*.gguf"))


def _convert(asked: Asked) -> Step:
    """16-bit GGUF: the file that types are made from, and the baseline they are held against."""
    return Step(
        id=BASELINE,
        does="convert the original to a 16-bit GGUF file",
        proves="llama.cpp's own unquantized baseline",
        tool=COMPRESSOR,
        command=(
            f"{{python:{COMPRESSOR}}}",
            f"{{tool:{LLAMA}}}/convert_hf_to_gguf.py",
            *making.converting(ORIGINAL_MODEL, f"{OUT}/model.gguf"),
        ),
        env=asked.env,
        needs=(ORIGINAL,),
        makes=(f"{BASELINE}/model.gguf",),
        ram_bytes=WORKING + asked.original_bytes,
        disk_bytes=asked.original_bytes,
        expected_s=toolrates.converted(asked.original_bytes),
    )


def _made(asked: Asked, make: Make) -> Iterator[Step]:
    if asked.gguf:
        yield from _quantized_file(asked, make)
        return
    text = calibrated_on(asked, make)
    if text is not None:
        yield _calibration(asked, text)
    yield _one_shot(asked, make, text)


def calibrated_on(asked: Asked, make: Make) -> Calibration | None:
    """The plan's text; usual sizes for the scales of an FP8 cache where the user brought text."""
    if make.calibration is not None or not (asked.calibration and cache_scales(asked)):
        return make.calibration
    plain = Calibration(domains={}, languages={}, chat_format=False, samples=SAMPLES, sequence_length=LENGTH, public=())
    return making.fitting(plain, asked.model)


def cache_scales(asked: Asked) -> bool:
    """Whether an FP8 cache is served, whose scales a calibrated one-shot can write into the checkpoint."""
    return asked.candidate.kv_cache_dtype.startswith("fp8") and made_here(asked) and not asked.gguf


def _calibration(asked: Asked, text: Calibration) -> Step:
    """Rows of token ids for one-shots and the same text for an importance matrix."""
    evaluation = (*asked.texts, *asked.neutral)
    return Step(
        id=CALIBRATION,
        does=f"{text.samples} x {text.sequence_length} tokens of calibration text",
        proves="which documents, how much of each file and script, and that no passage is in the evaluation text",
        tool=COMPRESSOR,
        command=(
            f"{{python:{COMPRESSOR}}}", f"{WORKERS}/calibrate.py",
            *(() if asked.is_file else ("--tokenizer", ORIGINAL_MODEL)),
            "--text", *named(asked.calibration, "{calibration}"),
            *(("--evaluation", *map(word, evaluation)) if evaluation else ()),
            "--samples", str(text.samples), "--length", str(text.sequence_length),
            *(("--chat",) if text.chat_format else ()), "--seed", str(asked.seed), "--out", OUT,
        ),
        env=asked.env,
        needs=(ORIGINAL,),
        reads=(*asked.calibration, *evaluation),
        makes=tuple(f"{CALIBRATION}/{name}" for name in ("rows.json", "calibration.txt", "report.json")),
        ram_bytes=WORKING,
        disk_bytes=LEAST_DISK + 32.0 * text.samples * text.sequence_length,
        expected_s=toolrates.tokenized(float(text.samples * text.sequence_length)),
    )  # fmt: skip


def _one_shot(asked: Asked, make: Make, text: Calibration | None) -> Step:
    """llm-compressor's one-shot, with what the plan says as arguments of our script."""
    kind = _slowest(make, text)
    tokens = float(text.samples * text.sequence_length) if text else 0.0
    gpu = toolrates.calibrated(asked.params, tokens, kind, asked.gpus)
    return Step(
        id=CANDIDATE,
        does=_told(make, asked, text),
        proves="the checkpoint is made as planned; made.json says what stayed in 16 bits",
        tool=COMPRESSOR,
        command=(
            f"{{python:{COMPRESSOR}}}", f"{WORKERS}/oneshot.py", "--model", ORIGINAL_MODEL,
            *words_of(make, text, cache=text is not None and cache_scales(asked)),
            "--seed", str(asked.seed), "--out", OUT,
        ),
        env=asked.env,
        needs=(ORIGINAL, CALIBRATION) if text else (ORIGINAL,),
        makes=(f"{CANDIDATE}/model", f"{CANDIDATE}/made.json"),
        ram_bytes=WORKING + max(make.host_ram_bytes, asked.original_bytes),
        disk_bytes=asked.candidate_bytes,
        gpus=min(asked.gpus, 1),
        expected_s=gpu if text else toolrates.rounded(asked.params, asked.gpus),
    )  # fmt: skip


def words_of(make: Make, text: Calibration | None, *, cache: bool) -> tuple[str, ...]:
    """A one-shot's arguments: scheme, algorithm, group, what stays 16-bit, calibration, cache."""
    words = ["--scheme", make.scheme, "--algorithm", algorithm(make, text)]
    if make.group_size is not None:
        words += ["--group-size", str(make.group_size)]
    for layer in make.ignore or ("lm_head",):
        words += ["--ignore", layer]
    if text is not None:
        words += ["--calibration", f"{ROWS}/rows.json", "--length", str(text.sequence_length)]
    return (*words, "--cache", "fp8") if cache else tuple(words)


def algorithm(make: Make, text: Calibration | None) -> str:
    """The one-shot script's word: rtn where there is nothing to calibrate on, whatever the recipe is called."""
    name = make.algorithm.lower()
    if text is None or make.calibration is None:
        return "rtn"
    return next((known for known in ("smoothquant", "autoround", "awq", "gptq") if known in name), "rtn")


def _slowest(make: Make, text: Calibration | None) -> str:
    found = algorithm(make, text)
    plain = "nvfp4" if make.scheme == "NVFP4" else ""
    return plain if found == "rtn" else found


def _told(make: Make, asked: Asked, text: Calibration | None) -> str:
    words = [f"quantize to {make.scheme} ({algorithm(make, text)})"]
    words += [f"groups of {make.group_size}"] if make.group_size else []
    words += [f"16-bit: {', '.join(make.ignore or ('lm_head',))}"]
    words += ["with scales for an FP8 cache"] if text is not None and cache_scales(asked) else []
    return ", ".join(words)


def _quantized_file(asked: Asked, make: Make) -> Iterator[Step]:
    """llama.cpp's own way: an importance matrix where it pays or is needed, then the type."""
    kind = file_type(asked.candidate)
    matrix = make.imatrix or kind in NEEDS_IMATRIX
    if matrix:
        text = make.calibration or making.importance_text(asked.model)
        yield _calibration(asked, text)
        yield _importance(asked, text)
    source = baseline_path(asked)
    yield Step(
        id=CANDIDATE,
        does=f"quantize to {kind}{' with the importance matrix' if matrix else ''}",
        proves="the file is made as planned",
        tool=LLAMA,
        command=(
            f"{{tool:{LLAMA}}}/llama-quantize",
            *making.quantizing(source, f"{OUT}/model.gguf", kind, _matrix_file() if matrix else None),
        ),
        env=asked.env,
        needs=(_baseline_step(asked), *((IMPORTANCE,) if matrix else ())),
        makes=(f"{CANDIDATE}/model.gguf",),
        ram_bytes=ALIVE + asked.original_bytes / 8,
        disk_bytes=asked.candidate_bytes,
        expected_s=toolrates.blocked(asked.params, kind),
    )


def _matrix_file() -> str:
    return f"{RUN}/{IMPORTANCE}/imatrix.gguf"


def _baseline_step(asked: Asked) -> str:
    return ORIGINAL if asked.is_file else BASELINE


def _importance(asked: Asked, text: Calibration) -> Step:
    return Step(
        id=IMPORTANCE,
        does=f"measure importance on {text.samples} chunks",
        proves="which weights the type has to keep",
        tool=LLAMA,
        command=(
            f"{{tool:{LLAMA}}}/llama-imatrix",
            *making.measuring(baseline_path(asked), f"{ROWS}/calibration.txt", f"{OUT}/imatrix.gguf", text.samples),
        ),
        env=asked.env,
        needs=(_baseline_step(asked), CALIBRATION),
        makes=(f"{IMPORTANCE}/imatrix.gguf",),
        ram_bytes=ALIVE + asked.original_bytes,
        disk_bytes=LEAST_DISK + asked.params / 64,
        gpus=min(asked.gpus, 1),
        expected_s=toolrates.importance(asked.params, float(text.samples * text.sequence_length), asked.gpus),
    )


__all__ = ["baseline_path", "candidate_is_original", "candidate_path", "made_here", "preparing"]
