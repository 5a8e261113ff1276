"""Runs one command and ends it, with all that it started, when whoever started this is gone.

usage: guard.py COMMAND [ARGUMENT...]      standard input is a pipe that the parent holds open and never writes to

The process is the leader of its own session; its children stay in its group unless they leave it themselves. Exits with
the command's code, 128 and the signal where one ended it, 127 where it cannot be started.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading


def main(command: list[str]) -> int:
    threading.Thread(target=watch, daemon=True).start()
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    except OSError as fault:
        print(f"{command[0]}: {fault.strerror}", file=sys.stderr)
        return 127
    code = child.wait()
    return code if code >= 0 else 128 - code


def watch() -> None:
    """The pipe ends when the parent does, however it ended."""
    while os.read(0, 4096):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: None)
    sys.exit(main(sys.argv[1:]))
