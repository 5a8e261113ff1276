"""Numbers that remember how they were made."""

from __future__ import annotations

import pytest

from planner.trace import Num, ceiling, derivation, largest, power, root, smallest, step

A, B, C = Num(2, {"s": 1}, name="a"), Num(3, {"s": 1}, name="b"), Num(4, name="c")


@step
def total(first: Num, second: Num) -> Num:
    """Both together.

    This paragraph is for readers of the code.
    """
    return first + second


@pytest.mark.parametrize(
    ("number", "text", "value"),
    [
        ((A - (B - A)) * C / (C * C), "(a - (b - a)) × c ÷ (c × c)", 0.25),
        ((A + B) * C, "(a + b) × c", 20),
        (A + B - A, "a + b - a", 3),
        (power(C, C - 1), "c ^ (c - 1)", 64),
        (smallest(A, B) * 2, "min(a, b) × 2", 4),
        (largest(C, Num(9.0, name="nine")), "max(c, nine)", 9),
        (1 / (A / C + B), "1 ÷ (a ÷ c + b)", 1 / 3.5),
        (root(A * A), "√(a × a)", 2),
        (ceiling(C / 3), "ceil(c ÷ 3)", 2),
    ],
)
def test_the_text_of_a_formula_is_what_was_computed(number: Num, text: str, value: float) -> None:
    assert str(number) == text
    assert float(number) == pytest.approx(value)


def test_a_step_takes_its_name_and_the_first_paragraph_as_its_why() -> None:
    made = total(A, B)
    assert (made.name, made.why) == ("total", "Both together.")
    assert [line.name for line in derivation([made])] == ["a", "b", "total"]


def test_causes_come_before_effects_and_each_once() -> None:
    lines = derivation([total(total(A, B), A)])
    assert [line.name for line in lines] == ["a", "b", "total", "total′"]
    assert lines[-1].formula == "total + a"


def test_the_same_formula_with_other_numbers_is_told_apart() -> None:
    lines = {line.name: line for line in derivation([total(A, B) / total(B, B)])}
    assert (lines["total"].value, lines["total′"].value) == (5, 6)
    both = derivation([total(total(A, B), total(B, B))])
    assert both[-1].formula == "total + total′"


def test_units_multiply_and_do_not_mix() -> None:
    speed = Num(8, {"byte": 1}, name="size") / A
    assert derivation([total(speed, speed)])[-1].unit == "byte/s"
    with pytest.raises(TypeError, match="a is in s, c in 1"):
        A + C
    with pytest.raises(TypeError, match="plain count"):
        power(A, C)


def test_nothing_is_nothing_in_every_unit() -> None:
    assert float(A + 0 * C) == 2
