"""Databases as the store's own tests have them."""

from __future__ import annotations

from tests.store.conftest import postgres

__all__ = ["postgres"]
