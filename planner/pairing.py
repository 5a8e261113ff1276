"""Every lane on every engine on every device: which checkpoint or recipe, which kernel, which expected loss.

What a rule refuses here leaves with its finding; what stays goes on to layouts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from msgspec import Struct, structs

from catalog import tensors
from catalog.artifact import Artifact
from catalog.engine import Engine, Kernel
from catalog.errors import Unsupported
from catalog.load import Catalog
from catalog.model import Model
from planner import quality
from planner.lanes import BY_ID, SEARCHED, Lane
from planner.plan import Finding, Recipe
from planner.quality import Loss
from planner.request import ESTIMATED_ENGINES, PLANNED_ENGINES, OwnEstimate
from planner.rules import ANYWHERE, CACHED, PAIRING, PRICED, PROBED, waived
from planner.rules.quality import tolerance
from planner.rules.rule import Cached, Device, Pairing, Rule, ask
from planner.settle import Settled
from planner.ways import Way, adaptable, artifacts, best, remakes, ways

CACHES = {"vllm": ("auto", "fp8"), "llama.cpp": ("f16", "q8_0", "q4_0")}
"""Cache formats that a search tries, the unquantized one first; other engines keep theirs."""
Verdict = tuple[list[Finding], Finding | None]
"""What the rules said, and the refusal."""
Judged = tuple[Cached, list[Finding], Finding | None]
"""A cache format and its verdict."""
REFUSED_ENGINES = {
    "tgi": "Text Generation Inference is in maintenance mode; vLLM or llama.cpp serve the same lanes",
    "ollama": "Ollama runs llama.cpp: plan with llama.cpp",
    "lm-studio": "LM Studio runs llama.cpp: plan with llama.cpp",
    "localai": "LocalAI wraps other engines: plan with the engine it runs",
    "mlc-llm": "no kernel, memory or speed facts of MLC-LLM are in the catalogue",
}


class Option(Struct, frozen=True, kw_only=True):
    """A pairing that no rule refused, with one cache format and its losses."""

    pairing: Pairing
    cached: Cached
    cell_bits: float
    findings: tuple[Finding, ...]
    like: Pairing
    """The first of the pairings that differ from this one in price alone; formulas cannot tell them apart."""

    @property
    def second_best(self) -> bool:
        """A rule prefers something else while anything else is feasible."""
        return any(finding.effect == "prefer" for finding in self.findings)

    @property
    def loss(self) -> Loss:
        """The loss of the family that loses most."""
        return quality.worst(self.cached.losses.values())


@dataclass
class Options:
    """What stays, and what left with which finding."""

    kept: list[Option] = field(default_factory=list)
    refused: list[tuple[Pairing, Finding]] = field(default_factory=list)


def engines(settled: Settled, catalog: Catalog) -> tuple[Engine, ...]:
    """The engine versions to plan for. Raises Unsupported for an engine or version without facts."""
    chosen = []
    for index, name in enumerate(settled.engines):
        if name not in PLANNED_ENGINES + ESTIMATED_ENGINES:
            reason = REFUSED_ENGINES.get(name, f"known engines are {', '.join(PLANNED_ENGINES + ESTIMATED_ENGINES)}")
            raise Unsupported(f"engine {name!r} is not planned: {reason}", f"$.engines[{index}]")
        chosen.append(_version(name, settled, catalog))
    return tuple(chosen)


def _version(name: str, settled: Settled, catalog: Catalog) -> Engine:
    try:
        return catalog.engine(name, (settled.request.engine_versions or {}).get(name, ""))
    except Unsupported as fault:
        raise Unsupported(fault.message, f"$.engine_versions.{name}") from None


def options(settled: Settled, model: Model, devices: tuple[Device, ...], catalog: Catalog) -> Options:
    """Ask the pairing, price and cache rules of every lane, engine and device."""
    found, losses, judge = Options(), Losses(catalog, model, settled), Judge(waived(settled.request))
    for alike in pairings(settled, model, devices, catalog, losses):
        findings, refusal = judge.paired(alike[0])
        if refusal is not None:
            found.refused += [(pairing, refusal) for pairing in alike]
            continue
        judged = judge.cached(alike[0], losses)
        for pairing in alike:
            _add(found, (pairing, alike[0]), (*findings, *judge.priced(pairing)), judged)
    return found


class Judge:
    """What rules say, each asked once of everything that it cannot tell apart."""

    def __init__(self, over: frozenset[str]) -> None:
        self.over = over
        """Rules that the request waives."""
        self._paired: dict[tuple[object, ...], tuple[Pairing, tuple[Rule[Pairing], ...]]] = {}
        self._priced: dict[int, list[Finding]] = {}
        self._cached: dict[tuple[object, ...], list[Judged]] = {}
        """With the case itself, whose parts are told by identity: while it is kept, no other takes their place."""

    def paired(self, pairing: Pairing) -> Verdict:
        """Rules that see nothing of the device and are silent on one are silent on all; so are those about probed
        machines where none was. Losses that the user measured may be this pairing's alone."""
        if pairing.own is not None:
            return ask(PAIRING, pairing, self.over)
        probed = pairing.device.machine is not None or bool(pairing.device.gpus)
        key = *_made(pairing), probed
        if key not in self._paired:
            silent = {rule.code for rule in ANYWHERE if rule.says(pairing) is None}
            silent |= set() if probed else {rule.code for rule in PROBED}
            self._paired[key] = pairing, tuple(rule for rule in PAIRING if rule.code not in silent)
        return ask(self._paired[key][1], pairing, self.over)

    def priced(self, pairing: Pairing) -> list[Finding]:
        """A price is the device's, whatever runs on it."""
        key = id(pairing.device)
        if key not in self._priced:
            self._priced[key], _ = ask(PRICED, pairing, self.over)
        return self._priced[key]

    def cached(self, pairing: Pairing, losses: Losses) -> list[Judged]:
        """Cache formats are the engine's: what the device adds is whether, and how, the engine has them there. Losses
        that the user measured may be this pairing's alone."""
        if pairing.own is not None:
            return self._formats(pairing, losses)
        key = *_made(pairing), pairing.device.accelerator.traits
        if key not in self._cached:
            self._cached[key] = self._formats(pairing, losses)
        return self._cached[key]

    def _formats(self, pairing: Pairing, losses: Losses) -> list[Judged]:
        return [(cached, *ask(CACHED, cached, self.over)) for cached in caches(pairing, losses)]


def _made(pairing: Pairing) -> tuple[object, ...]:
    """A lane made one way for one engine; parts are told by identity."""
    return pairing.lane.id, id(pairing.method), id(pairing.artifact), id(pairing.engine)


def _add(
    found: Options, alike: tuple[Pairing, Pairing], findings: tuple[Finding, ...], judged: Sequence[Judged]
) -> None:
    """A pairing with each cache format; `alike` = it, and the first of those that differ from it in price alone."""
    pairing, like = alike
    for cached, said, refusal in judged:
        if refusal is not None:
            found.refused.append((pairing, refusal))
        elif cached.format is not None:
            own = Cached(pairing=pairing, dtype=cached.dtype, format=cached.format, losses=cached.losses)
            bits, made = cached.format.bits, (*findings, *said)
            found.kept.append(Option(pairing=pairing, cached=own, cell_bits=bits, findings=made, like=like))


class Losses:
    """Expected losses of one model, each lane and family looked up once."""

    def __init__(self, catalog: Catalog, model: Model, settled: Settled) -> None:
        self.about, self.model, self.params = quality.known(catalog), model, tensors.size(model)
        self.settled, load = settled, settled.load
        self.asked = quality.Asked(
            params=self.params, model=model.id, context=load.context, typical=load.prompt.mean + load.output.mean
        )
        self.families = quality.families(settled.load.mix, settled.load.context, settled.load.foreign)
        self.trained = {
            row.lane for row in catalog.artifacts if row.repo == model.id and row.training in ("qat", "qad")
        }
        """Lanes that the checkpoint under this very name was trained in: it is its own baseline, as a native one is."""
        self.known: dict[tuple[str, str, str], dict[str, Loss]] = {}
        """By lane, recipe and training."""
        self.cached: dict[tuple[str, str, str, str], dict[str, Loss]] = {}
        """By lane, recipe, training and cache format."""

    def of(self, lane: Lane, recipe: Recipe) -> dict[str, Loss]:
        """Per family; a lane in which the publisher ships the model is its own baseline."""
        key = lane.id, recipe.name, recipe.training
        if key not in self.known:
            self.known[key] = {name: self._one(lane, recipe, name) for name in self.families}
        return self.known[key]

    def tolerated(self, lane: Lane, recipe: Recipe) -> bool:
        """Whether Q101 would let the weights pass, or is waived."""
        limits = self.settled.objectives
        bounds = {family: loss.bound(limits.strict) for family, loss in self.of(lane, recipe).items()}
        fine = all(bound <= tolerance(limits, family) for family, bound in bounds.items())
        return fine or "Q101" in waived(self.settled.request)

    def remade(self, lane: Lane) -> dict[str, Loss]:
        """The loss of the family that loses most, by the algorithm that one could make this lane with; none without an
        original to make it from."""
        if BY_ID[self.model.native].family != "16-bit":
            return {}
        found = {recipe.algorithm: self.of(lane, recipe) for recipe in remakes(lane)}
        return {algorithm: quality.worst(losses.values()) for algorithm, losses in found.items() if losses}

    def _one(self, lane: Lane, recipe: Recipe, family: str) -> Loss:
        if is_original(self.model, lane) or lane.id in self.trained:
            return quality.native(self.model.source)
        return quality.weight_loss(self.about, lane, recipe, self.asked, family)

    def with_cache(self, pairing: Pairing, dtype: str) -> dict[str, Loss]:
        """Weights and cache together."""
        if pairing.own is not None:
            return self._with_cache(pairing.losses, dtype)
        recipe = pairing.method.recipe
        key = pairing.lane.id, recipe.name, recipe.training, dtype
        if key not in self.cached:
            self.cached[key] = self._with_cache(pairing.losses, dtype)
        return self.cached[key]

    def _with_cache(self, losses: dict[str, Loss], dtype: str) -> dict[str, Loss]:
        return {
            family: quality.together(loss, quality.cache_loss(self.about, dtype, self.asked, family))
            for family, loss in losses.items()
        }


def is_original(model: Model, lane: Lane) -> bool:
    """Whether the lane is the form in which the model's owner publishes it, so that nothing is lost against it.

    A quantized checkpoint that was read from disk or a hub is somebody's copy of a 16-bit model, unless its format is
    one that owners train in (FP8, MXFP4) and no catalogue model has its shapes.
    """
    own = lane.id in (model.native, f"gguf:{model.native.upper()}")
    copy = model.quantization is not None and (lane.id not in ("fp8", "mxfp4") or model.inherited is not None)
    return own and not copy


def caches(pairing: Pairing, losses: Losses) -> Iterator[Cached]:
    """The pairing with each cache format that its engine offers."""
    for dtype in CACHES.get(pairing.engine.id, ("auto",)):
        row = pairing.engine.cache(dtype, pairing.device.accelerator)
        yield Cached(pairing=pairing, dtype=dtype, format=row, losses=losses.with_cache(pairing, dtype))


def pairings(
    settled: Settled, model: Model, devices: tuple[Device, ...], catalog: Catalog, losses: Losses
) -> Iterator[tuple[Pairing, ...]]:
    """Each lane once per engine and device, made the best way; those that differ in price alone come together."""
    lanes = [BY_ID[name] for name in settled.lanes] if settled.lanes else lanes_for(model)
    merged = settled.load.lora is not None and settled.load.lora.merged
    published = {} if merged else artifacts(model, catalog)
    timed = {(each.accelerator, each.engine) for each in catalog.deviations}
    instances = [tuple(group) for _, group in groupby(devices, key=Device.unpriced)]
    for engine in engines(settled, catalog):
        for lane in lanes:
            if (lane.family == "gguf") != (engine.id == "llama.cpp") and lane.id != "nf4":
                continue
            found = adaptable(ways(lane, model, published), settled)
            tolerated = [losses.tolerated(lane, method.recipe) for method, _ in found]
            made: dict[tuple[object, ...], tuple[Way, Kernel | None, Artifact | None]] = {}
            for device, *others in instances:
                traits = device.accelerator.traits
                if traits not in made:
                    made[traits] = best(found, [_kernel(engine, lane, way, device) for way in found], tolerated)
                (method, artifact), kernel, passed_over = made[traits]
                own = own_estimate(settled, lane, engine, device)
                first = Pairing(
                    settled=settled,
                    model=model,
                    params=losses.params,
                    lane=lane,
                    method=method,
                    artifact=artifact,
                    engine=engine,
                    device=device,
                    kernel=kernel,
                    losses=stated(losses.of(lane, method.recipe), own),
                    known=catalog.engines,
                    own=own,
                    passed_over=passed_over,
                    timed=(device.accelerator.id, engine.id) in timed,
                    remade=losses.remade(lane) if artifact is not None or passed_over is not None else {},
                )
                yield first, *(structs.replace(first, device=other) for other in others)


def own_estimate(settled: Settled, lane: Lane, engine: Engine, device: Device) -> OwnEstimate | None:
    """What the request knows better about this candidate; where several entries speak, the last one does."""
    overrides = settled.request.overrides
    if overrides is None or not overrides.estimates:
        return None
    about = [own for own in overrides.estimates if own.about(lane.id, engine.id, device.accelerator.id)]
    if not about:
        return None
    return OwnEstimate(
        loss_pct={family: loss for own in about for family, loss in own.loss_pct.items()},
        weight_bytes=next((own.weight_bytes for own in reversed(about) if own.weight_bytes), None),
        requests_per_s=next((own.requests_per_s for own in reversed(about) if own.requests_per_s), None),
    )


def stated(losses: dict[str, Loss], own: OwnEstimate | None) -> dict[str, Loss]:
    """The losses, with those that the user measured in their place."""
    if own is None or not own.loss_pct:
        return losses
    return {
        family: quality.stated(own.loss_pct[family]) if family in own.loss_pct else loss
        for family, loss in losses.items()
    }


def lanes_for(model: Model) -> list[Lane]:
    """The lanes a search tries: all of them, and the MXFP4 file type for models published in it."""
    extra = [BY_ID["gguf:MXFP4"]] if model.native == "mxfp4" else []
    if model.quantization is not None and model.quantization.startswith("gguf:"):
        return [BY_ID[model.quantization]]
    return [*SEARCHED, *extra]


def _kernel(engine: Engine, lane: Lane, way: Way, device: Device) -> Kernel | None:
    return engine.kernel(lane.id, way[0].recipe.name, device.accelerator)


def unquantized(option: Option) -> Option | None:
    """The same option with 16-bit weights; None where the engine has no 16-bit kernel or the lane is one."""
    pairing = option.pairing
    for lane in (BY_ID["bf16"], BY_ID["fp16"]):
        kernel = pairing.engine.kernel(lane.id, lane.id, pairing.device.accelerator)
        if kernel is not None and kernel.refuse is None and pairing.lane.family != "16-bit":
            plain = structs.replace(pairing, lane=lane, method=lane.methods[0], kernel=kernel)
            return structs.replace(option, pairing=plain, cached=structs.replace(option.cached, pairing=plain))
    return None
