"""What stays in one process when the suite runs on several: a file, and the lanes that are served one after the other;
and the folder of the chain's runs, which all processes share."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

WHOLE = ("tests/chain/test_served",)
"""How the paths of tests begin that share what one process made."""
LASTING = {
    "tests/chain/test_lanes.py": 560, "tests/chain/test_served": 430, "tests/memory/test_vllm_server.py": 300,
    "tests/chain/test_laws.py": 250, "tests/memory/test_quantize.py": 150, "tests/verify/test_answer_real.py": 140,
    "tests/verify/test_score_real.py": 120, "tests/chain/test_published.py": 110, "tests/speed/test_accuracy.py": 100,
    "tests/fit/test_vllm_cache_planner.py": 100, "tests/serve/test_load_tools_real.py": 100,
    "tests/jobs/test_workers.py": 70, "tests/memory/test_server_buffers.py": 60,
    "tests/memory/test_vllm_weights.py": 60,
}  # fmt: skip
"""Seconds that slow tests take, of those that take a minute and more: they begin first, so that none is left for the
end. Others are taken to need SHORT seconds a test."""
SHORT = 0.1
CHAIN = "LANEWISE_CHAIN_DIR"
"""Names the folder of tests/chain/world.py; one that is named by hand stays, and the next session goes on with it."""

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")  # laws are about values, never about how busy the machine is


class ByFile(LoadScopeScheduling):
    """A file to a process, in the order in which tests were collected; those of WHOLE are one."""

    def _split_scope(self, nodeid: str) -> str:
        return scope(nodeid)


def scope(nodeid: str) -> str:
    path = nodeid.partition("::")[0]
    return next((each for each in WHOLE if path.startswith(each)), path)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What lasts longest first."""
    seconds: Counter[str] = Counter()
    for item in items:
        slow = item.get_closest_marker("slow") is not None
        seconds[scope(item.nodeid)] += SHORT
        if slow:
            seconds[scope(item.nodeid)] = max(seconds[scope(item.nodeid)], LASTING.get(scope(item.nodeid), 0))
    items.sort(key=lambda item: (-seconds[scope(item.nodeid)], scope(item.nodeid)))


def pytest_configure(config: pytest.Config) -> None:
    """Tests go out in the order of their collection; processes inherit the folder from the one that starts them."""
    config.option.loadscopereorder = False
    if CHAIN not in os.environ:
        made = tempfile.TemporaryDirectory(prefix="lanewise-chain-", ignore_cleanup_errors=True)
        os.environ[CHAIN] = made.name
        config.add_cleanup(made.cleanup)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """Whoever says `-n` gets it."""
    return ByFile(config, log)
