"""Launch files: a candidate and the user's choices as scripts, configuration and a README.

Templates hold layout only. Every string that a user, a request or a repository chose passes one explicit filter:
`sh` (one word of a shell script), `yaml` (one scalar or object), `code` (one inert span of Markdown) or `prose`.
"""

from __future__ import annotations

import json
import re
import shlex
from functools import cache
from pathlib import Path

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from msgspec import Struct

from catalog.engine import Engine
from catalog.units import GIB
from planner import engines, making, resources
from planner.engines import llamacpp, vllm
from planner.launch import Launch, LaunchOptions, serving_pool, target_of
from planner.plan import ArtifactRef, Candidate, Estimate, Finding, LaunchFile, Make, Plan, Tie
from planner.proving.judge_speed import Claim
from planner.wording import short

FETCHED = "llama-server reads the hub's cache, and fetches a missing file itself."
BROUGHT = "llama-server reads the hub's cache; bring that cache along, for nothing is fetched on this machine."
AT_HAND = "The weights are already on the serving machine."


class Reasons(Struct, frozen=True, kw_only=True):
    """What a plan says around its choice; printed in the README."""

    plan_id: str = ""
    findings: tuple[Finding, ...] = ()
    tie: tuple[Tie, ...] = ()
    sources: tuple[str, ...] = ()

    @classmethod
    def of(cls, plan: Plan) -> Reasons:
        return cls(plan_id=plan.id, findings=plan.findings, tie=plan.tie, sources=plan.sources)


def files(
    candidate: Candidate, engine: Engine, options: LaunchOptions, reasons: Reasons | None = None
) -> tuple[tuple[LaunchFile, bytes], ...]:
    """Every launch file of `candidate`, in UTF-8. Raises Unsupported and BadInput as `engines.launch` does."""
    launch = engines.launch(candidate, engine, options)
    context = {
        "launch": launch,
        "candidate": candidate,
        "engine": engine,
        "options": options,
        "pool": serving_pool(candidate),
        "reasons": reasons or Reasons(),
        "obtain": obtaining(candidate, launch, options),
    }
    target = target_of(candidate.engine)
    return tuple(
        (file, templates().get_template(f"{file.target}/{file.name}.j2").render(context).encode())
        for file in target.launch_files()
    )


def write(folder: Path, rendered: tuple[tuple[LaunchFile, bytes], ...]) -> tuple[Path, ...]:
    """Put the files under `folder`/<target>/; scripts become executable. Returns the paths in order."""
    paths = []
    for file, content in rendered:
        path = folder / file.target / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o755 if file.executable else 0o644)
        paths.append(path)
    return tuple(paths)


IMPORTS = {
    "awq": "from llmcompressor.modifiers.transform.awq import AWQModifier",
    "autoround": "from llmcompressor.modifiers.autoround import AutoRoundModifier",
}
QUANTIZERS = {"gptq": "GPTQModifier", "autoround": "AutoRoundModifier"}
"""llm-compressor 0.14's modifiers, where it has more than the plain one."""
PRESET_GROUP = 128
"""Of llm-compressor's W4A16 presets."""


class Obtain(Struct, frozen=True, kw_only=True):
    """How the weights get onto the machine: commands for a shell, or a Python recipe, and one sentence."""

    because: str
    how: str = ""
    commands: tuple[tuple[str, ...], ...] = ()
    python: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    """Python that has to run first."""


def obtaining(candidate: Candidate, launch: Launch, options: LaunchOptions) -> Obtain:
    """Merge, then download, quantize, or nothing to do."""
    found = _obtained(candidate, launch, options)
    return msgspec.structs.replace(found, before=merging(options)) if options.merged else found


def merging(options: LaunchOptions) -> tuple[str, ...]:
    """PEFT's way to merge an adapter into 16-bit weights; the adapter's folder is the reader's."""
    merged, _ = options.base
    pinned = f", revision={options.revision!r}" if options.revision else ""
    return (
        "from peft import PeftModel",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        f"model = AutoModelForCausalLM.from_pretrained({options.model!r}{pinned}, torch_dtype='auto')",
        "model = PeftModel.from_pretrained(model, './adapter').merge_and_unload()",
        f"model.save_pretrained({merged!r})",
        f"AutoTokenizer.from_pretrained({options.model!r}{pinned}).save_pretrained({merged!r})",
    )


def _obtained(candidate: Candidate, launch: Launch, options: LaunchOptions) -> Obtain:
    tool = candidate.make.tool if candidate.make else None
    if options.model_path is not None:
        return Obtain(because=AT_HAND)
    if candidate.artifact is not None:
        return _published(candidate, candidate.artifact, options.air_gapped)
    if candidate.make is not None and tool == "llama-quantize":
        return _llama_quantize(candidate.make, candidate, launch, options)
    if candidate.make is not None and tool == "llm-compressor":
        return _llm_compressor(candidate.make, candidate, options)
    here = options.merged or options.model.startswith((".", "/", "~")) or options.model.endswith(".gguf")
    because = AT_HAND if here and not options.merged else "The original weights."
    if candidate.recipe.online:
        because = "The engine quantizes the original while it loads."
    return Obtain(because=because, commands=() if here else (_download(options.model, options.revision),))


def _published(candidate: Candidate, artifact: ArtifactRef, air_gapped: bool) -> Obtain:
    """llama.cpp keeps its downloads in the hub's own cache (common/hf-cache.cpp), so `hf` can fill it."""
    by = f"Published by {artifact.publisher}."
    if candidate.engine != "llama.cpp":
        return Obtain(because=by, commands=(_download(artifact.repo, artifact.revision),))
    chosen = _download(artifact.repo, None, "--include", f"*{llamacpp.file_type(candidate)}*")
    return Obtain(because=f"{by} {BROUGHT if air_gapped else FETCHED}", commands=(chosen,))


def _download(repository: str, revision: str | None, *more: str) -> tuple[str, ...]:
    return ("hf", "download", *(("--revision", revision) if revision else ()), *more, *_last_word(repository))


def _last_word(name: str) -> tuple[str, ...]:
    """A positional argument that cannot be read as a flag."""
    return ("--", name) if name.startswith("-") else (name,)


def _llama_quantize(make: Make, candidate: Candidate, launch: Launch, options: LaunchOptions) -> Obtain:
    """Download, convert to 16 bits, measure importance where the type needs it, quantize: llama.cpp's own tools."""
    kind, original, matrix = llamacpp.file_type(candidate), "./original-f16.gguf", "./imatrix.gguf"
    needs = make.imatrix or kind in llamacpp.NEEDS_IMATRIX
    chunks = make.calibration.samples if make.calibration else None
    measure = ("llama-imatrix", *making.measuring(original, "./calibration.txt", matrix, chunks))
    folder = options.base[0] if options.merged else "./original"
    fetched = () if options.merged else (_download(options.model, options.revision, "--local-dir", folder),)
    return Obtain(
        because=make.because,
        how="With the tools of a llama.cpp checkout"
        + (f", and text in calibration.txt: {making.kind_of_text(make)}." if needs else "."),
        commands=(
            *fetched,
            ("python", "convert_hf_to_gguf.py", *making.converting(folder, original)),
            *((measure,) if needs else ()),
            ("llama-quantize", *making.quantizing(original, launch.model, kind, matrix if needs else None)),
        ),
    )


def _llm_compressor(make: Make, candidate: Candidate, options: LaunchOptions) -> Obtain:
    """A recipe for llm-compressor 0.14: AWQ is a transform before the quantizer; lm_head must be left out by name."""
    algorithm = make.algorithm.lower()
    asked, data = make.calibration, ""
    if asked is not None:
        data = f"dataset={asked.public[0]!r}, splits='train', "
        data += f"num_calibration_samples={asked.samples}, max_seq_length={asked.sequence_length}, "
    return Obtain(
        because=make.because,
        how="In an environment with llm-compressor 0.14, which cannot share vLLM's. Keep the 16-bit original."
        + (f" Replace the dataset by text {making.kind_of_text(make)}." if asked is not None else ""),
        python=(
            "from llmcompressor import oneshot",
            "from llmcompressor.modifiers.quantization import GPTQModifier, QuantizationModifier",
            *((IMPORTS[algorithm],) if algorithm in IMPORTS else ()),
            f"recipe = [{'AWQModifier(), ' if algorithm == 'awq' else ''}{_quantizer(make)}]",
            f"oneshot(model={options.base[0]!r}, recipe=recipe, {data}"
            f"output_dir={vllm.made_folder(candidate, options)!r})",
        ),
    )


def _quantizer(make: Make) -> str:
    """The modifier that writes the scheme; a group size of one's own needs the scheme spelled out."""
    name = QUANTIZERS.get(make.algorithm.lower(), "QuantizationModifier")
    scheme = f"targets='Linear', scheme={make.scheme!r}"
    if make.group_size not in (None, PRESET_GROUP):
        bits = 8 if make.scheme == "W8A16" else 4
        weights = {"num_bits": bits, "type": "int", "symmetric": make.symmetric, "strategy": "group"}
        weights["group_size"] = make.group_size
        scheme = f"config_groups={{'group_0': {{'targets': ['Linear'], 'weights': {weights!r}}}}}"
    return f"{name}({scheme}, ignore={list(make.ignore or ('lm_head',))!r})"


@cache
def templates() -> Environment:
    """The shipped templates with the filters that foreign words have to pass."""
    environment = Environment(
        loader=FileSystemLoader(resources.templates()),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - shell, YAML and Markdown, never HTML: each value names its own filter
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "sh": shlex.quote,
        "words": lambda command: " ".join(map(shlex.quote, command)),
        "yaml": yaml_value,
        "code": code_span,
        "prose": prose,
        "amount": amount,
        "predicted": predicted,
        "measured": measured,
        "number": lambda value: "–" if value is None else short(value),
        "fence": fence,
    }
    return environment


def yaml_value(value: object) -> str:
    """One value as YAML: JSON is YAML and quotes every string, but YAML knows no surrogate pairs."""
    return re.sub(r"\\ud[89ab]..\\ud[c-f]..", _one_escape, json.dumps(value))


def _one_escape(pair: re.Match[str]) -> str:
    letter: str = json.loads(f'"{pair[0]}"')
    return f"\\U{ord(letter):08x}"


def fence(texts: object) -> str:
    """A Markdown fence that nothing inside can close."""
    return "`" * (1 + max(2, *(len(run) for run in re.findall("`+", str(texts)) or [""])))


def code_span(text: object) -> str:
    """Text as one Markdown code span: control characters become escapes, the fence is longer than any run inside."""
    plain = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in str(text))
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", plain)), default=0))
    pad = " " if plain.startswith("`") or plain.endswith("`") else ""
    return f"{fence}{pad}{plain}{pad}{fence}"


def prose(text: str) -> str:
    """A sentence of ours that may quote foreign words: one line, without Markdown or HTML of its own."""
    line = " ".join(str(text).split())
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", line)


def amount(estimate: Estimate) -> str:
    """Value and 80 % interval for people: bytes as GiB, times below ten seconds as milliseconds."""
    return _interval((estimate.value, estimate.low, estimate.high), estimate.value, estimate.unit)


def predicted(claim: Claim) -> str:
    """What was estimated, likewise; bytes below a tenth of a GiB as MiB."""
    return _interval((claim.predicted, claim.low, claim.high), claim.predicted, claim.unit, small=True)


def measured(claim: Claim) -> str:
    """What was measured, in the unit of the estimate beside it."""
    if claim.measured is None or claim.measured_low is None or claim.measured_high is None:
        return "–"
    numbers = (claim.measured, claim.measured_low, claim.measured_high)
    return _interval(numbers, claim.predicted, claim.unit, small=True)


def _interval(numbers: tuple[float, float, float], size: float, unit: str, *, small: bool = False) -> str:
    """Value and both ends in a unit that fits the size; a value without a width alone."""
    scale = 1.0
    if unit == "B":
        scale, unit = (1024 / GIB, "MiB") if small and abs(size) < GIB / 10 else (1 / GIB, "GiB")
    elif unit == "s" and abs(size) < 10:
        scale, unit = 1000.0, "ms"
    value, low, high = (f"{number * scale:.4g}" for number in numbers)
    return f"{value} {unit}" if small and low == value == high else f"{value} {unit} ({low} to {high})"
