"""Runs one command and ends it, with all that it started, when whoever asked for it is gone.

usage: guard.py COMMAND [ARGUMENT...], with a pipe as standard input that the asking process holds open and never fills

A process that is killed cannot clean up after itself: its end of the pipe closes by itself. The command leads a session
of its own, whose group is ended when the pipe closes and when the command has ended. A SIGTERM is passed on. Exits with
the command's code, 128 and the signal where one ended it, 127 where it cannot be started. Knows nothing of ours.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress

STARTED: list[int] = []
"""The group of the command, once there is one."""


def main(command: list[str]) -> int:
    signal.signal(signal.SIGTERM, lambda *_: end(signal.SIGTERM))
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as fault:
        print(f"{command[0]}: {fault.strerror}", file=sys.stderr)
        return 127
    STARTED.append(child.pid)
    threading.Thread(target=watch, daemon=True).start()
    code = child.wait()
    end(signal.SIGKILL)
    return code if code >= 0 else 128 - code


def watch() -> None:
    """The pipe ends when the asking process does, however it ended."""
    while os.read(0, 4096):
        pass
    end(signal.SIGKILL)


def end(number: int) -> None:
    """The whole group, also what outlived its leader."""
    for group in STARTED:
        with suppress(ProcessLookupError, PermissionError):  # nobody of the group is left
            os.killpg(group, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
