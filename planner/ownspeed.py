"""What the user's own measurements of speed say of the formulas, on the same machine: a posterior, not a factor.

Decoding and prompts each take some factor longer than the formulas say; its logarithm is unknown before a measurement
and normal: one part is the machine's with this engine, one more the model's and lane's on it, one more the length's.
Spreads are those of the published rows (docs/accuracy/speed.md): the machine's part is the residual of a source that
was left out of the fit, the others lie between and within groups of in-sample residuals. Other machines have nothing
in common with it.
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

DECODING = (
    "weight_efficiency", "cache_efficiency", "link_efficiency", "step_s", "layer_s", "sequence_s", "exchange_s",
    "unpack_flops",
)  # fmt: skip
PROMPTS = ("matrix_efficiency", "attention_efficiency", "request_s", "arrival_s")
"""Parameters that each factor moves: shares are divided by it, seconds and operations multiplied."""
COSTS = ("_s", "_flops")
"""How the names of what is multiplied end."""


Numbers = NDArray[np.float64]
Places = NDArray[np.float64]


class Spread(Struct, frozen=True, kw_only=True):
    """Standard deviations of logarithms."""

    machine: float
    case: float
    length: float


PRIORS: dict[str, tuple[Spread, Spread]] = {
    "llama.cpp": (Spread(machine=0.18, case=0.07, length=0.06), Spread(machine=0.39, case=0.08, length=0.22)),
    "": (Spread(machine=0.38, case=0.10, length=0.08), Spread(machine=0.43, case=0.28, length=0.23)),
}
"""Decoding and prompts by engine, the last row for engines that batch. Machine: median |ln| with the source left out
over 0.674 (decode_tok_s 0.123, prefill_tok_s 0.264; tpot_ms 0.260; for ttft_ms the larger 0.287 with the accelerator
left out). Case: between models and lanes of one source and device, in sample. Length: median within one of those."""
REACH = 1.0
"""Distance of logarithms of lengths over which what a length adds is forgotten (assumed: a factor of 2.7)."""

REMAINS = 1.0
"""Variance that stays unknown at another load, in units of the length's: users, bursts, percentiles (assumed)."""


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


class Machine:
    """What was measured on one accelerator with one engine, ready to be asked."""

    def __init__(self, near: Sequence[Deviation], engine: str) -> None:
        self._usual = PRIORS.get(engine, PRIORS[""])
        self._cases = {
            key: number for number, key in enumerate(dict.fromkeys((each.lane, each.model) for each in near))
        }
        self._versions = {(each.lane, each.model, _release(each.version)) for each in near}
        self._at = self._places(near)
        self._slopes = np.array([(each.decode, each.prefill) for each in near])
        measured = np.array([each.deviation for each in near])
        self._priors = _widened(self._usual, self._slopes, measured)
        among = np.diag([each.noise + 1e-12 for each in near])
        for which, spread in enumerate(self._priors):
            slope = self._slopes[:, which]
            among = among + slope[:, None] * slope * _kernel(self._at, self._at, spread)
        self._inverse = np.linalg.inv(among)
        self._settled = self._inverse @ measured

    def moved(self, asked: Asked) -> Moved:
        """The posterior of a pairing's two logarithms."""
        here, shifts, settled = self._places([asked]), [0.0, 0.0], [0.0, 0.0]
        for which, (spread, usual) in enumerate(zip(self._priors, self._usual, strict=True)):
            beside = self._slopes[:, which] * _kernel(self._at, here, spread)[:, 0]
            known = float(beside @ self._inverse @ beside)
            shifts[which] = float(beside @ self._settled)
            settled[which] = max(0.0, 1 - (_variance(spread) - known) / _variance(usual))
        return Moved(
            decode=shifts[0], prefill=shifts[1], decode_settled=settled[0], prefill_settled=settled[1],
            measured=(asked.lane, asked.model, _release(asked.version)) in self._versions,
        )  # fmt: skip

    def _places(self, cases: Sequence[Deviation | Asked]) -> Places:
        """[case, (number of lane and model, ln prompt, ln output)]; -1 for a lane and model that were not measured."""
        return np.array(
            [
                (
                    self._cases.get((each.lane, each.model), -1),
                    math.log(max(each.prompt, 1.0)),
                    math.log(max(each.output, 1.0)),
                )
                for each in cases
            ]
        )


def machines(deviations: Sequence[Deviation]) -> dict[tuple[str, str], Machine]:
    """By accelerator and engine: other machines have nothing in common with one."""
    near: dict[tuple[str, str], list[Deviation]] = {}
    for each in deviations:
        near.setdefault((each.accelerator, each.engine), []).append(each)
    return {key: Machine(found, key[1]) for key, found in near.items()}


def moved(deviations: Sequence[Deviation], asked: Asked) -> Moved:
    """What the machine's own measurements say of a pairing; nothing where there are none."""
    found = machines(deviations).get((asked.accelerator, asked.engine))
    return STILL if found is None else found.moved(asked)


def scaled(fitted: Resolved, by: Moved) -> Resolved:
    """The parameters with which decoding and prompts take so much longer."""
    values = {
        name: getattr(fitted, name) * math.exp(shift if name.endswith(COSTS) else -shift)
        for names, shift in ((DECODING, by.decode), (PROMPTS, by.prefill))
        for name in names
    }
    return replace(fitted, **values, basis="measured" if by.measured else fitted.basis)


def narrowed(band: tuple[float, float], settled: float) -> tuple[float, float]:
    """The ends of an interval once this share of the variance is known."""
    left = math.sqrt(max(0.0, 1 - settled))
    return band[0] ** left, band[1] ** left


def _variance(spread: Spread) -> float:
    """Of a pairing before anything is measured, with what stays unknown at another load."""
    return spread.machine**2 + spread.case**2 + (1 + REMAINS) * spread.length**2


def _widened(usual: tuple[Spread, Spread], slopes: Numbers, off: Numbers) -> tuple[Spread, Spread]:
    """A machine that lies far off says itself that the spread between machines is too narrow for it."""
    decode, prefill = usual
    far = np.sqrt(((off[:, None] * slopes) ** 2).sum(axis=0) / np.maximum((slopes**2).sum(axis=0), 1e-9))
    return (
        replace(decode, machine=max(decode.machine, float(far[0]))),
        replace(prefill, machine=max(prefill.machine, float(far[1]))),
    )


def _kernel(a: Places, b: Places, spread: Spread) -> Numbers:
    """[a, b]: covariance of what decoding, or prompts, take longer in two cases on one machine with one engine."""
    case = (a[:, None, 0] == b[None, :, 0]) & (a[:, None, 0] >= 0)
    far = ((a[:, None, 1:] - b[None, :, 1:]) ** 2).sum(axis=2)
    length = spread.length**2 * np.exp(-0.5 * far / REACH**2)
    return np.asarray(spread.machine**2 + case * (spread.case**2 + length))


def _release(version: str) -> str:
    """`b4798` of `b4798 (1782cdfe)`."""
    return version.partition(" ")[0]
