"""C rules: prices and budgets."""

from __future__ import annotations

from planner.rules.rule import Measured, Pairing, Says, rule


@rule("C101", "note")
def no_price(case: Pairing) -> Says | None:
    """Notes a device without any price: its cost stays null and it ranks last under the objective cost.

    Why: an invented price would decide the plan.
    Source: the catalogue's offers.
    """
    device = case.device
    if device.usd_per_hour is not None or device.doubtful_usd_per_hour is not None:
        return None
    return Says(because=f"no price of {device.accelerator.name} is known: state usd_per_hour")


@rule("C102", "note")
def unconfirmed_price(case: Pairing) -> Says | None:
    """Notes a device whose only price is unconfirmed; it is shown and not used.

    Why: confidence C never carries a choice.
    Source: the catalogue's offers.
    """
    price = case.device.doubtful_usd_per_hour
    if price is None:
        return None
    return Says(
        because=f"the only price of {case.device.accelerator.name} is unconfirmed ({price:g} $/h): state usd_per_hour",
        facts={"usd_per_hour": price},
        source=case.device.price_source,
    )


@rule("C103", "note")
def stale_price(case: Pairing) -> Says | None:
    """Notes a price whose source carries no date, or an old one at the request's `as_of`.

    Why: cloud prices move within weeks; an undated one may be old.
    Source: the catalogue's offers.
    """
    offer, now = case.device.offer, case.settled.as_of
    if offer is None or not offer.stale(now):
        return None
    age = offer.age_days(now)
    return Says(
        because=f"the price of {offer.name} is {'undated' if age is None else f'{age} days old at {now}'}",
        facts={"usd_per_hour": offer.usd_per_hour, "as_of": offer.as_of},
        source=offer.source,
    )


@rule("C201", "refuse")
def over_budget(case: Measured) -> Says | None:
    """Refuses what costs more than the budget.

    Why: the request says so.
    Source: the request's budget and the price used.
    """
    limit = case.placed.pairing.settled.objectives.usd_per_month
    if limit is None or case.usd_per_month is None or case.usd_per_month <= limit:
        return None
    return Says(
        because=f"{case.usd_per_month:,.0f} $ a month exceed the budget of {limit:,.0f} $",
        facts={"usd_per_month": round(case.usd_per_month, 2), "budget": limit, "devices": case.devices},
    )
