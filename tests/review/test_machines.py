"""Every probed machine can be reviewed, whether something fits it or not."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.review import review, sections
from tests.plan.asking import catalog, planned
from tests.plan.speaking import asked

INVENTORIES = sorted((Path(__file__).parents[2] / "examples" / "inventories").glob("*.json"))


@pytest.mark.parametrize("path", INVENTORIES, ids=lambda path: path.stem)
def test_a_machine_is_reviewed(path: Path) -> None:
    plan = planned(asked(f"--model Qwen/Qwen3-8B --qps 0.3 --inventory {path}"))
    made = review(plan, catalog(), 20.0)
    assert sections(made)
    if plan.choice is not None:
        assert made.growth is not None
        assert made.growth.months[0].devices == plan.choice.pools[0].count
