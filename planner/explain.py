"""A ranked row as the candidate that people see, and every number of it with the steps that made it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, cast

from msgspec import UNSET, structs

from catalog.artifact import Artifact
from catalog.gates import Gates
from catalog.units import GIB
from planner import (
    bill,
    cost,
    drafting,
    energy,
    kernels,
    making,
    memory,
    owned,
    ownmemory,
    readiness,
    simulated,
    taken,
)
from planner import pairing as pairings
from planner.crossover import Rate, slower_from
from planner.fits import Fits
from planner.memory import claimable_share
from planner.plan import (
    ArtifactRef,
    Basis,
    Candidate,
    Estimate,
    Pool,
    Settings,
    Step,
)
from planner.proof import proof_of
from planner.quality import evidenced, expected
from planner.rank import Row
from planner.ranks import all_of
from planner.rooms import Books, Room, Terms, replica_slots, room, rooms
from planner.rows import terms_of
from planner.rules import SHOWN
from planner.rules.rule import Device, Pairing, Shown
from planner.serving import Latency, Pace, Z, closed_rate, latency, pace, pacing, percentile
from planner.spread import between
from planner.trace import Num, Unit, derivation

BYTE: Unit = {"byte": 1}
SECOND: Unit = {"s": 1}
FLOP: Unit = {"flop": 1}
UNITS: dict[str, Unit] = {
    "index_bytes": BYTE, "state_bytes": BYTE, "rope_bytes": BYTE, "value_bytes": BYTE, "attention_flops": FLOP,
    "matrix_flops": FLOP, "expert_flops": FLOP, "flops": FLOP,
    "bandwidth": {"byte": 1, "s": -1}, "link_bandwidth": {"byte": 1, "s": -1},
    "matrix_peak": {"flop": 1, "s": -1}, "attention_peak": {"flop": 1, "s": -1}, "scalar_peak": {"flop": 1, "s": -1},
    "memory": BYTE, "cell_bytes": BYTE,
}  # fmt: skip
"""Units by field name; `…_bytes` are bytes, `…_s` seconds, everything else is a plain count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """One replica of a row in plain numbers: everything that is said of it rests on these."""

    terms: Terms[float]
    held: Room[float]
    """With slots for the largest batch."""
    running_bytes: float
    """Cache of the sequences that run at the planned load."""
    at: Pace[float]
    """At the planned load."""


def replica(row: Row, fits: Fits) -> Replica:
    """The row's replica."""
    swept, terms, books = row.swept, terms_at(row, fits), row.swept.rows.books
    at, batch = rooms(terms, books), row.at(swept.batch)
    running = at(batch).running_bytes
    return Replica(terms=terms, held=at(row.at(swept.most)), running_bytes=running, at=pace(terms, batch, books))


def candidate(row: Row, fits: Fits, gates: Gates) -> Candidate:
    """Everything the plan says of one row; `gates` = what settles quality."""
    option, paired = row.option, row.option.pairing
    own, made, by_layer = replica(row, fits), making.make(paired), kernels.by_layer(paired)
    numbers = estimates(row, own, fits)
    lived = simulated.simulate(row, own.terms, numbers) if paired.settled.request.simulate else None
    if lived is not None:
        numbers |= simulated.estimates(lived, row, fits)
    plain = _plain_terms(row, fits)
    proved = proof_of(row, (own.terms, plain or own.terms), (fits, gates), made)
    case = _case(row, own, plain, numbers)
    case = structs.replace(case, make=made, simulated=lived, kernels=by_layer, verification=proved)
    return Candidate(
        lane=paired.lane.id,
        recipe=paired.method.recipe,
        kernel=paired.kernel.name if paired.kernel else "",
        kernels=by_layer,
        artifact=_artifact(paired.artifact, paired.model.id),
        make=made,
        engine=paired.engine.id,
        engine_version=paired.engine.version,
        image=_image(paired),
        kv_cache_dtype=option.cached.dtype,
        pools=(_pool(row, own),),
        estimates=numbers,
        quality={name: expected(loss) for name, loss in sorted(option.cached.losses.items())},
        evidence={name: evidenced(loss) for name, loss in sorted(option.cached.losses.items())},
        findings=(*option.findings, *(said for rule in SHOWN if (said := rule(case)) is not None)),
        offer=_offer(row),
        simulated=lived,
        verification=proved,
    )


def _image(pairing: Pairing) -> str:
    """The published image that runs here; "" where none is known."""
    build = pairing.engine.image(pairing.device.accelerator, pairing.device.driver)
    return build.image if build else ""


def _case(row: Row, own: Replica, plain: Terms[float] | None, numbers: Mapping[str, Estimate]) -> Shown:
    """The candidate at its planned load, as rules see it; `plain` = it with 16-bit weights. `make`, `simulated`,
    `kernels` and `verification` are left out."""
    swept, index, books = row.swept, row.index, row.swept.rows.books
    batch = row.at(swept.batch)
    ours, undrafted = _rate_of(own.terms, books), _undrafted(own.terms, books)
    unquantized = None if plain is None else _rate_of(plain, books)
    return Shown(
        pairing=row.option.pairing,
        cache=row.option.cached.dtype,
        make=None,
        tensor=int(swept.rows.tensor[index]),
        batch=batch,
        rate=own.at.rate,
        replicas=int(swept.replicas[index]),
        plain_rate=None if unquantized is None else unquantized(batch),
        plain_slower_from=None if unquantized is None else slower_from(ours, unquantized),
        undrafted_rate=None if undrafted is None else undrafted(batch),
        undrafted_slower_from=None if undrafted is None else slower_from(ours, undrafted),
        cache_bytes=own.held.cache_bytes,
        needed_bytes=max(own.running_bytes, own.held.longest_bytes),
        ready_s=numbers["ready_s"].value if "ready_s" in numbers else None,
        ready_cold_s=numbers["ready_cold_s"].value if "ready_cold_s" in numbers else None,
    )


def _rate_of(terms: Terms[float], books: Books) -> Rate:
    """Requests/s of one replica at a running batch."""
    at = pacing(cast(Terms[Any], terms), books)
    return lambda batch: at(batch).rate


def _plain_terms(row: Row, fits: Fits) -> Terms[float] | None:
    """The same with 16-bit weights on the same layout; None where the lane is 16-bit or the engine has none."""
    plain = pairings.unquantized(row.option)
    return None if plain is None else terms_of(plain, _layout(row), _chunk(row), fits)


def _undrafted(terms: Terms[float], books: Books) -> Rate | None:
    """The same without speculative decoding; None where nothing drafts."""
    return _rate_of(replace(terms, drafter=drafting.NONE), books) if terms.drafter.tokens else None


def terms_at(row: Row, fits: Fits) -> Terms[float]:
    """The row's terms as plain numbers."""
    return terms_of(row.option, _layout(row), _chunk(row), fits)


def _layout(row: Row) -> tuple[int, int, bool, int]:
    rows, index = row.swept.rows, row.index
    return int(rows.tensor[index]), int(rows.pipeline[index]), bool(rows.expert[index]), int(rows.data[index])


def _chunk(row: Row) -> float:
    return float(row.swept.rows.chunk[row.index])


def _pool(row: Row, replica: Replica) -> Pool:
    swept, index, stated = row.swept, row.index, taken.stated_pool(replica.held, replica.terms)
    pairing, (tensor, pipeline, expert, data) = row.option.pairing, _layout(row)
    own, lora = pairing.device, pairing.settled.load.lora
    lora = None if lora is None or lora.merged else lora
    share = claimable_share(own.accelerator, pairing.engine, own.memory or 0, own.free)[0]
    return Pool(
        role="serve",
        accelerator=pairing.device.accelerator.id,
        count=int(swept.devices[index]),
        replicas=int(swept.replicas[index]),
        tensor_parallel=tensor,
        pipeline_parallel=pipeline,
        data_parallel=data,
        expert_parallel=tensor * data if expert else 1,
        settings=Settings(
            max_model_len=pairing.settled.load.context,
            max_num_seqs=int(memory.slots_for(float(swept.most[index]) / data)),
            max_num_batched_tokens=int(_chunk(row)),
            gpu_memory_utilization=share,
            speculative=drafting.flag(pairing),
            max_loras=lora.adapters if lora else None,
            max_lora_rank=lora.max_rank if lora else None,
            kv_cache_gib=UNSET if stated is None else round(stated / GIB),
            devices=own.pins,
        ),
    )


def estimates(row: Row, own: Replica, fits: Fits) -> dict[str, Estimate]:
    """Every number of the answer with its interval."""
    pairing, books, batch = row.option.pairing, row.swept.rows.books, row.at(row.swept.batch)
    running = batch, replica_slots(own.terms, row.at(row.swept.most))
    ends = [(each, pace(each, batch, books)) for each in _drafted_ends(pairing, own.terms)]
    made = taken.memory_estimates(own.held, pairing, own.terms)
    made |= ownmemory.measured(fits.sizes, _deployed(row, own), made)
    lates = [latency(each, running, at, books) for each, at in ((own.terms, own.at), *ends)]
    made |= _latencies(row, lates, fits)
    made |= _rates(row, own.at, fits) | _asked_again(row, own, fits)
    made |= drafting.estimates(pairing, own.terms.drafter)
    made["loss_pct"] = expected(row.option.loss)
    made |= readiness.estimates(pairing, own.terms, own.held.slots)
    return made | bill.estimates(row, _carried(row, own), own.terms, fits)


def _deployed(row: Row, own: Replica) -> ownmemory.Deployed:
    pairing, pool = row.option.pairing, _pool(row, own)
    return ownmemory.Deployed(
        accelerator=pool.accelerator,
        devices=pool.tensor_parallel * pool.pipeline_parallel * pool.data_parallel,
        tensor=pool.tensor_parallel,
        engine=pairing.engine.id,
        version=pairing.engine.version,
        lane=pairing.lane.id,
        model=pairing.model.id,
        kv_dtype=row.option.cached.dtype,
        context=float(pool.settings.max_model_len),
        slots=float(pool.settings.max_num_seqs),
        chunk=float(pool.settings.max_num_batched_tokens),
    )


def _drafted_ends(pairing: Pairing, terms: Terms[float]) -> list[Terms[float]]:
    """The terms at both ends of an acceptance that nobody measured; nothing where one is stated, or nothing drafts."""
    ends = drafting.acceptances(pairing) or ()
    return [replace(terms, drafter=replace(terms.drafter, acceptance=each)) for each in ends]


def _latencies(row: Row, lates: list[Latency[float]], fits: Fits) -> dict[str, Estimate]:
    """Percentiles; the first of `lates` is the value, the others widen its interval."""
    pairing, made = row.option.pairing, {}
    basis: Basis = _basis(row, fits) if len(lates) == 1 else "assumed"
    for name in ("ttft", "tpot", "e2e"):
        low, high = fits.band(pairing, name)
        for quantile in ("p50", "p95", "p99"):
            values = [percentile(late, name, Z[quantile]) for late in lates]
            least, most = min(values) * min(low, 1.0), max(values) * max(high, 1.0)
            made[f"{name}_{quantile}_s"] = between(least, values[0], most, basis, "s")
    return made


def _basis(row: Row, fits: Fits) -> Basis:
    """Of step times; no measurement speaks of ranks that share experts under vLLM."""
    return fits.of(row.option.pairing).basis if row.swept.rows.data[row.index] == 1 else "assumed"


def _rates(row: Row, at: Pace[float], fits: Fits) -> dict[str, Estimate]:
    pairing, swept, index = row.option.pairing, row.swept, row.index
    low, high = fits.band(pairing, "tpot")
    basis = _basis(row, fits)
    replicas, most = float(swept.replicas[index]), float(swept.rate[index])
    served, stated = at.rate * replicas, not math.isnan(row.own_rate)
    worst, best = (1.0, 1.0) if stated else (1 / max(high, 1.0), 1 / min(low, 1.0))
    top = most * replicas
    return {
        "requests_per_s": between(served, served, served, "published", "1/s"),
        "requests_per_s_max": between(top * worst, top, top * best, "overridden" if stated else basis, "1/s"),
        "running_sequences": between(
            float(swept.batch[index]) * min(low, 1.0),
            float(swept.batch[index]),
            float(swept.batch[index]) * max(high, 1.0),
            basis,
            "1",
        ),
    }


def _carried(row: Row, own: Replica) -> Pace[float]:
    """The pace with the rate that is served: of users, as they ask again."""
    if row.option.pairing.settled.load.users is None or not math.isnan(row.own_rate):
        return own.at
    return replace(own.at, rate=closed_rate(row.at(row.swept.batch), own.at, own.terms.arrival_s))


def _asked_again(row: Row, own: Replica, fits: Fits) -> dict[str, Estimate]:
    """Requests/s of users who ask again when their answer has come; nothing where a rate is given, or stated."""
    carried = _carried(row, own)
    if carried is own.at:
        return {}
    (low, high), served = fits.band(row.option.pairing, "e2e"), carried.rate * float(row.at(row.swept.replicas))
    return {
        "requests_per_s": between(served / max(high, 1.0), served, served / min(low, 1.0), _basis(row, fits), "1/s")
    }


def _artifact(artifact: Artifact | None, model: str) -> ArtifactRef | None:
    if artifact is None or artifact.repo == model:
        return None
    return ArtifactRef(
        repo=artifact.repo,
        revision=artifact.revision,
        publisher=artifact.publisher,
        license=artifact.license,
        gated=artifact.gated,
        checked=artifact.checked,
        format=artifact.format,
        source=artifact.source,
    )


def _offer(row: Row) -> dict[str, Any]:
    device = row.option.pairing.device
    if device.offer is None:
        return {"usd_per_hour": device.usd_per_hour, "source": device.price_source}
    offer = device.offer
    return {
        "provider": offer.provider,
        "instance": offer.instance,
        "region": offer.region,
        "market": offer.market,
        "usd_per_hour": device.usd_per_hour,
        "as_of": offer.as_of,
        "source": offer.source,
    }


def derive(row: Row, fits: Fits) -> tuple[Step, ...]:
    """The steps behind the row's memory, rate and latencies, causes first."""
    pairing, swept, books = row.option.pairing, row.swept, row.swept.rows.books
    plain = terms_at(row, fits)
    terms = cast(Terms[Num], _traced(plain, "terms", _sources(row, fits)))
    fits_and_meets = "the search: the largest that fits and meets the objectives"
    carries = "the search: the batch that carries the planned rate"
    most = Num(float(swept.most[row.index]), name="largest_batch", source=fits_and_meets)
    batch = Num(float(swept.batch[row.index]), name="running_batch", source=carries)
    held, at = room(terms, most, books), pace(terms, batch, books)
    late = latency(terms, (batch, all_of(terms.layout.data, held.slots)), at, books)
    quantile = Num(Z["p95"], name="z_p95", source="quantile 0.95 of the standard normal")
    tails = [percentile(late, name, quantile) for name in ("ttft", "tpot", "e2e")]
    for tail, name in zip(tails, ("ttft_p95_s", "tpot_p95_s", "e2e_p95_s"), strict=True):
        tail.name = name
    results = [held.cache_bytes, held.longest_bytes, held.running_bytes, at.rate, *tails]
    product = "the search: replicas x tensor x pipeline parallel"
    devices = Num(float(swept.devices[row.index]), name="devices", source=product)
    price = pairing.device.usd_per_hour
    if price is not None:
        each = _device_hour(pairing.device, price)
        hours = Num(cost.HOURS_PER_MONTH, {"h": 1, "month": -1}, name="hours_per_month", source="365 x 24 / 12")
        size = Num(pairing.device.per_instance, name="per_instance", source=pairing.device.price_source)
        hourly = cost.price_usd_per_hour(cost.paid_devices(devices, size), each)
        results.append(cost.price_usd_per_month(hourly, hours))
    results += _power(row, devices, batch, at)
    results += readiness.derived(pairing, plain, held.slots.value)
    return tuple(derivation(results))


def _power(row: Row, devices: Num, batch: Num, at: Pace[Num]) -> list[Num]:
    """Watts and tokens per joule; nothing where the device's power is not known."""
    device, load = row.option.pairing.device, row.option.pairing.settled
    each = energy.device_watts(device)
    if each is None:
        return []
    board = Num(each[0], {"W": 1}, name="device_watts", source=each[1])
    drawn = Num(cost.IDLE_DRAW, name="idle_draw", source="assumed")
    watts = cost.watts(devices, board, drawn, energy.busy(batch, load))
    output = Num(load.load.output.mean, name="output", source="the request")
    replicas = Num(row.at(row.swept.replicas), name="replicas", source="the search")
    return [cost.tokens_per_joule(at.rate * replicas * output, watts)]


def _device_hour(device: Device, price: float) -> Num:
    """$/h of one device; with its own steps where it was bought."""
    if device.ask is not None and device.ask.owned is not None:
        return owned.traced(device.ask.owned, device.accelerator)
    return Num(price, {"USD": 1, "h": -1}, name="usd_per_device_hour", source=device.price_source)


def _sources(row: Row, fits: Fits) -> dict[str, str]:
    """Citations: by field where one has its own, else by the part of the terms it belongs to."""
    pairing = row.option.pairing
    device, engine, fitted = pairing.device, pairing.engine, f"fitted: {fits.fitted.source}"
    facts = device.accelerator
    peaks = {name: facts.source_of(name) for name in ("bandwidth", "link_bandwidth")}
    peaks |= dict.fromkeys(("matrix_peak", "attention_peak", "scalar_peak"), facts.source)
    stated = device.ask is not None and device.memory != facts.usable_memory
    cited = engine.sources_at(engine.version, facts.accounted_as)
    constants = {name: cited.get(name, "") for name in engine.constants_at(engine.version, facts.accounted_as)}
    return {
        "demand": "the request",
        "shape": pairing.model.source,
        "weights": f"tensor shapes of {pairing.model.id} in {pairing.lane.id} ({pairing.method.recipe.name})",
        "layout": "the search",
        "rates": fitted,
        "accounting": cited.get("*", engine.source),
        "terms": fitted,
        "drafter": drafting.source(pairing),
        "chunk": "the search",
        "block_tokens": engine.source,
        "memory": "the request" if stated else facts.source_of("reported_memory"),
        "share": claimable_share(facts, engine, device.memory or 0, device.free)[1],
        "cell_bytes": f"{row.option.cell_bits:g} bits per value in a {row.option.cached.dtype} cache",
        **{name: source for name, source in (peaks | constants).items() if source},
    }


def _traced(terms: object, part: str, sources: dict[str, str]) -> object:
    made = {}
    for field in fields(cast(Any, terms)):
        value, name = getattr(terms, field.name), field.name
        made[name] = (
            _traced(value, name, sources)
            if is_dataclass(value)
            else Num(value, unit_of(name), name=name, source=sources.get(name) or sources[part])
        )
    return cast(Any, type(terms))(**made)


def unit_of(name: str) -> Unit:
    """The unit that a field's name states."""
    if name in UNITS:
        return UNITS[name]
    return BYTE if name.endswith("_bytes") else SECOND if name.endswith("_s") else {}
