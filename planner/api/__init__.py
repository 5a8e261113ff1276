"""The REST service: `create_app(settings)` is the whole of it."""

from planner.api.app import create_app

__all__ = ["create_app"]
