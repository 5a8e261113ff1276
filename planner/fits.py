"""Which fitted speed parameters apply to a pairing, how own measurements move them, and how wide its intervals are."""

from __future__ import annotations

from msgspec.structs import replace

from catalog import parameters
from catalog.engine import Assumed, Engine, Kernel
from catalog.load import Catalog
from catalog.observation import Deviation, Observation
from catalog.parameters import Parameters, Resolved, Setup
from planner import ownmemory, ownspeed
from planner.ownspeed import Asked, Machine, Moved
from planner.remembered import remembered
from planner.rules.rule import Pairing

SHARES = ("weight_efficiency", "cache_efficiency", "matrix_efficiency", "attention_efficiency")
"""What an engine without measurements on a device takes over from one that it is likened to …"""
LIKE_LANES = {"w16": "gguf:BF16", "int4-weight-only": "gguf:Q4_K_M"}
"""… in the lane that its kernel resembles; the others are like eight-bit blocks."""
EIGHT_BIT = "gguf:Q8_0"


class Fits:
    """The fitted parameters of one catalogue's pairings: few classes differ, so each is resolved once."""

    def __init__(
        self, fitted: Parameters, deviations: tuple[Deviation, ...] = (), observations: tuple[Observation, ...] = ()
    ) -> None:
        self.fitted = fitted
        self.sizes = ownmemory.known(observations)
        """What own engines said of their memory."""
        self._machines = ownspeed.machines(deviations)
        self._moved: dict[tuple[Asked, int], tuple[Moved, Resolved]] = {}
        """Moved parameters are kept: formulas tell a set of them by its identity."""
        self._resolved: dict[tuple[str, ...], Resolved] = {}
        self._pairings: dict[tuple[object, ...], tuple[Kernel, Resolved]] = {}
        """Kernels are told by identity and kept, so that no other can take one's place in memory."""
        self._bands: dict[tuple[str, bool], dict[str, tuple[float, float]]] = {}

    def of(self, pairing: Pairing) -> Resolved:
        """The parameters of this engine version, kernel and device, as own measurements of this machine move them."""
        machine = self._machine(pairing)
        return self._own(pairing, machine)[1] if machine else self._fitted_for(pairing)

    def moved(self, pairing: Pairing) -> Moved:
        """What own measurements say of it."""
        machine = self._machine(pairing)
        return self._own(pairing, machine)[0] if machine else ownspeed.STILL

    def _machine(self, pairing: Pairing) -> Machine | None:
        return self._machines.get((pairing.device.accelerator.id, pairing.engine.id))

    def _own(self, pairing: Pairing, machine: Machine) -> tuple[Moved, Resolved]:
        load = pairing.settled.load
        asked = Asked(
            accelerator=pairing.device.accelerator.id,
            engine=pairing.engine.id,
            version=pairing.engine.version,
            lane=pairing.lane.id,
            model=pairing.model.id,
            prompt=load.prompt.mean,
            output=load.output.mean,
        )
        fitted = self._fitted_for(pairing)
        key = asked, id(fitted)
        if key not in self._moved:
            by = machine.moved(asked)
            self._moved[key] = by, ownspeed.scaled(fitted, by)
        return self._moved[key]

    def _fitted_for(self, pairing: Pairing) -> Resolved:
        engine, kernel, device = pairing.engine, pairing.kernel, pairing.device.accelerator
        assert kernel is not None
        key = (engine.id, engine.version, pairing.lane.id, id(kernel), device.id, pairing.model.moe is None)
        if key not in self._pairings:
            self._pairings[key] = kernel, self._resolve(pairing, engine, kernel)
        return self._pairings[key][1]

    def _resolve(self, pairing: Pairing, engine: Engine, kernel: Kernel) -> Resolved:
        setup = Setup(
            engine=engine.id,
            generation=parameters.generation_of(engine.id, engine.version),
            lane=pairing.lane.id,
            moe=pairing.model.moe is not None,
        )
        classes = parameters.classes(setup, kernel, pairing.device.accelerator)
        assumed = engine.assumption(pairing.device.accelerator)
        if assumed is not None:
            return self._assumed_for(pairing, assumed, classes)
        if classes not in self._resolved:
            self._resolved[classes] = self.fitted.resolve(classes, parameters.family_of(engine.id))
        return self._resolved[classes]

    def _assumed_for(self, pairing: Pairing, assumed: Assumed, classes: tuple[str, ...]) -> Resolved:
        """The engine's own parameters with the shares of the engine it is likened to, and assumed host times."""
        kernel, device, like = pairing.kernel, pairing.device.accelerator, assumed.like
        assert kernel is not None
        key = (like, assumed.source, kernel.path, *classes)
        if key not in self._resolved:
            lane, age = LIKE_LANES.get(kernel.path, EIGHT_BIT), parameters.generation_of(like, "")
            setup = Setup(engine=like, generation=age, lane=lane, moe=pairing.model.moe is not None)
            near = self.fitted.resolve(parameters.classes(setup, kernel, device), parameters.family_of(like))
            own = self.fitted.resolve(classes, parameters.family_of(pairing.engine.id))
            moved = {name: getattr(near, name) for name in SHARES}
            moved |= {"step_s": assumed.step_s, "layer_s": assumed.layer_s}
            moved |= {"unpack_flops": near.unpack_flops} if kernel.path.endswith("weight-only") else {}
            moved |= {"unpack_flops": assumed.emulated_flops} if kernel.path.endswith("emulated") else {}
            self._resolved[key] = replace(own, **moved, basis="assumed", assumed=(assumed.source,))
        return self._resolved[key]

    def band(self, pairing: Pairing, name: str) -> tuple[float, float]:
        """Factors to both ends of the 80 % interval of `ttft`, `tpot`, `e2e`; wider where nothing was measured."""
        return self.bands(pairing)[name]

    def bands(self, pairing: Pairing) -> dict[str, tuple[float, float]]:
        """The same of all three."""
        by, usual = self.moved(pairing), self._usual(pairing)
        if by is ownspeed.STILL:
            return usual
        settled = {"ttft": by.prefill_settled, "tpot": by.decode_settled, "e2e": by.decode_settled}
        return {name: ownspeed.narrowed(ends, settled[name]) for name, ends in usual.items()}

    def _usual(self, pairing: Pairing) -> dict[str, tuple[float, float]]:
        """Before anything that the user measured."""
        assumed = pairing.engine.assumption(pairing.device.accelerator)
        if assumed is not None:
            widest = max(assumed.prefill_factor, assumed.decode_factor)
            slow = {"ttft": assumed.prefill_factor, "tpot": assumed.decode_factor, "e2e": widest}
            return {name: (1 / factor, factor) for name, factor in slow.items()}
        key = (pairing.engine.id, self._fitted_for(pairing).basis == "assumed")
        if key not in self._bands:
            self._bands[key] = {name: self._band(key[0], name, key[1]) for name in ("ttft", "tpot", "e2e")}
        return self._bands[key]

    def _band(self, engine: str, name: str, unseen: bool) -> tuple[float, float]:
        if engine == "llama.cpp":
            rate = "prefill_tok_s" if name == "ttft" else "decode_tok_s"
            low, high = self.fitted.band(engine, "batch1", rate, assumed=unseen)
            return 1 / high, 1 / low
        return self.fitted.band(engine, "closed", "ttft_ms" if name == "ttft" else "tpot_ms", assumed=unseen)


class Shifted(Fits):
    """The fitted parameters, decoding and prompts of every pairing so much longer, whatever was measured."""

    def __init__(self, fitted: Parameters, by: Moved) -> None:
        super().__init__(fitted)
        self.by = by
        self._shifted: dict[int, tuple[Resolved, Resolved]] = {}
        """With what they were made from, which is told by its identity."""

    def of(self, pairing: Pairing) -> Resolved:
        """The moved parameters."""
        fitted = self._fitted_for(pairing)
        if id(fitted) not in self._shifted:
            self._shifted[id(fitted)] = fitted, ownspeed.scaled(fitted, self.by)
        return self._shifted[id(fitted)][1]


@remembered(4)
def fits_of(catalog: Catalog) -> Fits:
    """The fits of a catalogue, what was resolved for earlier plans included."""
    return Fits(catalog.speed, catalog.deviations, catalog.observations)
