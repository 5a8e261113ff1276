"""What an hour costs of a device that was bought: capital over the months until it is written off, and power."""

from __future__ import annotations

from catalog.accelerator import Accelerator
from catalog.errors import BadInput
from planner import cost
from planner.plan import Basis
from planner.request import Owned
from planner.trace import N, Num


def board_watts(accelerator: Accelerator) -> float | None:
    """Watts of one device at full load; None where no source, or only a doubtful one, states them."""
    return None if accelerator.tdp is None or accelerator.confidence_of("tdp") == "C" else float(accelerator.tdp)


def usd_per_hour(owned: Owned, accelerator: Accelerator, path: str) -> float:
    """$/h of one device. Raises BadInput with `path` where nobody states its power."""
    if owned.watts is None and board_watts(accelerator) is None:
        raise BadInput(f"no board power of {accelerator.name} is known: state its watts", f"{path}.watts")
    return _hour(*(float(number) for number in inputs(owned, accelerator)))


def traced(owned: Owned, accelerator: Accelerator) -> Num:
    """The same number with the steps that made it."""
    return _hour(*inputs(owned, accelerator))


def source(owned: Owned, accelerator: Accelerator) -> str:
    """The price in words: what the request states, what the catalogue adds, what is assumed."""
    months, pue = owned.months or cost.MONTHS, owned.pue or cost.PUE
    terms = (
        f"{owned.capital_usd:,.10g} $ over {months:g} months{_guess(owned.months)}",
        f"{_watts(owned, accelerator):g} W x PUE {pue:g}{_guess(owned.pue)} at {owned.usd_per_kwh:g} $/kWh",
    )
    power = "" if owned.watts is not None else f"; board power: {accelerator.source_of('tdp')}"
    return f"owned, as the request states: {' and '.join(terms)}{power}"


def basis(owned: Owned) -> Basis:
    """Assumed while a default stands in for what the request leaves out."""
    return "published" if owned.months is not None and owned.pue is not None else "assumed"


def inputs(owned: Owned, accelerator: Accelerator) -> tuple[Num, ...]:
    """Capital, months, hours a month, watts, PUE, price of power."""
    stated, months, pue = "the request", owned.months or cost.MONTHS, owned.pue or cost.PUE
    drawn = stated if owned.watts is not None else accelerator.source_of("tdp")
    usual, survey = "assumed: three years", "Uptime Institute, survey of 2023"
    per_watt_hour = {"USD": 1, "W": -1, "h": -1}
    return (
        Num(owned.capital_usd, {"USD": 1}, name="capital_usd", source=stated),
        Num(months, {"month": 1}, name="months", source=stated if owned.months else usual),
        Num(cost.HOURS_PER_MONTH, {"h": 1, "month": -1}, name="hours_per_month", source="365 x 24 / 12"),
        Num(_watts(owned, accelerator), {"W": 1}, name="watts", source=drawn),
        Num(pue, name="pue", source=stated if owned.pue else survey),
        Num(owned.usd_per_kwh / 1e3, per_watt_hour, name="usd_per_watt_hour", source=stated),
    )


def _hour(capital: N, months: N, hours_per_month: N, watts: N, pue: N, usd_per_watt_hour: N) -> N:
    spread = cost.capital_usd_per_hour(capital, months, hours_per_month)
    return cost.usd_per_device_hour(spread, cost.power_usd_per_hour(watts, pue, usd_per_watt_hour))


def _watts(owned: Owned, accelerator: Accelerator) -> float:
    return owned.watts or board_watts(accelerator) or 0.0


def _guess(stated: float | None) -> str:
    return "" if stated is not None else " (assumed)"
