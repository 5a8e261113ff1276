"""How an answer is taken token by token: chance by item, what ends it, what is called a repetition."""

from __future__ import annotations

import numpy as np
import pytest

from planner.workers import answer_talk
from planner.workers.answer_talk import EMPTY, LOOP, NOT_FINITE, Choice, Talk, chance_of, chosen, loops

ITEM = "ab" * 32


def row(*shares: float) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(np.array(shares))


def drawn(logits: np.ndarray, choice: Choice, count: int = 4000) -> np.ndarray:
    chance = np.random.default_rng(1)
    return np.bincount([chosen(logits, choice, chance) for _ in range(count)], minlength=len(logits)) / count


def test_greedy_takes_the_likeliest_and_the_first_of_equals() -> None:
    chance = np.random.default_rng(0)
    assert chosen(row(0.2, 0.5, 0.3), Choice(), chance) == 1
    assert chosen(row(0.4, 0.4, 0.2), Choice(), chance) == 0


def test_tokens_come_as_often_as_they_are_likely() -> None:
    assert drawn(row(0.2, 0.5, 0.3), Choice(temperature=1.0)) == pytest.approx([0.2, 0.5, 0.3], abs=0.03)
    warm = np.sqrt([0.2, 0.5, 0.3])
    assert drawn(row(0.2, 0.5, 0.3), Choice(temperature=2.0)) == pytest.approx(warm / warm.sum(), abs=0.03)


def test_top_k_and_top_p_leave_the_tail_out() -> None:
    shares = row(0.05, 0.5, 0.3, 0.15)
    two = [0.0, 0.625, 0.375, 0.0]
    assert drawn(shares, Choice(temperature=1.0, top_k=2)) == pytest.approx(two, abs=0.03)
    assert drawn(shares, Choice(temperature=1.0, top_p=0.6)) == pytest.approx(two, abs=0.03)
    assert drawn(shares, Choice(temperature=1.0, top_p=0.79)) == pytest.approx(two, abs=0.03)
    assert drawn(shares, Choice(temperature=1.0, top_p=0.5)) == pytest.approx([0, 1, 0, 0])
    assert drawn(shares, Choice(temperature=1.0, top_p=1e-9)) == pytest.approx([0, 1, 0, 0])
    assert drawn(row(0.0, 1.0, 0.0), Choice(temperature=1.0)) == pytest.approx([0, 1, 0])


def test_chance_is_the_items_own() -> None:
    one, again = (chance_of(7, ITEM, 0).random(4) for _ in range(2))
    assert list(one) == list(again)
    others = [chance_of(8, ITEM, 0), chance_of(7, "cd" * 32, 0), chance_of(7, ITEM, 1)]
    assert all(list(other.random(4)) != list(one) for other in others)


def talk(most: int = 4) -> Talk:
    return Talk([1, 2], Choice(), frozenset({0}), most, chance_of(0, ITEM, 0))


def test_an_answer_ends_at_its_end_at_its_length_or_where_numbers_break() -> None:
    own = talk()
    assert own.take(row(0.1, 0.9)) == 1
    assert own.take(row(0.9, 0.1)) is None
    assert (own.said, own.stopped, own.faults("x")) == ([1], "end", [])
    own = talk(2)
    assert own.take(row(0.1, 0.9)) == 1
    assert own.take(row(0.1, 0.9)) is None
    assert (own.said, own.stopped) == ([1, 1], "length")
    for broken in (row(np.nan, 0.9), np.array([np.inf, 0.0]), np.array([-np.inf, -np.inf])):
        own = talk()
        assert own.take(broken) is None
        assert own.faults("") == [NOT_FINITE]
    own = talk()
    own.take(row(0.9, 0.1))
    assert own.faults(" \n") == [EMPTY]


@pytest.mark.parametrize(
    ("said", "looping"),
    [
        ([7] * 64, True),
        ([1, 2, 3] * 30, True),
        (list(range(100)) + [5, 6, 7, 8, 9] * 20, True),
        ([1, 2, 3] * 9 + [4] + [1, 2, 3] * 9, True),
        (list(range(20)) * 2, False),
        (list(range(200)), False),
        ([1, 2] * 15, False),
        ([], False),
    ],
)
def test_a_repetition_is_one_passage_over_and_over_in_the_last_half(said: list[int], looping: bool) -> None:
    assert loops(said) == looping


def test_ordinary_text_is_no_repetition() -> None:
    """Tokens as unevenly spread as words are, at any length."""
    chance = np.random.default_rng(2)
    for length in (40, 128, 512):
        assert not any(loops(list(chance.zipf(1.3, length) % 1000)) for _ in range(50))


def test_only_an_answer_that_was_cut_can_be_one() -> None:
    for stopped, faults in (("length", [LOOP]), ("end", [])):
        own = talk()
        own.said, own.stopped = [7] * 64, stopped
        assert own.faults("text") == faults
    assert (answer_talk.NOT_FINITE, EMPTY, LOOP) == ("not finite", "empty", "repetition")
