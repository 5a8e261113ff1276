"""What a row costs and what it draws, as estimates."""

from __future__ import annotations

from planner import cost, energy, owned
from planner.fits import Fits
from planner.plan import Basis, Estimate
from planner.rank import Row
from planner.serving import Pace
from planner.spread import between


def estimates(row: Row, at: Pace[float], fits: Fits) -> dict[str, Estimate]:
    """Prices and power at the planned load; absent where no price or no power is known."""
    return _prices(row, at) | _power(row, at)


def _prices(row: Row, at: Pace[float]) -> dict[str, Estimate]:
    """An interval of nothing, because a price is what is asked."""
    pairing, devices = row.option.pairing, row.at(row.swept.devices)
    price = pairing.device.usd_per_hour
    if price is None:
        return {}
    hourly = cost.price_usd_per_hour(cost.paid_devices(devices, float(pairing.device.per_instance)), price)
    monthly = cost.price_usd_per_month(hourly, cost.HOURS_PER_MONTH)
    load = pairing.settled.load
    rate = load.mean_rate if load.mean_rate is not None else at.rate * row.at(row.swept.replicas)
    million = 1e6 * cost.usd_per_token(hourly, 3600.0, rate * load.output.mean)
    basis = _basis(row)
    return {
        "price_usd_per_hour": between(hourly, hourly, hourly, basis, "USD/h"),
        "price_usd_per_month": between(monthly, monthly, monthly, basis, "USD/month"),
        "usd_per_million_output_tokens": between(million, million, million, basis, "USD"),
    }


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
