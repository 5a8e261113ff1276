"""A server under a guard: started from its launch file, waited for, watched, ended with all that it started.

What went wrong is told in one word of `OUTCOMES` and one sentence. Imports nothing of ours.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

GUARD = Path(__file__).with_name("guard.py")
TICK_S = 0.1
SAMPLE_S = 1.0
MARK = "LANEWISE_SERVER"
"""Variable by which processes of one server are known, wherever a container runtime started them."""
GRACE_S = 15.0
"""Between asking a server to end and ending it (assumed)."""
QUIET_S, IDLE = 30.0, 0.05
"""A start that is late is slow, not hung, while its processes took more than this share of a core over the last so many
seconds, wrote to the log, or read from a disk (all assumed): beside other work vLLM took 773 s on two cores."""
TAIL_BYTES = 8000
OUTCOMES = ("port in use", "died at start", "out of memory", "not ready", "died under load", "load tool failed")
TAKEN = re.compile(r"address already in use|errno 98|couldn't bind|could not bind|failed to bind", re.IGNORECASE)
STARVED = re.compile(
    r"out of memory|cannot allocate memory|std::bad_alloc|MemoryError|outofmemory|failed to allocate"
    r"|unable to allocate|No available memory for the cache blocks|larger than the available .*memory"
    r"|is less than desired .*memory utilization|not enough memory",
    re.IGNORECASE,
)


class Failed(Exception):
    """A server that does not serve."""

    def __init__(self, outcome: str, because: str) -> None:
        super().__init__(because)
        self.outcome = outcome


@dataclass(kw_only=True)
class Drawn:
    """What the server took while somebody looked: bytes of its processes, and of GPUs; watts of GPUs."""

    peak_bytes: float = 0.0
    gpu_peak_bytes: float = 0.0
    watts: list[float] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a start has done so far: seconds of its processes, bytes of its log, bytes read from disks."""

    at: float
    cpu_s: float
    log: int
    read: int


class Server:
    """One launch file that runs. Use as a context: at its end nothing is left."""

    def __init__(
        self, script: Path, words: list[str], env: Mapping[str, str], log: Path, address: tuple[str, int]
    ) -> None:
        self.address, self.log, self.drawn = address, log, Drawn()
        self._mark = uuid.uuid4().hex
        if (holder := listening(address)) is not None:
            raise Failed("port in use", f"port {address[1]} of {address[0]} is in use{holder}")
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(GUARD), str(script), *words],
                stdin=subprocess.PIPE, stdout=stream, stderr=subprocess.STDOUT, cwd=script.parent,
                env={**os.environ, **env, MARK: self._mark}, start_new_session=True,
            )  # fmt: skip
        self._over = threading.Event()
        self._done: deque[Work] = deque(maxlen=int(2 * QUIET_S / SAMPLE_S))
        self._began = time.monotonic()
        threading.Thread(target=self._watch, daemon=True).start()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def url(self) -> str:
        host = f"[{self.address[0]}]" if ":" in self.address[0] else self.address[0]
        return f"http://{host}:{self.address[1]}"

    def ready(self, patience_s: float, longest_s: float = 0.0) -> float:
        """Seconds until it says that it is healthy; up to `longest_s` while it is at work. Raises Failed."""
        with httpx.Client(trust_env=False, timeout=5.0) as client:
            while (waited := time.monotonic() - self._began) < patience_s or (
                waited < longest_s and self._works(min(QUIET_S, patience_s))
            ):
                if (code := self.process.poll()) is not None:
                    raise self._fault(code, "died at start", f"after {waited:.1f} s")
                with contextlib.suppress(httpx.HTTPError):
                    if client.get(f"{self.url}/health").status_code == httpx.codes.OK:
                        return time.monotonic() - self._began
                time.sleep(TICK_S if waited < patience_s else SAMPLE_S)
        how = f"within {patience_s:.3g} s" + (f", and after {waited:.0f} s" if waited > patience_s + SAMPLE_S else "")
        raise Failed("not ready", f"it hangs: no answer of /health {how}; its log ends: {self.tail()}")

    def _works(self, window_s: float) -> bool:
        """Whether it did something over the last seconds, as far as that was sampled."""
        seen = tuple(self._done)
        if not seen:
            return True
        last = seen[-1]
        first = next((each for each in reversed(seen) if each.at <= last.at - window_s), seen[0])
        if last.at - first.at < window_s / 2:
            return True  # too little was seen of it to call it idle
        busy = last.cpu_s - first.cpu_s > IDLE * (last.at - first.at)
        return busy or last.log > first.log or last.read > first.read

    def alive(self) -> None:
        """Raises Failed for a server that has ended by itself."""
        if (code := self.process.poll()) is not None:
            raise self._fault(code, "died under load", f"{time.monotonic() - self._began:.0f} s after its start")

    def _fault(self, code: int, outcome: str, when: str) -> Failed:
        """Which kind of death it was, by its last words and its signal."""
        tail = self.tail()
        how = f"ended by signal {code - 128}" if code > 128 else f"exit code {code}"
        if TAKEN.search(tail):
            outcome = "port in use"
        elif STARVED.search(tail):
            outcome = "out of memory"
        return Failed(outcome, f"the engine ended {when}, {how}; its log ends: {tail or 'it printed nothing'}")

    def tail(self, lines: int = 15) -> str:
        """The end of its log."""
        with self.log.open("rb") as stream:
            stream.seek(max(self.log.stat().st_size - TAIL_BYTES, 0))
            text = stream.read().decode(errors="replace")
        return "\n".join(line for line in text.splitlines() if line.strip())[-2000:] if lines else ""

    def end(self) -> None:
        """Ask it to end, then end its group; the guard's pipe closes last."""
        self._over.set()
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(GRACE_S)
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(GRACE_S)
        if self.process.poll() is None:
            self.process.kill()

    def _watch(self) -> None:
        """Sample memory and power until the end."""
        meter = Meter()
        while not self._over.wait(SAMPLE_S):
            ours = belonging(self.process.pid, self._mark)
            self.drawn.peak_bytes = max(self.drawn.peak_bytes, held(ours))
            self._done.append(work(ours, self.log))
            watts, used = meter.read()
            self.drawn.gpu_peak_bytes = max(self.drawn.gpu_peak_bytes, used)
            if watts:
                self.drawn.watts.append(watts)


def belonging(pid: int, mark: str) -> set[psutil.Process]:
    """A process, all below it, and those of its containers, which carry the mark."""
    found = {process for process in psutil.process_iter() if _marked(process, mark)}
    with contextlib.suppress(psutil.Error):
        top = psutil.Process(pid)
        found |= {top, *top.children(recursive=True)}
    return found


def _marked(process: psutil.Process, mark: str) -> bool:
    with contextlib.suppress(psutil.Error, OSError):
        return bool(process.environ().get(MARK) == mark)
    return False


def held(ours: set[psutil.Process]) -> float:
    """Their bytes; shared pages count once where the system says so (PSS)."""
    total = 0.0
    for each in ours:
        with contextlib.suppress(psutil.Error):
            full = each.memory_full_info()
            total += getattr(full, "pss", None) or full.rss
    return total


def work(ours: set[psutil.Process], log: Path) -> Work:
    """Of processes, with those that they have waited for."""
    seconds, read = 0.0, 0
    for each in ours:
        with contextlib.suppress(psutil.Error, AttributeError):  # no counters of disks on macOS
            seconds += sum(each.cpu_times()[:4])
            read += each.io_counters().read_bytes
    return Work(at=time.monotonic(), cpu_s=seconds, log=log.stat().st_size, read=read)


class Meter:
    """Watts and used bytes of all visible NVIDIA devices; nothing where there is no driver."""

    def __init__(self) -> None:
        self._handles: list[object] = []
        with contextlib.suppress(Exception):
            import pynvml

            pynvml.nvmlInit()
            self._nvml = pynvml
            self._handles = [pynvml.nvmlDeviceGetHandleByIndex(at) for at in range(pynvml.nvmlDeviceGetCount())]

    def read(self) -> tuple[float, float]:
        """(watts, bytes) now."""
        watts = used = 0.0
        for handle in self._handles:
            with contextlib.suppress(self._nvml.NVMLError):
                watts += self._nvml.nvmlDeviceGetPowerUsage(handle) / 1000
                used += self._nvml.nvmlDeviceGetMemoryInfo(handle).used
        return watts, used


def listening(address: tuple[str, int]) -> str | None:
    """Who listens there, as far as that can be seen; None where nobody does."""
    try:
        with socket.create_connection(address, timeout=1.0):
            pass
    except OSError:
        return None
    with contextlib.suppress(psutil.Error):
        for each in psutil.net_connections("inet"):
            if each.status == psutil.CONN_LISTEN and each.laddr and each.laddr.port == address[1] and each.pid:
                return f" by process {each.pid} ({psutil.Process(each.pid).name()})"
    return ""


def free_port() -> int:
    """One that nobody has now."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])
