"""Numbers that remember how they were made.

A formula is an ordinary function over ordinary numbers. Called with floats it gives one answer, with NumPy arrays
thousands at once, and with `Num`s the same value together with its derivation: every step, its unit, its source.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from planner.plan import Step

Unit = Mapping[str, Fraction | int]
"""{"byte": 1, "s": -1}; a plain count is {}."""
ONE: Unit = {}
Array = NDArray[np.float64]
SUM, PRODUCT, POWER, ATOM = 1, 2, 3, 9
"""How tightly an expression binds."""


class Num:
    """A value, its unit, and the expression that made it."""

    __slots__ = ("form", "inputs", "name", "rank", "ranks", "source", "unit", "value", "why")

    def __init__(self, value: float, unit: Unit = ONE, *, name: str = "", source: str | None = None) -> None:
        self.value, self.unit, self.name, self.source = float(value), unit, name, source
        self.form, self.rank, self.ranks = "", ATOM, (ATOM, ATOM)
        self.why: str | None = None
        self.inputs: tuple[Num, ...] = ()

    @classmethod
    def made(cls, value: float, unit: Unit, form: str, inputs: tuple[Num, ...], rank: int = ATOM) -> Num:
        """The result of an operation: `form` has a {} for each input; `rank` is how tightly it binds."""
        num = cls(value, unit)
        num.form, num.inputs, num.rank = form, inputs, rank
        if rank == ATOM:
            num.ranks = (0, 0)
        else:
            num.ranks = (rank, rank + 1) if form[3] in "-÷" else (rank, rank)
        return num

    def __mul__(self, other: Num | float) -> Num:
        other = lift(other)
        unit = _times(self.unit, other.unit, 1)
        return Num.made(self.value * other.value, unit, "{} × {}", (self, other), PRODUCT)

    def __truediv__(self, other: Num | float) -> Num:
        other = lift(other)
        unit = _times(self.unit, other.unit, -1)
        return Num.made(self.value / other.value, unit, "{} ÷ {}", (self, other), PRODUCT)

    def __add__(self, other: Num | float) -> Num:
        other = _alike(self, lift(other))
        return Num.made(self.value + other.value, self.unit or other.unit, "{} + {}", (self, other), SUM)

    def __sub__(self, other: Num | float) -> Num:
        other = _alike(self, lift(other))
        return Num.made(self.value - other.value, self.unit or other.unit, "{} - {}", (self, other), SUM)

    def __rmul__(self, other: float) -> Num:
        return lift(other) * self

    def __rtruediv__(self, other: float) -> Num:
        return lift(other) / self

    def __radd__(self, other: float) -> Num:
        return lift(other) + self

    def __rsub__(self, other: float) -> Num:
        return lift(other) - self

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        return self.name or self.formula({})

    def formula(self, labels: Mapping[int, str]) -> str:
        """The expression in the names of its inputs; `labels` renames named numbers by identity."""
        return self.form.format(*[part.said(labels, rank) for part, rank in zip(self.inputs, self.ranks, strict=False)])

    def said(self, labels: Mapping[int, str], rank: int) -> str:
        """The name, or the expression in brackets where the surroundings bind tighter than `rank`."""
        if self.name:
            return labels.get(id(self), self.name)
        text = self.formula(labels)
        return text if self.rank >= rank else f"({text})"


N = TypeVar("N", float, Array, Num)
P = ParamSpec("P")
R = TypeVar("R")


def step(formula: Callable[P, R]) -> Callable[P, R]:
    """Name the result of a formula after the formula, and keep the first paragraph of its docstring as the why."""
    name, why = formula.__name__, " ".join((formula.__doc__ or "").split("\n\n")[0].split()) or None

    @wraps(formula)
    def named(*args: P.args, **kwargs: P.kwargs) -> R:
        made = formula(*args, **kwargs)
        if not isinstance(made, Num):
            return made
        whole = Num(made.value, made.unit, name=name)
        whole.why = why
        if made.name:
            whole.form, whole.inputs = "{}", (made,)
        else:
            whole.form, whole.inputs, whole.ranks = made.form, made.inputs, made.ranks
        return cast(R, whole)

    return named


def largest(first: N, second: N | float) -> N:
    """The binding one of two limits; the derivation shows both."""
    return _pick("max", first, second, max, np.maximum)


def smallest(first: N, second: N | float) -> N:
    """The lower of two limits; the derivation shows both."""
    return _pick("min", first, second, min, np.minimum)


def positive(x: N) -> N:
    """`x`, or zero where it is negative."""
    if isinstance(x, Num):
        return Num.made(max(x.value, 0.0), x.unit, "max({}, 0)", (x,))
    return cast(N, np.maximum(x, 0.0)) if isinstance(x, np.ndarray) else max(x, 0.0)


def root(x: N) -> N:
    """The square root; units are halved."""
    if isinstance(x, Num):
        unit = {name: Fraction(power) / 2 for name, power in x.unit.items()}
        return Num.made(math.sqrt(x.value), unit, "√({})", (x,))
    return cast(N, np.sqrt(x)) if isinstance(x, np.ndarray) else math.sqrt(x)


def power(x: N, exponent: N) -> N:
    """`x` to a plain power; both are plain counts."""
    return _plain2("{} ^ {}", x, exponent, math.pow, np.power)


def exponential(x: N) -> N:
    """e to a plain count."""
    return _plain1("exp", x, math.exp, np.exp)


def logarithm(x: N) -> N:
    """The natural logarithm of a plain count."""
    return _plain1("ln", x, math.log, np.log)


def doublings(x: N) -> N:
    """How many times 1 must be doubled to reach `x`: the base-2 logarithm of a plain count."""
    return _plain1("log2", x, math.log2, np.log2)


def ceiling(x: N) -> N:
    """The next whole number; the unit stays."""
    if isinstance(x, Num):
        return Num.made(math.ceil(x.value), x.unit, "ceil({})", (x,))
    return cast(N, np.ceil(x)) if isinstance(x, np.ndarray) else float(math.ceil(x))


def whole(x: N) -> N:
    """The whole number below; the unit stays."""
    if isinstance(x, Num):
        return Num.made(math.floor(x.value), x.unit, "floor({})", (x,))
    return cast(N, np.floor(x)) if isinstance(x, np.ndarray) else float(math.floor(x))


def present(x: N) -> bool:
    """Whether any element is more than nothing: spares the formulas of what a model does not have."""
    return bool(np.any(x > 0)) if isinstance(x, np.ndarray) else float(x) > 0


def worth(x: N) -> bool:
    """Whether a part that counts `x` times is worth its time: not where it is nothing, unless a derivation shows it."""
    return isinstance(x, Num) or bool(x.any() if isinstance(x, np.ndarray) else x)


def derivation(results: Iterable[Num]) -> list[Step]:
    """Every named number under `results`, causes before effects.

    A formula that was used twice with different numbers appears twice, the second time with a prime: weight_s′.
    """
    labels: dict[int, str] = {}
    steps: dict[str, Step] = {}
    seen: set[int] = set()
    for result in results:
        for num in _causes_first(result, seen, []):
            if not num.name:
                continue
            labels[id(num)] = label = _label(num, steps)
            if label not in steps:
                formula = num.formula(labels) or None
                steps[label] = Step(
                    name=label,
                    value=num.value,
                    unit=unit_text(num.unit),
                    formula=formula,
                    why=num.why,
                    source=num.source,
                )
    return list(steps.values())


def _label(num: Num, steps: Mapping[str, Step]) -> str:
    """The number's name, with as many primes as it takes to tell it from others of that name and another value."""
    label = num.name
    while label in steps and steps[label].value != num.value:
        label += "′"
    return label


def lift(x: Num | float) -> Num:
    return x if isinstance(x, Num) else Num.made(x, ONE, f"{x:g}", ())


def unit_text(unit: Unit) -> str:
    """`byte/s`, `flop/byte`, `1` for a plain count."""
    return _unit_text(tuple(unit.items())) if unit else "1"


@lru_cache(maxsize=256)
def _unit_text(unit: tuple[tuple[str, Fraction | int], ...]) -> str:
    def side(sign: int) -> str:
        powers = sorted((name, n * sign) for name, n in unit if n * sign > 0)
        return "·".join(name if n == 1 else f"{name}^{n}" for name, n in powers)

    return (side(1) or "1") + (f"/{side(-1)}" if side(-1) else "")


def _pick(
    word: str, first: N, second: N | float, scalar: Callable[[float, float], float], vector: np.ufunc
) -> N:  # `max` and `min` differ in nothing else
    if isinstance(first, Num) or isinstance(second, Num):
        one, other = lift(cast(Num | float, first)), lift(second)
        _alike(one, other)
        return Num.made(scalar(one.value, other.value), one.unit or other.unit, word + "({}, {})", (one, other))
    if isinstance(first, np.ndarray) or isinstance(second, np.ndarray):
        return cast(N, vector(first, second))
    return scalar(float(first), float(second))


def _plain1(word: str, x: N, scalar: Callable[[float], float], vector: np.ufunc) -> N:
    if isinstance(x, Num):
        return Num.made(scalar(_count(x)), ONE, word + "({})", (x,))
    return cast(N, vector(x)) if isinstance(x, np.ndarray) else scalar(x)


def _plain2(form: str, x: N, y: N, scalar: Callable[[float, float], float], vector: np.ufunc) -> N:
    if isinstance(x, Num) and isinstance(y, Num):
        return Num.made(scalar(_count(x), _count(y)), ONE, form, (x, y), POWER)
    if isinstance(x, np.ndarray) or isinstance(y, np.ndarray):
        return cast(N, vector(x, y))
    return scalar(float(x), float(y))


def _count(x: Num) -> float:
    if x.unit:
        raise TypeError(f"{x} is in {unit_text(x.unit)}, a plain count was expected")
    return x.value


def _causes_first(num: Num, seen: set[int], found: list[Num]) -> list[Num]:
    """Everything under `num` that was not seen yet, and last itself, at the end of `found`."""
    if id(num) not in seen:
        seen.add(id(num))
        for cause in num.inputs:
            _causes_first(cause, seen, found)
        found.append(num)
    return found


def _times(a: Unit, b: Unit, sign: int) -> Unit:
    if not b:
        return a
    powers = {name: a.get(name, 0) + sign * b.get(name, 0) for name in {**a, **b}}
    return {name: n for name, n in powers.items() if n}


def _alike(a: Num, b: Num) -> Num:
    if a.unit != b.unit and not _zero(a) and not _zero(b):
        raise TypeError(f"{a} is in {unit_text(a.unit)}, {b} in {unit_text(b.unit)}")
    return b


def _zero(x: Num) -> bool:
    """Nothing is nothing in every unit."""
    return x.value == 0 and not x.name
