"""What paired answers come to: differences of scores, turned answers, recovery, threshold by threshold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from msgspec import Struct, structs

from catalog.errors import BadInput
from planner.plan import Gate, Threshold
from planner.proving import bounds
from planner.proving.bounds import Numbers
from planner.proving.checks import Check, check

CORRECT = 0.5
"""A score from which an answer counts as right."""


class Pairs(Struct, frozen=True, kw_only=True):
    """Scores from 0 to 1 of both sides' answers, pair by pair; `items` names what was asked, `tasks` of which part."""

    baseline: tuple[float, ...]
    candidate: tuple[float, ...]
    items: tuple[str, ...] = ()
    """Answers to the same item are averaged: only items are independent. Empty: each pair is its own item."""
    tasks: tuple[str, ...] = ()
    on: str = ""
    """What was asked, and how answers were chosen, for people."""


def on_answers(gate: Gate, answers: Mapping[str, Pairs]) -> Iterator[Check]:
    """Thresholds of a gate on paired answers; `task:*` = of all tasks together."""
    if gate.id == "flip_rate":
        pairs = _of_tasks(answers)
        if pairs:
            wrong, on = np.concatenate([_flips(each) for each in pairs]), "; ".join(dict.fromkeys(e.on for e in pairs))
            yield from (check(bounds.item_share("right_to_wrong", wrong), each, on) for each in gate.thresholds)
    elif gate.id in answers:
        for threshold in gate.thresholds:
            yield _of_answers(threshold, answers[gate.id], gate.id)


def _of_tasks(answers: Mapping[str, Pairs]) -> list[Pairs]:
    """All tasks' answers; an item that counts for several tasks once."""
    seen: set[str] = set()
    found = []
    for name, pairs in sorted(answers.items()):
        if not name.startswith("task:") and name != "long_context":
            continue
        scores(pairs, name)
        new = [place for place, item in enumerate(pairs.items) if item not in seen]
        seen.update(pairs.items)
        found.append(pairs if not pairs.items else _chosen(pairs, new))
    return [each for each in found if each.baseline]


def _chosen(pairs: Pairs, places: Sequence[int]) -> Pairs:
    """Some of the pairs."""
    lists = {name: value for name in pairs.__struct_fields__ if isinstance(value := getattr(pairs, name), tuple)}
    return structs.replace(
        pairs, **{name: tuple(value[place] for place in places) if value else () for name, value in lists.items()}
    )


def _of_answers(threshold: Threshold, pairs: Pairs, name: str) -> Check:
    base, other = scores(pairs, name)
    if threshold.statistic in ("paired_difference", "valid_answers_difference"):
        if 100 * float(base.mean()) <= -threshold.value:
            return _nothing_to_lose(threshold, base, pairs.on)
        found = check(bounds.paired_difference(threshold.statistic, base, other), threshold, pairs.on)
        return structs.replace(found, because=found.because + _mcnemar(base, other))
    if threshold.statistic not in ("mean_recovery", "worst_task_recovery"):
        raise BadInput(f"no statistic of answers is called {threshold.statistic}", name)
    if base.sum() <= 0:
        return _nothing_to_lose(threshold, base, pairs.on)
    if threshold.statistic == "mean_recovery":
        return check(bounds.recovery(threshold.statistic, base, other), threshold, pairs.on)
    return _worst_task(threshold, pairs, name)


def _nothing_to_lose(threshold: Threshold, base: Numbers, on: str) -> Check:
    """The baseline's own score is within what may be lost: a candidate that answers nothing would pass."""
    return Check(
        text=on, statistic=threshold.statistic, unit=threshold.unit, relation=threshold.relation,
        limit=threshold.value, samples=len(base), samples_of="items", verdict="inconclusive",
        because=f"the baseline itself scores {100 * float(base.mean()):.3g} of 100: a loss could not show",
    )  # fmt: skip


def _mcnemar(base: Numbers, other: Numbers) -> str:
    """How surprising the answers that turned are; nothing where scores are not all 0 or 1."""
    if not np.isin(np.concatenate([base, other]), (0.0, 1.0)).all():
        return ""
    lost, won = int((base > other).sum()), int((other > base).sum())
    return f"; {lost} turned wrong, {won} right (McNemar, one-sided: p = {bounds.mcnemar(base, other):.2g})"


def _worst_task(threshold: Threshold, pairs: Pairs, name: str) -> Check:
    """The task whose upper bound is lowest: a noisy task is not yet a lost one. Where the baseline scores nothing,
    nothing can be lost: such tasks are named."""
    if not pairs.tasks:
        raise BadInput("the worst task needs the task of each pair", name)
    split = {
        task: scores(_chosen(pairs, [place for place, own in enumerate(pairs.tasks) if own == task]), name)
        for task in sorted(set(pairs.tasks))
    }
    found = {task: bounds.recovery(threshold.statistic, *both) for task, both in split.items() if both[0].sum() > 0}
    worst = min(found, key=lambda task: found[task].upper)
    made = check(found[worst], threshold, pairs.on)
    none = [task for task in split if task not in found]
    idle = f"; the baseline scores nothing in {', '.join(none)}" if none else ""
    return structs.replace(made, because=f"{worst}: {made.because}{idle}")


def _flips(pairs: Pairs) -> Numbers:
    """Whether a right answer became wrong, item by item; a share where an item was answered more than once."""
    scores(pairs, "flip_rate")
    base, other = np.asarray(pairs.baseline), np.asarray(pairs.candidate)
    return _by_item(np.asarray((base >= CORRECT) & (other < CORRECT), dtype=np.float64), pairs.items)


def scores(pairs: Pairs, name: str) -> tuple[Numbers, Numbers]:
    """Both sides' scores item by item. Raises BadInput where they are not paired, or not from 0 to 1."""
    base, other = np.asarray(pairs.baseline, dtype=np.float64), np.asarray(pairs.candidate, dtype=np.float64)
    lengths = {len(base), len(other)} | {len(each) for each in (pairs.items, pairs.tasks) if each}
    if len(lengths) != 1 or not len(base):
        raise BadInput(f"{len(base)} and {len(other)} scores are not pairs of the same answers", name)
    both = np.concatenate([base, other])
    if not bool(((both >= 0) & (both <= 1)).all()):
        raise BadInput("a score is not a number from 0 to 1", name)
    return _by_item(base, pairs.items), _by_item(other, pairs.items)


def _by_item(values: Numbers, items: Sequence[str]) -> Numbers:
    """Means of the answers to each item; the values themselves where no items are named."""
    if not items:
        return values
    _, place = np.unique(np.asarray(items), return_inverse=True)
    return np.asarray(np.bincount(place, values) / np.bincount(place))
