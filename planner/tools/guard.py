"""Runs one program and ends it, with all that it started, when whoever asked for it is gone.

usage: python guard.py PROGRAM ARGUMENT…, with a pipe as standard input that the asking process keeps open.
A process that is killed cannot clean up after itself: its end of the pipe closes by itself. Knows nothing of ours.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress


def main(command: list[str]) -> int:
    """The program's exit code; 128 and the signal's number where one ended it."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    threading.Thread(target=_watch, args=(child,), daemon=True).start()
    code = child.wait()
    _end(child)
    return code if code >= 0 else 128 - code


def _watch(child: subprocess.Popen[bytes]) -> None:
    os.read(0, 1)
    _end(child)


def _end(child: subprocess.Popen[bytes]) -> None:
    """The whole group, also what outlived its leader."""
    with suppress(ProcessLookupError, PermissionError):  # nobody of the group is left
        os.killpg(child.pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
