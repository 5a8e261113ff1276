"""What the command groups share."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]
else:
    Commands = object


def number(text: str) -> float:
    """A plain number; whole ones stay whole, so that a request reads as it was typed."""
    value = float(text)
    return int(value) if value.is_integer() else value


def write_document(document: bytes) -> None:
    """One document on stdout, byte for byte."""
    sys.stdout.flush()
    sys.stdout.buffer.write(document)
    sys.stdout.buffer.flush()
