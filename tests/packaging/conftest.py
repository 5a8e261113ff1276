"""The built wheel is tested last: it is what people get."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Move the wheel's tests behind all others."""
    items.sort(key=lambda item: item.path.name == "test_wheel.py")
