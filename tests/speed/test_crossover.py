"""One 8B model, all requests queued, three devices: INT4 gains where the cache is short and loses where it is not.

The measured signs are those of the GPUStack table (rows GSQ of the shipped measurements, vLLM 0.9.2, Qwen3-8B).
"""

from __future__ import annotations

from statistics import mean

import pytest

from catalog.load import DATA
from planner.accuracy import predict, truth

SAME = 0.03
"""Differences below 3 % are no difference (H100 W4A16: +2 % measured)."""


def table() -> dict[tuple[str, str], tuple[float, float]]:
    """(accelerator, lane) to mean measured and predicted tokens/s."""
    lines = [line for line in truth.read(DATA / "truth" / "speed.csv") if line["id"].startswith("GSQ")]
    lines = [line for line in lines if line["metric"] == "total_tok_s" and line["kv_dtype"] == "auto"]
    made = predict.speed(lines)
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for line, one in zip(lines, made, strict=True):
        found.setdefault((line["accelerator"], line["lane"]), []).append((float(line["value"]), one.predicted or 0.0))
    return {key: (mean(m for m, _ in rows), mean(p for _, p in rows)) for key, rows in found.items()}


TABLE = table()


@pytest.mark.parametrize("key", [key for key in TABLE if key[1] != "bf16"], ids="-".join)
def test_every_lane_falls_on_the_measured_side_of_bf16(key: tuple[str, str]) -> None:
    measured, predicted = (TABLE[key][i] / TABLE[key[0], "bf16"][i] for i in (0, 1))
    assert (measured > 1) == (predicted > 1) or abs(measured - 1) < SAME


def test_the_table_holds_what_the_users_were_told() -> None:
    assert TABLE["a100-sxm4-80", "bf16"][0] > TABLE["a100-sxm4-80", "awq-int4"][0]
    assert TABLE["rtx4090", "awq-int4"][0] > TABLE["rtx4090", "bf16"][0]
    assert len(TABLE) == 12
