"""Everything Lanewise raises on purpose:

* LanewiseError
  + BadInput          the request, a file or an argument is wrong; carries the path of the fault (HTTP 400, exit 2)
    - UnknownModel    no catalogue entry, folder, file or reachable repository of that name
    - Unsupported     known but not planned yet, or refused for good, by name
  + NotFound          no such plan, file or catalogue entry (HTTP 404, exit 1)

The tree stands on the lowest floor so that catalogue, probes and planner raise the same errors.
"""

from __future__ import annotations


class LanewiseError(Exception):
    """The root; anything else that escapes is a bug."""


class BadInput(LanewiseError):
    """`path` is where the fault lies (`$.workload.qps`, or a file), the message what was expected and found."""

    def __init__(self, message: str, path: str = "$") -> None:
        super().__init__(f"{message} - at `{path}`")
        self.message, self.path = message, path


class UnknownModel(BadInput):
    """Nothing of that name can be read here."""


class Unsupported(BadInput):
    """A field or value that is known but not planned."""


class NotFound(LanewiseError):
    """Nothing is stored under that name."""
