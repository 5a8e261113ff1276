"""llama.cpp's own tools on a machine without a GPU: those of `lanewise tools install llama.cpp`.

The build takes about five minutes on two cores and 1 GB. Remote devices (`rpc-server` on the CPU) stand in for GPUs:
layers are offloaded to them, and `llama-fit-params` counts their buffers as it counts a GPU's.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path

from tests.tools.environment import run, tool

VERSION = "0.3.36"
"""Of the sdist llama-cpp-python, which carries llama.cpp whole (MIT), tests included."""


class Tools:
    """A ready build: its programs by name and the source that they were built from."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "build" / "bin"
        self.source = folder / f"llama_cpp_python-{VERSION}" / "vendor" / "llama.cpp"

    def program(self, name: str) -> Path:
        return self.bin / name

    def built(self, name: str) -> Path:
        """A program that most tests do without; the build is there and makes it and what it needs, in a minute."""
        if not self.program(name).exists():
            folder = self.bin.parents[1]
            run(folder / "venv" / "bin" / "ninja", "-C", folder / "build", name)
        return self.program(name)


def llamacpp() -> Tools:
    """The tools, built when they are not there yet."""
    tool("llama.cpp")
    return Tools(tools_folder())


def tools_folder() -> Path:
    root = Path(os.environ.get("LANEWISE_TOOLS_DIR", "~/.cache/lanewise/tools")).expanduser()
    return root / f"llamacpp-{VERSION}"


class Devices:
    """So many stand-ins for GPUs on this machine, for as long as the context is open."""

    def __init__(self, tools: Tools, count: int) -> None:
        self.tools, self.count = tools, count
        self.ports: list[int] = []
        self._servers: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Devices:
        for _ in range(self.count):
            port = _free_port()
            command = [str(self.tools.program("ggml-rpc-server")), "--threads", "1", "--port", str(port)]
            quiet = subprocess.DEVNULL
            self._servers.append(subprocess.Popen(command, stdout=quiet, stderr=quiet))
            self.ports.append(port)
        for port in self.ports:
            _answers(port)
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.terminate()
            server.wait(timeout=30)

    def buffers(self, model: Path, *flags: str, devices: int = 1) -> list[tuple[int, int, int]]:
        """(model, cache, compute) in whole MiB per device, the host's last, as llama-fit-params prints them."""
        places = ",".join(f"127.0.0.1:{port}" for port in self.ports[:devices])
        command = [self.tools.program("llama-fit-params"), "--no-repack", "-m", model, "-fitp", "on", *flags]
        done = subprocess.run(
            [*map(str, command), *(("--rpc", places) if devices else ())],
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"llama-fit-params {' '.join(flags)} failed:\n{done.stderr[-2000:]}")
        rows = [line.split() for line in done.stdout.splitlines()]
        return [(int(row[1]), int(row[2]), int(row[3])) for row in rows if len(row) == 4]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(port: int) -> None:
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"no device answers at port {port}")
