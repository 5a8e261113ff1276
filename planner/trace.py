"""Numbers that remember how they were made.

A formula is an ordinary function over ordinary numbers. Called with floats it gives one answer, with NumPy arrays
thousands at once, and with `Num`s the same value together with its derivation: every step, its unit, its source.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction
from functools import wraps
from typing import ParamSpec, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from planner.plan import Step

Unit = Mapping[str, Fraction | int]
"""{"byte": 1, "s": -1}; a plain count is {}."""
ONE: Unit = {}
Array = NDArray[np.float64]


class Num:
    """A value, its unit, and the expression that made it."""

    __slots__ = ("formula", "inputs", "name", "rank", "source", "unit", "value", "why")

    def __init__(self, value: float, unit: Unit = ONE, *, name: str = "", source: str | None = None) -> None:
        self.value, self.unit, self.name, self.source = float(value), unit, name, source
        self.formula, self.rank = "", 9
        self.why: str | None = None
        self.inputs: tuple[Num, ...] = ()

    @classmethod
    def made(cls, value: float, unit: Unit, formula: str, rank: int, inputs: tuple[Num, ...]) -> Num:
        num = cls(value, unit)
        num.formula, num.rank, num.inputs = formula, rank, inputs
        return num

    def __mul__(self, other: Num | float) -> Num:
        other = lift(other)
        return self._with(other, "×", 2, self.value * other.value, _times(self.unit, other.unit, 1))

    def __truediv__(self, other: Num | float) -> Num:
        other = lift(other)
        return self._with(other, "÷", 2, self.value / other.value, _times(self.unit, other.unit, -1))

    def __add__(self, other: Num | float) -> Num:
        other = _alike(self, lift(other))
        return self._with(other, "+", 1, self.value + other.value, self.unit)

    def __sub__(self, other: Num | float) -> Num:
        other = _alike(self, lift(other))
        return self._with(other, "-", 1, self.value - other.value, self.unit)

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
        return self.name or self.formula

    def _with(self, other: Num, sign: str, rank: int, value: float, unit: Unit) -> Num:
        right = rank + 1 if sign in "-÷" else rank
        return Num.made(value, unit, f"{self._in(rank)} {sign} {other._in(right)}", rank, (self, other))

    def _in(self, rank: int) -> str:
        return str(self) if self.name or self.rank >= rank else f"({self})"


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
        whole.formula, whole.why = str(made), why
        whole.inputs = (made,) if made.name else made.inputs
        return cast(R, whole)

    return named


def largest(first: N, second: N) -> N:
    """The binding one of two limits; the derivation shows both."""
    return _pick("max", first, second, max, np.maximum)


def smallest(first: N, second: N) -> N:
    """The lower of two limits; the derivation shows both."""
    return _pick("min", first, second, min, np.minimum)


def positive(x: N) -> N:
    """`x`, or zero where it is negative."""
    if isinstance(x, Num):
        return Num.made(max(x.value, 0.0), x.unit, f"max({x}, 0)", 9, (x,))
    return cast(N, np.maximum(x, 0.0)) if isinstance(x, np.ndarray) else max(x, 0.0)


def root(x: N) -> N:
    """The square root; units are halved."""
    if isinstance(x, Num):
        unit = {name: Fraction(power) / 2 for name, power in x.unit.items()}
        return Num.made(math.sqrt(x.value), unit, f"√({x})", 9, (x,))
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
        return Num.made(math.ceil(x.value), x.unit, f"ceil({x})", 9, (x,))
    return cast(N, np.ceil(x)) if isinstance(x, np.ndarray) else float(math.ceil(x))


def whole(x: N) -> N:
    """The whole number below; the unit stays."""
    if isinstance(x, Num):
        return Num.made(math.floor(x.value), x.unit, f"floor({x})", 9, (x,))
    return cast(N, np.floor(x)) if isinstance(x, np.ndarray) else float(math.floor(x))


def derivation(results: Iterable[Num]) -> list[Step]:
    """Every named number under `results`, each name once, causes before effects."""
    steps: dict[str, Step] = {}
    seen: set[int] = set()
    for result in results:
        for num in _causes_first(result, seen):
            if num.name and num.name not in steps:
                made = Step(
                    name=num.name, value=num.value, unit=unit_text(num.unit), formula=num.formula or None, why=num.why,
                    source=num.source,
                )  # fmt: skip
                steps[num.name] = made
    return list(steps.values())


def lift(x: Num | float) -> Num:
    return x if isinstance(x, Num) else Num.made(x, ONE, f"{x:g}", 9, ())


def unit_text(unit: Unit) -> str:
    """`byte/s`, `flop/byte`, `1` for a plain count."""

    def side(sign: int) -> str:
        powers = sorted((name, n * sign) for name, n in unit.items() if n * sign > 0)
        return "·".join(name if n == 1 else f"{name}^{n}" for name, n in powers)

    return (side(1) or "1") + (f"/{side(-1)}" if side(-1) else "")


def _pick(
    word: str, first: N, second: N, scalar: Callable[[float, float], float], vector: np.ufunc
) -> N:  # `max` and `min` differ in nothing else
    if isinstance(first, Num) or isinstance(second, Num):
        one, other = lift(cast(Num | float, first)), lift(cast(Num | float, second))
        _alike(one, other)
        return Num.made(
            scalar(one.value, other.value), one.unit or other.unit, f"{word}({one}, {other})", 9, (one, other)
        )
    if isinstance(first, np.ndarray) or isinstance(second, np.ndarray):
        return cast(N, vector(first, second))
    return scalar(float(first), float(second))


def _plain1(word: str, x: N, scalar: Callable[[float], float], vector: np.ufunc) -> N:
    if isinstance(x, Num):
        return Num.made(scalar(_count(x)), ONE, f"{word}({x})", 9, (x,))
    return cast(N, vector(x)) if isinstance(x, np.ndarray) else scalar(x)


def _plain2(form: str, x: N, y: N, scalar: Callable[[float, float], float], vector: np.ufunc) -> N:
    if isinstance(x, Num) and isinstance(y, Num):
        return Num.made(scalar(_count(x), _count(y)), ONE, form.format(x._in(9), y._in(9)), 3, (x, y))
    if isinstance(x, np.ndarray) or isinstance(y, np.ndarray):
        return cast(N, vector(x, y))
    return scalar(float(x), float(y))


def _count(x: Num) -> float:
    if x.unit:
        raise TypeError(f"{x} is in {unit_text(x.unit)}, a plain count was expected")
    return x.value


def _causes_first(num: Num, seen: set[int]) -> Iterator[Num]:
    if id(num) in seen:
        return
    seen.add(id(num))
    for cause in num.inputs:
        yield from _causes_first(cause, seen)
    yield num


def _times(a: Unit, b: Unit, sign: int) -> Unit:
    powers = {name: a.get(name, 0) + sign * b.get(name, 0) for name in {**a, **b}}
    return {name: n for name, n in powers.items() if n}


def _alike(a: Num, b: Num) -> Num:
    if dict(a.unit) != dict(b.unit) and not _zero(a) and not _zero(b):
        raise TypeError(f"{a} is in {unit_text(a.unit)}, {b} in {unit_text(b.unit)}")
    return b


def _zero(x: Num) -> bool:
    """Nothing is nothing in every unit."""
    return x.value == 0 and not x.name
