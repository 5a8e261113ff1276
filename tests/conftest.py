"""What stays in one process when the suite runs on several: a file, and the whole chain, whose tests share its runs."""

from __future__ import annotations

from pathlib import Path

import pytest

WHOLE = ("chain",)
"""Folders whose tests share what one process made."""


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the marks in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where pytest-xdist deals tests out by group (`make test`): a group per file, and per folder of WHOLE."""
    here = Path(__file__).parent
    for item in items:
        folder, *_ = item.path.relative_to(here).parts
        item.add_marker(pytest.mark.xdist_group(folder if folder in WHOLE else str(item.path.relative_to(here))))
