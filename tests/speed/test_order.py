"""Pairs of rows: which count, which are right; and the promise that nine in ten come in the measured order."""

from __future__ import annotations

import io

import numpy as np
import pytest

from planner.accuracy import predict, speed_board, speed_order, truth
from planner.accuracy.speed_order import Order
from planner.accuracy.truth import Row

LINES = truth.read(speed_board.shipped("speed"))
BASE = next(truth.row(line) for line in LINES if line["engine"] == "vllm" and line["load"] == "closed")


def like(**changes: object) -> Row:
    return Row(**{name: changes.get(name, getattr(BASE, name)) for name in Row.__struct_fields__})  # type: ignore[arg-type]


def counted(rows: list[Row], measured: list[float], predicted: list[float]) -> dict[tuple[str, str], Order]:
    found = speed_order.orders(rows, np.log(measured), np.log(predicted))
    return {(one.choice, one.engine): one for one in found}


def test_a_pair_differs_in_one_choice_alone() -> None:
    rows = [like(lane="bf16"), like(lane="fp8"), like(lane="fp8", accelerator="elsewhere"), like(lane="fp8", users=7.0)]
    found = counted(rows, [100, 200, 400, 800], [100, 150, 90, 1])
    assert found["lane", "vllm"] == Order(choice="lane", engine="vllm", pairs=1, right=1)
    assert found["accelerator", "vllm"] == Order(choice="accelerator", engine="vllm", pairs=1, right=0)
    assert ("layout", "vllm") not in found


def test_differences_within_the_noise_do_not_count_and_repeats_are_averaged() -> None:
    rows = [like(lane="bf16"), like(lane="fp8"), like(lane="fp8"), like(lane="nvfp4")]
    found = counted(rows, [100, 90, 120, 150], [100, 105, 106, 101])
    assert (found["lane", ""].pairs, found["lane", ""].right) == (2, 1)


def test_a_layout_is_devices_and_how_they_share() -> None:
    rows = [like(accelerators=1, tensor=1), like(accelerators=4, tensor=4), like(accelerators=4, tensor=2)]
    found = counted(rows, [100, 50, 75], [100, 60, 50])
    assert (found["layout", ""].pairs, found["layout", ""].right) == (3, 2)


@pytest.fixture(scope="module")
def shipped() -> tuple[list[Row], speed_order.Array, speed_order.Array]:
    answers = predict.speed(LINES)
    kept = [
        (truth.row(line), float(line["value"]), one.predicted or 1.0) for line, one in zip(LINES, answers, strict=True)
    ]
    rows, measured, predicted = zip(*kept, strict=True)
    return list(rows), np.log(measured), np.log(predicted)


def test_nine_pairs_in_ten_come_in_the_measured_order(
    shipped: tuple[list[Row], speed_order.Array, speed_order.Array],
) -> None:
    found = {(one.choice, one.engine): one for one in speed_order.orders(*shipped)}
    for choice in speed_order.CHOICES:
        assert found[choice, ""].pairs > 100
        assert found[choice, ""].share >= 0.9, found[choice, ""]


def test_every_lane_of_the_table_falls_on_the_measured_side(
    shipped: tuple[list[Row], speed_order.Array, speed_order.Array],
) -> None:
    table = speed_order.signs(*shipped)
    assert len(table) == 9
    assert [one for one in table if not one.right] == []


def test_the_command_prints_orders_and_signs() -> None:
    out = io.StringIO()
    speed_board.run("speed", out=out)
    assert "predicted in the measured order" in out.getvalue()
    assert "throughput against bf16" in out.getvalue()
