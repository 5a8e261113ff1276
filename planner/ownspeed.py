"""What the user's own measurements of speed say of the formulas, on the same machine: a posterior, not a factor.

Decoding and prompts each take some factor longer than the formulas say; its logarithm is unknown before a measurement and
normal: one part is the machine's with this engine, one more the model's and lane's on it, one more the length's.
Spreads are those of the published rows (docs/accuracy/speed.md): the machine's part is the residual of a source that was
left out of the fit, the others lie between and within groups of in-sample residuals. Other machines have nothing in
common with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from catalog.observation import Deviation
from catalog.parameters import Resolved

DECODING = ("weight_efficiency", "cache_efficiency", "link_efficiency", "step_s", "layer_s", "sequence_s", "exchange_s")
PROMPTS = ("matrix_efficiency", "attention_efficiency", "request_s", "arrival_s")
"""Parameters that each factor moves: shares are divided by it, seconds multiplied."""


class Spread(Struct, frozen=True, kw_only=True):
    """Standard deviations of logarithms."""

    machine: float
    case: float
    length: float


PRIORS: dict[str, tuple[Spread, Spread]] = {
    "llama.cpp": (Spread(machine=0.18, case=0.07, length=0.06), Spread(machine=0.39, case=0.08, length=0.22)),
    "": (Spread(machine=0.38, case=0.10, length=0.08), Spread(machine=0.43, case=0.28, length=0.23)),
}
"""Decoding and prompts by engine, the last row for engines that batch. Machine: median |ln| with the source left out over
0.674 (decode_tok_s 0.123, prefill_tok_s 0.264; tpot_ms 0.260; for ttft_ms the larger 0.287 with the accelerator left out). Case:
between models and lanes of one source and device, in sample. Length: the median within one of those."""
REACH = 1.0
"""Distance of logarithms of lengths over which what a length adds is forgotten (assumed: a factor of 2.7)."""


class Asked(Struct, frozen=True, kw_only=True):
    """What a plan's pairing has in common with measurements. Mean tokens."""

    accelerator: str
    engine: str
    version: str
    lane: str
    model: str
    prompt: float
    output: float


class Moved(Struct, frozen=True, kw_only=True):
    """Logarithms by which times move, and the shares of their variance that measurements settle."""

    decode: float = 0.0
    prefill: float = 0.0
    decode_settled: float = 0.0
    prefill_settled: float = 0.0
    measured: bool = False
    """Whether this model in this lane was measured with this engine version on this machine."""


STILL = Moved()


def moved(deviations: Sequence[Deviation], asked: Asked) -> Moved:
    """What the machine's own measurements say of a pairing; nothing where there are none."""
    near = [each for each in deviations if each.accelerator == asked.accelerator and each.engine == asked.engine]
    if not near:
        return STILL
    priors = _priors(near, asked.engine)
    here = Deviation(
        **{name: getattr(asked, name) for name in Asked.__struct_fields__}, decode=1, prefill=1, deviation=0, noise=0
    )  # fmt: skip
    among = np.array([[_covariance(a, b, priors) for b in near] for a in near])
    among += np.diag([each.noise for each in near])
    measured = np.array([each.deviation for each in near])
    found = [_posterior(among, _beside(near, here, priors, which), measured) for which in (0, 1)]
    whole = [each.machine**2 + each.case**2 + each.length**2 for each in priors]
    return Moved(
        decode=found[0][0], prefill=found[1][0], decode_settled=found[0][1] / whole[0],
        prefill_settled=found[1][1] / whole[1], measured=any(_same(each, here) for each in near),
    )  # fmt: skip


def scaled(fitted: Resolved, by: Moved) -> Resolved:
    """The parameters with which decoding and prompts take so much longer."""
    values = {
        name: getattr(fitted, name) * math.exp(shift if name.endswith("_s") else -shift)
        for names, shift in ((DECODING, by.decode), (PROMPTS, by.prefill))
        for name in names
    }
    return replace(fitted, **values, basis="measured" if by.measured else fitted.basis)


def narrowed(band: tuple[float, float], settled: float) -> tuple[float, float]:
    """The ends of an interval once this share of the variance is known."""
    left = math.sqrt(max(0.0, 1 - settled))
    return band[0] ** left, band[1] ** left


def _priors(near: Sequence[Deviation], engine: str) -> tuple[Spread, Spread]:
    """A machine that lies far off says itself that the spread between machines is too narrow for it."""
    usual = PRIORS.get(engine, PRIORS[""])
    far = [
        math.sqrt(sum((each.deviation * getattr(each, name)) ** 2 for each in near) / max(1e-9, sum(getattr(each, name) ** 2 for each in near)))
        for name in ("decode", "prefill")
    ]  # fmt: skip
    decode, prefill = (replace(each, machine=max(each.machine, off)) for each, off in zip(usual, far, strict=True))
    return decode, prefill


def _covariance(a: Deviation, b: Deviation, priors: tuple[Spread, Spread]) -> float:
    return a.decode * b.decode * _kernel(a, b, priors[0]) + a.prefill * b.prefill * _kernel(a, b, priors[1])


def _beside(near: Sequence[Deviation], here: Deviation, priors: tuple[Spread, Spread], which: int) -> NDArray[np.float64]:
    return np.array([(each.decode, each.prefill)[which] * _kernel(each, here, priors[which]) for each in near])


def _kernel(a: Deviation, b: Deviation, spread: Spread) -> float:
    """Covariance of what decoding, or prompts, take longer in two cases on one machine with one engine."""
    case = a.lane == b.lane and a.model == b.model
    far = sum(math.log(max(x, 1.0) / max(y, 1.0)) ** 2 for x, y in ((a.prompt, b.prompt), (a.output, b.output)))
    length = spread.length**2 * math.exp(-0.5 * far / REACH**2) if case else 0.0
    return spread.machine**2 + spread.case**2 * case + length


def _posterior(
    among: NDArray[np.float64], beside: NDArray[np.float64], measured: NDArray[np.float64]
) -> tuple[float, float]:
    """Mean, and the variance that is settled."""
    weights = np.linalg.solve(among + 1e-12 * np.eye(len(measured)), beside)
    return float(weights @ measured), float(weights @ beside)


def _same(a: Deviation, b: Deviation) -> bool:
    return (a.lane, a.model) == (b.lane, b.model) and a.version.split(" ")[0] == b.version.split(" ")[0]
