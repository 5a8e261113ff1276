"""How much quantization costs, as a law of few terms: the logarithm of the loss in percent is a sum.

    ln severity = base + slopes · terms + effects of classes

Slopes say how bits, size, length and recipe act everywhere; effects say by how much a lane, a family of tasks, a model
or two of them together deviate, each drawn towards none by how far such effects spread. Both are fitted offline
(`lanewise fit-quality`) and read from the catalogue; here are the terms alone.
"""

from __future__ import annotations

import math

from msgspec import Struct

from catalog.quality_parameters import SeverityParameters
from planner.lanes import BY_ID, Lane
from planner.plan import Recipe

TYPICAL_PARAMS = 8.0e9
"""Parameters at which the size term is zero."""
MATRIX_NEEDLESS, MATRIX_BITS = 6.5, 2.5
"""Bits from which an importance matrix wins nothing (Q6_K), and over how many fewer its gain grows (assumed)."""
USUAL_GROUP = 128.0
"""Inputs that share a scale where nothing else is said."""
WHOLE_ROW = 4096.0
"""Inputs that share a scale where each output has one (assumed: the width of 7B models)."""
SHORT = 8192.0
"""Tokens up to which length costs nothing more (assumed)."""
DOCUMENTS = ("long_context", "multilingual")
"""Families whose measured tasks fill their context; elsewhere `context_tokens` is what the harness allowed."""
CACHE_BITS = {"fp8": 8.0, "int8": 8.0, "q8_0": 8.5, "int4": 4.0, "q4_0": 4.5}
"""Bits of a cached value with its share of the scales, by the names of evidence and engines."""
FEW_BITS = 5.0
"""Bits per weight from which length and rounding to nearest are taken to cost nothing (assumed)."""
SIZES = (1.0e9, 4.5e9, 15e9, 50e9, 120e9)
"""Bounds of the size buckets, parameters (assumed)."""
ARCHITECTURES = (
    "deepseek-r1-distill", "qwen", "llama", "mixtral", "mistral", "gemma", "phi", "smollm", "glm", "kimi", "devstral",
    "gpt-oss", "nemotron", "deepseek",
)  # fmt: skip
"""Families of models, as their names say them; the first that a name holds."""


class Treatment(Struct, frozen=True, kw_only=True):
    """What was done to a model, in the terms that decide what it loses."""

    kind: str
    """Formats whose losses are pooled: int4, int8-w8a8, fp8, nvfp4, gguf, kv …"""
    way: str
    """The kind with its recipe, the finest class."""
    weight_bits: float = 16.0
    activation_bits: float = 16.0
    cache_bits: float = 16.0
    rounded: bool = False
    """To the nearest value, without calibration."""
    trained: bool = False
    """Quantized while training (QAT, QAD)."""
    power_of_two: bool = False
    """Scales are powers of two (the MX formats)."""
    imatrix: bool = False
    """A GGUF file made with an importance matrix."""
    group: float = USUAL_GROUP
    """Inputs that share a scale, of integer weights."""


class Setting(Struct, frozen=True, kw_only=True):
    """What it was done to, and on what it is judged."""

    params: float
    model: str = ""
    family: str
    context: float = 0.0
    """Tokens that the task fills."""
    hard: float = 0.0
    """Share of the benchmarks that ask for long chains of reasoning (AIME, MATH-500, GPQA, LiveCodeBench)."""


class Severity(Struct, frozen=True, kw_only=True):
    """Expected loss in percent of the baseline's score, and how far from it the loss may lie."""

    loss: float
    """The median."""
    spread: float
    """Scale of Student's t around it, percent: between sources, tasks and models, and of the parameters themselves."""
    unseen: tuple[str, ...]
    """Classes that no measurement covered."""


def of_lane(lane: Lane, recipe: Recipe) -> Treatment:
    """A planned lane as a recipe makes it; GGUF files with an importance matrix."""
    name = "imatrix" if lane.family == "gguf" else recipe.name
    training = "ptq" if recipe.training == "native" else recipe.training
    return treatment(lane.id, name, training, bits_of(lane), group=float(recipe.group_size or USUAL_GROUP))


def treatment(
    lane: str,
    recipe: str,
    training: str,
    weight_bits: float,
    activation_bits: float | None = None,
    group: float = USUAL_GROUP,
) -> Treatment:
    """A lane of weights by its id, or by the spelling of a method that is none of ours."""
    kind = kind_of(lane)
    recipe = recipe.removeprefix("fp8-").replace("online", "dynamic")
    acts = activation_bits or {"fp8": 8.0, "int8-w8a8": 8.0, "nvfp4": 4.0, "mxfp4": 4.0}.get(kind, 16.0)
    imatrix = kind == "gguf" and recipe == "imatrix"
    recipe = "" if kind == "gguf" and "imatrix" in recipe else recipe
    way = f"{lane if kind in ('gguf', 'other') else kind}|{recipe}" + ("" if training == "ptq" else f"|{training}")
    return Treatment(
        kind=kind,
        way=way,
        weight_bits=weight_bits,
        activation_bits=acts,
        rounded="rtn" in recipe or recipe in ("hqq", "quanto", "awq-hqq"),
        trained=training in ("qat", "qad"),
        power_of_two="MX" in lane or lane == "mxfp4",
        imatrix=imatrix,
        group=group if kind in ("int4", "other") else USUAL_GROUP,
    )


def of_cache(dtype: str, recipe: str) -> Treatment | None:
    """A cache format by its name; None for the model's own 16 bits and for formats that no engine of ours offers."""
    bits = CACHE_BITS.get(dtype)
    return None if bits is None else Treatment(kind="kv", way=f"kv:{dtype}|{recipe}", cache_bits=bits)


def kind_of(lane: str) -> str:
    """Formats whose losses are pooled. AWQ, GPTQ and W4A16 are one kind: 91 paired rows of 4 sources, AWQ better in 51,
    GPTQ in 32, median difference 0.4 points; the recipe is a class of its own below."""
    if lane in ("awq-int4", "gptq-int4", "w4a16"):
        return "int4"
    return "gguf" if lane.startswith("gguf:") else lane if lane in BY_ID else "other"


def bits_of(lane: Lane) -> float:
    """Bits of a weight without its scales, which recipes differ in."""
    return {"4-bit integer": 4.0, "4-bit float": 4.0, "8-bit integer": 8.0, "8-bit float": 8.0}.get(
        lane.family, lane.bits
    )


def terms(what: Treatment, where: Setting) -> dict[str, float]:
    """The numbers that slopes act on; what is absent is zero."""
    far = math.log(max(where.context, SHORT) / SHORT)
    size = math.log(where.params / TYPICAL_PARAMS)
    below, above = max(0.0, 4.0 - what.weight_bits), min(4.0, max(0.0, what.weight_bits - 4.0))
    perplexity = float(where.family == "ppl")
    if what.kind == "kv":
        found = {"cache": 1.0, "cache_bits": 8.0 - min(8.0, what.cache_bits), "cache_length": far, "size": size}
    else:
        document = far * (where.family in DOCUMENTS and what.weight_bits < FEW_BITS)
        found = {
            "size": size,
            "below_four_bits": below,
            "above_four_bits": above,
            "rounded": float(what.rounded and what.weight_bits <= FEW_BITS),
            "trained": float(what.trained),
            "imatrix": what.imatrix * min(1.0, max(0.0, (MATRIX_NEEDLESS - what.weight_bits) / MATRIX_BITS)),
            "finer_groups": math.log2(USUAL_GROUP / what.group) * (what.weight_bits < FEW_BITS),
            "four_bit_activations": float(what.activation_bits <= 4),
            "power_of_two": float(what.power_of_two and what.weight_bits < FEW_BITS),
            "length": document,
            "length_nf4": document * (what.kind == "nf4"),
            "perplexity_below": perplexity * below,
            "perplexity_above": perplexity * above,
            "perplexity_size": perplexity * size,
        }
    return {name: value for name, value in {**found, "hard": where.hard}.items() if value}


def classes(what: Treatment, where: Setting) -> tuple[str, ...]:
    """The classes whose effects add up, `level=class`."""
    size = bucket(where.params)
    return (
        f"kind={what.kind}",
        f"way={what.way}",
        f"family={where.family}",
        f"architecture={architecture(where.model)}",
        f"model={name_of(where.model)}",
        f"kind+family={what.kind}+{where.family}",
        f"kind+size={what.kind}+{size}",
        f"size+family={size}+{where.family}",
    )


def bucket(params: float) -> int:
    """The size bucket of a model: <=1B, 1-4.5B, 4.5-15B, 15-50B, 50-120B, above."""
    return sum(params > bound for bound in SIZES)


def name_of(model: str) -> str:
    """The model without its publisher, as tables of measurements write it."""
    return model.rpartition("/")[2]


def architecture(model: str) -> str:
    """The family of models that the name says; "" where it says none."""
    name = name_of(model).lower()
    return next((each for each in ARCHITECTURES if each in name), "")


def severity(fitted: SeverityParameters, what: Treatment, where: Setting) -> Severity:
    """The law with its fitted parameters."""
    total, variance, unseen = fitted.base, fitted.effect("source=")[0].sd ** 2, []
    for name, value in terms(what, where).items():
        total += fitted.slopes[name].value * value
    for name in classes(what, where):
        effect, known = fitted.effect(name)
        total += effect.value
        if not known:
            variance += effect.sd**2
            unseen.append(name)
    loss = math.exp(min(total, math.log(100.0)))
    spread = math.sqrt(fitted.floor**2 + loss**2 * (fitted.share**2 + variance))
    return Severity(loss=loss, spread=spread, unseen=tuple(unseen))
