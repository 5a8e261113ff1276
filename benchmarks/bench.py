"""How long a plan takes: a cold command, a warm plan over the whole catalogue, its array pass, `POST /plan` over HTTP.

`make bench` prints, nothing asserts. Seconds depend on the machine; the numbers are for comparing one version with the
next on the same one. No answer is repeated from a store or a cache: every request over HTTP is another one.
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
from typing import Any

import msgspec

sys.path.insert(0, str(Path(__file__).parent))
import http_load

from catalog.load import Catalog
from planner import decode, hardware, pairing, request, rows, search, service
from planner.cli.serve import cores
from planner.fits import fits_of
from planner.settings import Settings
from planner.settle import settle
from planner.simulation import replica
from planner.simulation.requests import Draw, draw
from planner.simulation.scheduler import Limits, run
from planner.sweep import sweep

COLD_RUNS, WARM_RUNS = 5, 7
CLIENTS, HTTP_S = 4, 10.0
"""Clients that ask at once, and for how long."""
SIMULATED = 10_000
EXAMPLE = Path(__file__).parent.parent / "examples" / "support-chat.toml"
MODEL, MOST = "meta-llama/Llama-3.1-70B-Instruct", 12
ANY = {
    "model": MODEL,
    "workload": {"qps": 4, "prompt_tokens": {"mean": 1500, "p95": 6000}, "output_tokens": {"mean": 300, "p95": 800}},
    "slo": {"ttft_ms": {"p95": 1000}, "tpot_ms": {"p95": 50}},
    "hardware": {"any": {}},
}
"""Whatever the catalogue can rent out, under two latency objectives."""


def wide(catalog: Catalog) -> dict[str, Any]:
    """Every lane, engine, layout and cache format on up to MOST of every accelerator whose memory is known."""
    devices = [{"id": device.id, "count": MOST} for device in catalog.accelerators.values() if device.memory]
    return {"model": MODEL, "workload": {"qps": 4}, "hardware": {"accelerators": devices}}


def asked(body: dict[str, Any]) -> request.Request:
    """As a client's bytes are decoded."""
    return decode.decode(msgspec.json.encode(body), "json")


def simulation(catalog: Catalog) -> Callable[[], object]:
    """SIMULATED requests of 1000/250 mean tokens on a saturated replica that runs out of cache blocks."""
    hardware = {"accelerators": [{"id": "h100-sxm5-80", "count": 1}]}
    found = search.search(asked({"model": "Qwen/Qwen3-8B", "workload": {"qps": 8}, "hardware": hardware}), catalog)
    assert found.choice is not None
    terms = rows.terms_of(found.choice.option, (1, 1), 8192.0, found.fits)
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


def array_pass(question: request.Request, catalog: Catalog) -> Callable[[], object]:
    """Every layout of every option as numbers: laid out, evaluated and priced; rules and ranking not counted."""
    model = catalog.model(question.model)
    settled = settle(question, model.max_position, catalog.as_of)
    options = pairing.options(settled, model, hardware.devices(question, catalog), catalog)
    known = fits_of(catalog)
    return lambda: [sweep(block, settled) for block in rows.rows(options.kept, known)[0]]


def warm(body: dict[str, Any], what: str, catalog: Catalog) -> None:
    """Print a warm plan and its array pass."""
    question = asked(body)
    candidates = search.count(question, catalog)
    whole = seconds(lambda: search.plan(question, catalog), WARM_RUNS)
    arrays = seconds(array_pass(question, catalog), WARM_RUNS)
    print(f"{whole * 1e3:10.0f} ms   warm plan of {MODEL} on {what}: {candidates:,} candidates")
    print(f"{candidates / arrays:10,.0f} /s   candidates in its array pass")


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as empty:
        own = Settings(catalog_dir=Path(empty) / "catalog", database_url="")
        catalog = service.catalogue(own)
    print(f"Python {platform.python_version()}, {platform.machine()}, {platform.system()}, {cores()} cores")
    print(f"{cold('plan', str(EXAMPLE), '--json'):10.2f} s    cold `lanewise plan {EXAMPLE.name} --json`")
    print(f"{cold('plan', str(EXAMPLE)):10.2f} s    cold `lanewise plan {EXAMPLE.name}`")
    warm(wide(catalog), f"up to {MOST} of every accelerator", catalog)
    warm(ANY, "any hardware with latency objectives", catalog)
    load = http_load.measure(http_load.Question(ANY), CLIENTS, HTTP_S)
    print(f"{load.p50_s * 1e3:10.0f} ms   POST /plan of the same, one client, p50 of {load.requests}")
    print(f"{load.p99_s * 1e3:10.0f} ms   p99")
    print(f"{load.requests_per_s:10.1f} /s   requests of {CLIENTS} clients, {load.workers} workers")
    print(f"{SIMULATED / seconds(simulation(catalog), WARM_RUNS):10,.0f} /s   simulated requests, KV pressure on")


if __name__ == "__main__":
    main()
