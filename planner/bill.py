"""What a row costs and what it draws, as estimates."""

from __future__ import annotations

import math

from planner import cost, energy, jobs, owned, queueing
from planner.fits import Fits
from planner.plan import Basis, Estimate
from planner.rank import Row
from planner.rooms import Terms
from planner.serving import Pace, pacing
from planner.spread import between
from planner.sweep import HALVINGS, usable_share

EMPTIEST = 1e-6
"""Running sequences of a replica that is hardly ever asked."""


def estimates(row: Row, at: Pace[float], terms: Terms[float], fits: Fits) -> dict[str, Estimate]:
    """Prices, what a job takes, idle time and power; absent where no price or no power is known."""
    return _prices(row, at, fits) | _job(row, terms, fits) | _idle(row, terms, fits) | _power(row, at)


def _prices(row: Row, at: Pace[float], fits: Fits) -> dict[str, Estimate]:
    """An interval of nothing for what is asked; the split between prompts and answers is as sure as the speed."""
    pairing, devices = row.option.pairing, row.at(row.swept.devices)
    price, load, basis = pairing.device.usd_per_hour, pairing.settled.load, _basis(row)
    if price is None:
        return {}
    hourly = _hourly(row, devices, price)
    monthly, least = (cost.price_usd_per_month(each, cost.HOURS_PER_MONTH) for each in (hourly, _mean(row, price)))
    rate = load.mean_rate if load.mean_rate is not None else at.rate * row.at(row.swept.replicas)
    million = 1e6 * cost.usd_per_token(hourly, 3600.0, rate * load.output.mean)
    return {
        "price_usd_per_hour": between(hourly, hourly, hourly, basis, "USD/h"),
        "price_usd_per_month": between(monthly, monthly, monthly, basis, "USD/month"),
        "price_usd_per_month_at_mean": between(least, least, least, basis, "USD/month"),
        "usd_per_million_output_tokens": between(million, million, million, basis, "USD"),
        **_split(row, at, (hourly, rate), fits),
    }


def _hourly(row: Row, devices: float, price: float) -> float:
    size = float(row.option.pairing.device.per_instance)
    return cost.price_usd_per_hour(cost.paid_devices(devices, size), price)


def _mean(row: Row, price: float) -> float:
    """$/h of the replicas that the mean rate needs: what scaling with the load would come to at best."""
    swept, settled = row.swept, row.option.pairing.settled
    replicas, load = row.at(swept.replicas), settled.load
    needed = replicas
    if load.mean_rate is not None:
        carried = row.at(swept.rate) * usable_share(settled)
        needed = min(replicas, queueing.replicas(load.mean_rate, carried) + load.spares)
    return _hourly(row, row.at(swept.devices) / replicas * needed, price)


def _split(row: Row, at: Pace[float], asked: tuple[float, float], fits: Fits) -> dict[str, Estimate]:
    """$ per million tokens where prompts and answers each carry their part of the busy time; `asked` = ($/h,
    requests/s on average). The two together come to what all output tokens cost where they carry everything.
    """
    (hourly, rate), pairing, load = asked, row.option.pairing, row.option.pairing.settled.load
    low, high = fits.band(pairing, "ttft")
    decode = 1 / at.rate - at.prompt_s
    shares = [cost.prefill_share(at.prompt_s * way, decode) for way in (min(low, 1.0), 1.0, max(high, 1.0))]
    read = [1e6 * cost.usd_per_prompt_token(hourly, 3600.0, rate * load.prompt.mean, share) for share in shares]
    made = [1e6 * (1 - share) * cost.usd_per_token(hourly, 3600.0, rate * load.output.mean) for share in shares]
    basis = fits.of(pairing).basis if _basis(row) == "published" else _basis(row)
    return {
        "usd_per_million_input_tokens": between(read[0], read[1], read[2], basis, "USD"),
        "usd_per_million_output_tokens_beside_input": between(made[2], made[1], made[0], basis, "USD"),
    }


def _idle(row: Row, terms: Terms[float], fits: Fits) -> dict[str, Estimate]:
    """Nothing for a batch of requests: what is paid after its deadline is not known."""
    pairing, swept = row.option.pairing, row.swept
    if pairing.settled.request.workload.batch is not None:
        return {}
    devices, (low, high) = row.at(swept.devices), fits.band(pairing, "tpot")
    paid = cost.paid_devices(devices, float(pairing.device.per_instance))
    batch = _mean_batch(row, terms)
    part = 1.0 if pairing.settled.load.users is not None else min(low, 1.0)
    most = 1.0 if pairing.settled.load.users is not None else max(high, 1.0)
    least, value, largest = (
        cost.paid_idle_share(devices, paid, energy.busy(running, pairing.settled))
        for running in (batch * most, batch, batch * part)
    )
    return {"idle_share": between(least, value, largest, fits.of(pairing).basis, "1")}


def _mean_batch(row: Row, terms: Terms[float]) -> float:
    """Running sequences of a replica at the mean rate, found by halving the logarithm."""
    swept, load = row.swept, row.option.pairing.settled.load
    batch = row.at(swept.batch)
    if load.mean_rate is None or load.mean_rate == load.rate:
        return batch
    at, wanted = pacing(terms, swept.rows.books), load.mean_rate / row.at(swept.replicas)
    low, high = math.log(EMPTIEST), math.log(batch)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if at(math.exp(middle)).rate < wanted else (low, middle)
    return math.exp(high)


def _job(row: Row, terms: Terms[float], fits: Fits) -> dict[str, Estimate]:
    """`job_s` against its deadline, `usd_per_job` where a price is known; nothing where no job is asked for."""
    pairing, swept = row.option.pairing, row.swept
    settled = pairing.settled
    asked = settled.request.workload.batch
    if asked is None:
        return {}
    serving = row.at(swept.replicas) - settled.load.spares
    low, high = fits.band(pairing, "tpot")
    stated = row.own_rate
    own, each = not math.isnan(stated), asked.requests / serving
    longest = jobs.longest_answer(settled)
    rate, ending = jobs.job_times(terms, swept.rows.books, row.at(swept.most), longest)(each)
    value = each / (stated if own else rate) + ending
    ends = (value, value) if own else (value * min(low, 1.0), value * max(high, 1.0))
    basis: Basis = "overridden" if own else fits.of(pairing).basis
    made = {"job_s": between(ends[0], value, ends[1], basis, "s")}
    return made | _job_paid(row, made["job_s"])


def _job_paid(row: Row, time: Estimate) -> dict[str, Estimate]:
    """What the devices cost until the last answer, if they are given back then."""
    device = row.option.pairing.device
    if device.usd_per_hour is None:
        return {}
    paid = cost.paid_devices(row.at(row.swept.devices), float(device.per_instance))
    hourly = cost.price_usd_per_hour(paid, device.usd_per_hour)
    low, value, high = (hourly * each / 3600 for each in (time.low, time.value, time.high))
    return {"usd_per_job": between(low, value, high, time.basis, "USD")}


def _basis(row: Row) -> Basis:
    ask = row.option.pairing.device.ask
    return owned.basis(ask.owned) if ask is not None and ask.owned is not None else "published"


def _power(row: Row, at: Pace[float]) -> dict[str, Estimate]:
    """Between devices that always wait and devices that always work."""
    settled, each = row.option.pairing.settled, energy.device_watts(row.option.pairing.device)
    if each is None:
        return {}
    devices, busy = row.at(row.swept.devices), energy.busy(row.at(row.swept.batch), settled)
    low, value, high = (cost.watts(devices, each[0], cost.IDLE_DRAW, share) for share in (0.0, busy, 1.0))
    tokens = at.rate * row.at(row.swept.replicas) * settled.load.output.mean
    worst, mean, best = (cost.tokens_per_joule(tokens, watts) for watts in (high, value, low))
    return {
        "watts": between(low, value, high, "assumed", "W"),
        "tokens_per_joule": between(worst, mean, best, "assumed", "1/J"),
    }
