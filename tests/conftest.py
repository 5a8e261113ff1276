"""What stays in one process when the suite runs on several: a file, and the lanes that are served one after the other;
and the folder of the chain's runs, which all processes share."""

from __future__ import annotations

import os
import tempfile
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

WHOLE = ("tests/chain/test_served",)
"""How the paths of tests begin that share what one process made."""
CHAIN = "LANEWISE_CHAIN_DIR"
"""Names the folder of tests/chain/world.py; one that is named by hand stays, and the next session goes on with it."""

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")  # laws are about values, never about how busy the machine is


class ByFile(LoadScopeScheduling):
    """A file to a process, the longest lists first; those of WHOLE are one."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return next((each for each in WHOLE if path.startswith(each)), path)


def pytest_configure(config: pytest.Config) -> None:
    """The processes of a session inherit the folder from the one that starts them."""
    if CHAIN not in os.environ:
        made = tempfile.TemporaryDirectory(prefix="lanewise-chain-", ignore_cleanup_errors=True)
        os.environ[CHAIN] = made.name
        config.add_cleanup(made.cleanup)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """Whoever says `-n` gets it."""
    return ByFile(config, log)
