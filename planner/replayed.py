"""The load of a plan that was measured, as the formulas and the simulation of a plan see it.

What `lanewise verify` sends is one replica's share of a plan's load. With any speed parameters this gives the numbers
that a plan shows for that replica, so that a measurement moves just those. Seconds and tokens.
"""

from __future__ import annotations

import math

import msgspec
from msgspec.structs import replace

from catalog.errors import BadInput, Unsupported
from catalog.load import Catalog
from catalog.observation import Observation
from planner import decode, hardware, simulated
from planner.fits import Fits
from planner.lanes import BY_ID, as_published
from planner.pairing import Option
from planner.plan import Estimate
from planner.rooms import Books, Terms
from planner.rows import CHUNKS, books_of, terms_of
from planner.rules.rule import Cached, Device, Pairing
from planner.serving import Z, closed_rate, latency, pace, percentile
from planner.settle import Settled, settle
from planner.simulated import Held
from planner.spread import between

LOAD = "planned"
"""What such rows name as their load."""
TIMES = {"ttft_ms": "ttft_p50_s", "tpot_ms": "tpot_p50_s", "e2e_ms": "e2e_p50_s"}
"""Medians of such rows, and the estimates that they are beside."""
RATE = "output_tok_s"
"""Beside them, where users wait for their answers: at a rate it is given."""
HALVINGS = 40
ENOUGH = 2.0**44
"""Bytes of a device whose memory varies, where the row does not state it: it did run."""
LEAST = 1e-3
"""Sequences that run at hardly any load."""


class Replayed:
    """One replica of a deployment under the load that a row states."""

    def __init__(self, row: Observation, catalog: Catalog) -> None:
        """Raises BadInput and its children for what the catalogue does not know."""
        self.settled, device = _asked(row, catalog)
        self.option = _option(row, catalog, self.settled, device)
        self.books: Books = books_of(self.option.pairing)
        self.place = max(row.tensor, 1), max(row.accelerators // max(row.tensor, 1), 1)
        self.chunk = row.batched_tokens or CHUNKS[self.books][0]
        self.slots = row.sequences
        self.output = row.output

    def carried(self, fits: Fits) -> bool:
        """Whether the formulas say that such a replica carries the rate."""
        terms = terms_of(self.option, self.place, self.chunk, fits)
        return pace(terms, self._most(), self.books).rate >= (self.settled.load.rate or 0.0)

    def shown(self, fits: Fits) -> dict[str, float]:
        """ttft_ms, tpot_ms, e2e_ms as medians, output_tok_s where there are users: simulated, where that speaks."""
        terms = terms_of(self.option, self.place, self.chunk, fits)
        batch = self._batch(terms)
        made = self._estimates(terms, batch)
        most = pace(terms, self._most(), self.books).rate
        held = Held(
            replicas=1, batch=batch, most=self._most(), utilisation=pace(terms, batch, self.books).rate / most
        )  # fmt: skip
        said = simulated.lived(self.settled, terms, held, made, self.books)
        spoken = {name: _exact(getattr(said, f"{name[:-6]}_s").p50) for name in TIMES.values() if name in said.replaces}
        return self._printed(made | spoken)

    def _printed(self, made: dict[str, Estimate]) -> dict[str, float]:
        found = {metric: 1e3 * made[name].value for metric, name in TIMES.items()}
        return found | ({RATE: self.output * made["requests_per_s"].value} if self.settled.load.users else {})

    def _estimates(self, terms: Terms[float], batch: float) -> dict[str, Estimate]:
        at = pace(terms, batch, self.books)
        late = latency(terms, (batch, self.slots), at, self.books)
        made = {
            f"{name}_{quantile}_s": _exact(percentile(late, name, Z[quantile]))
            for name in ("ttft", "tpot", "e2e")
            for quantile in simulated.SHOWN
        }
        users = self.settled.load.users
        return made | {"requests_per_s": _exact(at.rate if users is None else closed_rate(batch, at, terms.arrival_s))}

    def _batch(self, terms: Terms[float]) -> float:
        """Sequences that run: as many as users, or as the rate needs, or as may at most."""
        load = self.settled.load
        if load.users is not None:
            return float(load.users)
        low, high = math.log(LEAST), math.log(self._most())
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            below = pace(terms, math.exp(middle), self.books).rate < (load.rate or 0.0)
            low, high = (middle, high) if below else (low, middle)
        return math.exp(high)

    def _most(self) -> float:
        """The mean batch for which the launch file has its slots (`memory.slots_for`)."""
        return (math.sqrt(self.slots + 1) - 1) ** 2 * (1 - 1e-12)


def _exact(value: float) -> Estimate:
    return between(value, value, value, "fitted", "s")


def _asked(row: Observation, catalog: Catalog) -> tuple[Settled, Device]:
    """The row's load as a settled request, and its device."""
    if not (row.users or row.rate) or not row.sequences:
        raise BadInput("a planned load states users or a rate, and slots", f"{row.id}.load")
    work = {
        "prompt_tokens": {"mean": row.prompt, "p95": row.prompt_p95 or row.prompt},
        "output_tokens": {"mean": row.output, "p95": row.output_p95 or row.output},
        "context_tokens_max": int(_longest(row)), "shared_prefix_tokens": int(row.prefix),
        "burstiness": row.burstiness or 1.0,
    } | ({"users": int(row.users)} if row.users else {"qps": row.rate})  # fmt: skip
    body = {
        "model": row.model, "workload": work,
        "hardware": {"accelerators": [{"id": row.accelerator, "count": row.accelerators}]},
    }  # fmt: skip
    request = decode.decode(msgspec.json.encode(body))
    settled = settle(request, catalog.model(row.model).max_position, catalog.as_of)
    found = hardware.devices(request, catalog)[0]
    return settled, found if found.memory is not None else replace(found, memory=ENOUGH)


def _longest(row: Observation) -> float:
    """Context of one sequence; llama.cpp's is stated for all slots together."""
    return row.context / row.sequences if row.engine == "llama.cpp" else row.context


def _option(row: Observation, catalog: Catalog, settled: Settled, device: Device) -> Option:
    """The pairing that ran. No rule is asked: it did run."""
    model, lane = catalog.model(row.model), BY_ID.get(row.lane)
    if lane is None:
        raise Unsupported(f"no facts for lane {row.lane!r}", f"{row.id}.lane")
    engine = catalog.engine(row.engine)
    recipe = model.native_recipe if model.native == lane.id else ""
    method = as_published(lane.method(recipe) or lane.methods[min(1, len(lane.methods) - 1)])
    kernel = engine.kernel(lane.id, method.recipe.name, device.accelerator)
    cache = engine.cache(row.kv_dtype, device.accelerator)
    if kernel is None or kernel.refuse or cache is None:
        said = kernel.refuse if kernel and kernel.refuse else f"no facts for {lane.id} with a cache of {row.kv_dtype}"
        raise Unsupported(said, f"{row.id}.lane")
    pairing = Pairing(
        settled=settled, model=model, params=0.0, lane=lane, method=method, artifact=None, engine=engine,
        device=device, kernel=kernel, losses={},
    )  # fmt: skip
    cached = Cached(pairing=pairing, dtype=row.kv_dtype, format=cache, losses={})
    return Option(pairing=pairing, cached=cached, cell_bits=cache.bits, findings=(), like=pairing)
