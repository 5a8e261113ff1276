"""How long a plan takes: a cold command, a warm plan over the whole catalogue. `make bench` prints, nothing asserts.

Seconds depend on the machine; the numbers are for comparing one version with the next on the same one.
"""

from __future__ import annotations

import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from catalog.load import Catalog
from planner import decode, request, search, service
from planner.rows import terms_of
from planner.settings import Settings
from planner.simulation import replica
from planner.simulation.requests import Draw, draw
from planner.simulation.scheduler import Limits, run

COLD_RUNS, WARM_RUNS = 5, 7
SIMULATED = 10_000
EXAMPLE = Path(__file__).parent.parent / "examples" / "support-chat.toml"
MODEL, MOST = "meta-llama/Llama-3.1-70B-Instruct", 12


def wide(catalog: Catalog) -> request.Request:
    """Every lane, engine, layout and cache format on up to MOST of every accelerator whose memory is known."""
    devices = [{"id": device.id, "count": MOST} for device in catalog.accelerators.values() if device.memory]
    asked = {"model": MODEL, "workload": {"qps": 4}, "hardware": {"accelerators": devices}}
    return decode.decode(msgspec.json.encode(asked), "json")


def simulation(catalog: Catalog) -> Callable[[], object]:
    """SIMULATED requests of 1000/250 mean tokens on a saturated replica that runs out of cache blocks."""
    hardware = {"accelerators": [{"id": "h100-sxm5-80", "count": 1}]}
    asked = {"model": "Qwen/Qwen3-8B", "workload": {"qps": 8}, "hardware": hardware}
    found = search.search(decode.decode(msgspec.json.encode(asked), "json"), catalog)
    assert found.choice is not None
    terms = terms_of(found.choice.option, (1, 1), 8192.0, found.fits)
    limits = Limits(seats=256, budget=8192, blocks=14_000)
    times = replica.times(terms, limits, "vllm")
    load = Draw(rate=40, burstiness=1, prompt=1000, prompt_sigma=0.93, output=250, output_sigma=0.93, context=16_384)
    requests = draw(load, SIMULATED, 1)
    return lambda: run(times, limits, requests)


def seconds(work: Callable[[], object], runs: int) -> float:
    """Median of several runs."""
    taken = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def cold(*words: str) -> float:
    """Seconds of the command in a new process."""
    command = [sys.executable, "-m", "planner", *words]
    return seconds(lambda: subprocess.run(command, check=True, capture_output=True, cwd=EXAMPLE.parents[1]), COLD_RUNS)


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as empty:
        own = Settings(catalog_dir=Path(empty) / "catalog", database_url="")
        catalog = service.catalogue(own)
    question = wide(catalog)
    search.plan(question, catalog)
    warm = seconds(lambda: search.plan(question, catalog), WARM_RUNS)
    count = search.count(question, catalog)
    print(f"Python {platform.python_version()}, {platform.machine()}, {platform.system()}")
    print(f"{cold('plan', str(EXAMPLE), '--json'):10.2f} s    cold `lanewise plan {EXAMPLE.name} --json`")
    print(f"{cold('plan', str(EXAMPLE)):10.2f} s    cold `lanewise plan {EXAMPLE.name}`")
    print(f"{warm * 1e3:10.0f} ms   warm plan of {MODEL} on up to {MOST} of every accelerator")
    print(f"{count:10,}      candidates in it")
    print(f"{count / warm:10,.0f} /s   candidates")
    print(f"{SIMULATED / seconds(simulation(catalog), WARM_RUNS):10,.0f} /s   simulated requests, KV pressure on")


if __name__ == "__main__":
    main()
