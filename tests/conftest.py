"""What stays in one process when the suite runs on several: a file, and the whole chain, whose tests share its runs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

WHOLE = ("tests/chain/",)
"""Folders whose tests share what one process made."""

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")  # laws are about values, never about how busy the machine is


class ByFile(LoadScopeScheduling):
    """A file to a process, the longest lists first; a folder of WHOLE is one."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return next((folder for folder in WHOLE if path.startswith(folder)), path)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """Whoever says `-n` gets it."""
    return ByFile(config, log)
