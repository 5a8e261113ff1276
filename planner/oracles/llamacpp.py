"""llama.cpp's own count of its buffers beside ours: llama-fit-params and llama-quantize --dry-run.

Both read metadata alone, so a model that is not here is written as an outline. Where the build has ggml-rpc-server,
stand-ins on the CPU take the places of the devices that were asked about; otherwise this machine's own devices count.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from msgspec import structs

from catalog.errors import LanewiseError, Unsupported
from catalog.model import Model
from planner.headroom.picture import Flags, Headroom, Held, Oracle, Outcome
from planner.oracles import outline

FOLDER = "llamacpp-0.3.36"
"""Of `lanewise tools install llama.cpp`."""
COUNTER, QUANTIZER, STAND_IN = "llama-fit-params", "llama-quantize", "ggml-rpc-server"
MIB = 2**20
TIMEOUT_S = 300.0


def beside(found: Headroom, model: Model, tools: Path | None) -> Headroom:
    """The answer with llama.cpp's own count of every pictured outcome. Raises Unsupported where it is not installed."""
    counter = program(COUNTER, tools)
    if counter is None:
        raise Unsupported(f"{COUNTER} is neither on PATH nor in {tools}", "--oracle")
    asked = [each for each in found.outcomes if each.places]
    if not asked:
        raise Unsupported(f"{COUNTER} needs a lane that llama.cpp could start on a device", "--oracle")
    told = {id(each): _ask(each, model, found.ask["model"], tools, counter) for each in asked}
    return structs.replace(
        found, outcomes=tuple(structs.replace(each, oracle=told.get(id(each))) for each in found.outcomes)
    )


def program(name: str, tools: Path | None) -> Path | None:
    """The program on PATH, else in the tools folder; None where it is in neither."""
    on_path = shutil.which(name)
    built = tools / FOLDER / "build" / "bin" / name if tools is not None else None
    return Path(on_path) if on_path else built if built is not None and built.is_file() else None


def _ask(outcome: Outcome, model: Model, named: str, tools: Path | None, counter: Path) -> Oracle:
    kind, devices = outcome.lane.partition(":")[2], len(outcome.places) - 1
    own = Path(named)
    local = own if own.suffix == ".gguf" and own.is_file() else None
    stand_in = program(STAND_IN, tools)
    with tempfile.TemporaryDirectory() as scratch, _devices(stand_in, devices) as ports:
        path = local or outline.write(model, kind, Path(scratch) / "model.gguf")
        remote = ("--rpc", ",".join(f"127.0.0.1:{port}" for port in ports)) if ports else ()
        said = _run([str(counter), "--no-repack", "-m", str(path), "-fitp", "on", *words(outcome.flags), *remote])
        quantizer = None if local else program(QUANTIZER, tools)
        size = _file_bytes(quantizer, model, kind, Path(scratch)) if quantizer else None
    places = _places(said)
    assert outcome.picture is not None
    free = outcome.picture.claimed_bytes
    fits = all(each.weight_bytes + each.cache_bytes + each.compute_bytes <= free for each in places[:-1])
    return Oracle(
        program=f"{COUNTER} on stand-ins for the devices" if ports else COUNTER,
        starts=fits,
        kv_tokens=None,
        max_concurrency=None,
        said="",
        places=places,
        file_bytes=size,
    )


def words(flags: Flags) -> list[str]:
    """The setup as llama.cpp's own flags."""
    made = ["-c", str(flags.max_model_len * flags.max_num_seqs), "-np", str(flags.max_num_seqs)]
    made += ["-ub", str(flags.max_num_batched_tokens), "-b", str(max(2048, flags.max_num_batched_tokens))]
    made += ["-fa", "on", "-ctk", flags.kv_cache_dtype, "-ctv", flags.kv_cache_dtype]
    made += ["-ngl", str(flags.gpu_layers)] if flags.gpu_layers is not None else []
    made += ["-ncmoe", str(flags.cpu_experts)] if flags.cpu_experts else []
    shares = flags.tensor_split or (1.0,) * flags.pipeline_parallel
    return [*made, *(("-ts", ",".join(f"{share:g}" for share in shares)) if len(shares) > 1 else ())]


def _places(said: str) -> tuple[Held, ...]:
    """Lines of a device's name and three whole numbers of MiB; the host's is the last."""
    rows = [line.split() for line in said.splitlines()]
    sized = [[MIB * float(each) for each in row[1:]] for row in rows if len(row) == 4 and row[1].isdigit()]
    names = [*(f"device {number}" for number in range(len(sized) - 1)), "host"]
    return tuple(
        Held(place=name, weight_bytes=weights, cache_bytes=cache, compute_bytes=compute)
        for name, (weights, cache, compute) in zip(names, sized, strict=True)
    )


def _file_bytes(quantizer: Path, model: Model, kind: str, scratch: Path) -> float | None:
    """What a 16-bit file of the model would be quantized to; None where the tool wants an importance matrix."""
    source = outline.write(model, "F16", scratch / "source.gguf")
    name = "MXFP4_MOE" if kind == "MXFP4" else kind
    said = _run([str(quantizer), "--dry-run", str(source), name])
    found = re.search(r"quant size += +([0-9.]+) MiB", said)
    return MIB * float(found[1]) if found else None


def _run(command: Sequence[str]) -> str:
    """Both streams of a program. Raises LanewiseError with its last words where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise LanewiseError(f"{Path(command[0]).name} did not answer within {TIMEOUT_S:.0f} s") from None
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if "error" in line.lower()] or ["it said nothing"]
        raise LanewiseError(f"{Path(command[0]).name} did not run: {errors[0].strip()}")
    return done.stdout + done.stderr


@contextmanager
def _devices(stand_in: Path | None, count: int) -> Iterator[list[int]]:
    """Ports of so many stand-ins for devices; none without the program."""
    ports = [_free_port() for _ in range(count if stand_in else 0)]
    quiet = subprocess.DEVNULL
    servers = [
        subprocess.Popen([str(stand_in), "--threads", "1", "--port", str(port)], stdout=quiet, stderr=quiet)
        for port in ports
    ]
    try:
        for port in ports:
            _wait_for(port)
        yield ports
    finally:
        for server in servers:
            server.terminate()
            server.wait(timeout=30)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for(port: int) -> None:
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise LanewiseError(f"{STAND_IN} does not answer at port {port}")
