"""The REST service: `create_app(settings)` is the whole of it."""

from planner.api.app import app_of_environment, create_app

__all__ = ["app_of_environment", "create_app"]
