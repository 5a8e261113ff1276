"""C rules: prices and budgets."""

from __future__ import annotations

from planner.rules.rule import Measured, Pairing, Says, Shown, rule

MEAN_OF_PEAK = 0.5
"""Share of the peak below which the idle time is worth a word (assumed)."""


@rule("C101", "note")
def no_price(case: Pairing) -> Says | None:
    """Notes a device without a confirmed price: its cost stays null and it ranks last under the objective cost.

    Why: an invented price would decide the plan, and confidence C never carries a choice.
    Articles: A1: a Lambda A10 at $0.60 an hour: no such offer is confirmed; A10 from $2.00 (OCI).
    Source: the catalogue's offers.
    Fires: --model Qwen/Qwen3-8B --on mi325x --qps 1
    Silent: --model Qwen/Qwen3-8B --on mi325x --qps 1 --set hardware.accelerators[0].usd_per_hour=2
    """
    device, doubtful = case.device, case.device.doubtful_usd_per_hour
    if device.usd_per_hour is not None:
        return None
    seen = "is known" if doubtful is None else f"is confirmed (one source says {doubtful:g} $/h)"
    return Says(
        because=f"no price of {device.accelerator.name} {seen}: state usd_per_hour, or what you paid (owned)",
        facts={} if doubtful is None else {"usd_per_hour": doubtful},
    )


@rule("C103", "note")
def stale_price(case: Pairing) -> Says | None:
    """Notes a price whose source carries no date, or an old one at the request's `as_of`.

    Why: cloud prices move within weeks; an undated one may be old.
    Articles: A1: p4d at $32 (now $21.96, and 8 x 40 GB; p4de $27.45), A10G at $0.75 ($1.01). A2 prices in yuan without
    a date.
    Source: the catalogue's offers.
    Fires: --model Qwen/Qwen3-8B --on a10g:4 --qps 1 --set as_of=2030-01-01
    Silent: --model Qwen/Qwen3-8B --on a10g:4 --qps 1 --set as_of=2030-01-01 --set hardware.accelerators[0].usd_per_hour=1
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


@rule("C105", "warn")
def spot_may_be_taken_away(case: Shown) -> Says | None:
    """Warns of a spot price: the instance may be taken away at short notice.

    Why: a fleet on spot capacity needs spares, a second market, or work that can wait.
    Articles: A2 recommends spot instances (for training). Spot capacity may be taken away.
    Source: the offer's market.
    Fires: --model meta-llama/Llama-3.1-70B-Instruct --any --qps 1 --lanes fp8 --set hardware.any.market="spot"
    Silent: --model meta-llama/Llama-3.1-70B-Instruct --any --qps 1 --lanes fp8
    """
    offer = case.pairing.device.offer
    if offer is None or offer.market != "spot":
        return None
    return Says(
        because=f"{offer.name} is a spot price: plan spares, or work that can wait",
        facts={"market": offer.market},
        source=offer.source,
    )


@rule("C202", "note")
def peak_is_paid_all_day(case: Shown) -> Says | None:
    """Notes a mean rate far below the peak: the capacity for the peak is paid around the clock.

    Why: the price of a token is spread over what is really asked; scaling with the load, or moving batch work into the
    valleys, is where the money is.
    Articles: A1: the investment pays for itself in days; 10,000 requests a day cost $200 or $20. No model or length is
    given; 10,000 a day are 0.12 requests/s, 540 $ a month for 70B at 500 in and 200 out.
    Source: the request's qps and qps_mean.
    Fires: --model Qwen/Qwen3-8B --on l40s:8 --qps 8 --set workload.qps_mean=1
    Silent: --model Qwen/Qwen3-8B --on l40s:8 --qps 8 --set workload.qps_mean=6
    """
    load = case.pairing.settled.load
    if load.rate is None or load.mean_rate is None or load.mean_rate >= MEAN_OF_PEAK * load.rate:
        return None
    return Says(
        because=f"the mean rate is {load.mean_rate / load.rate:.0%} of the peak, whose capacity is paid around the clock",
        facts={"qps": load.rate, "qps_mean": load.mean_rate},
        source="the request",
    )


@rule("C203", "note")
def sixteen_bits_on_fp8_hardware(case: Shown) -> Says | None:
    """Notes 16-bit weights on a device that multiplies in FP8.

    Why: FP8 halves the weights, frees cache, and is within noise of the original on averages (99.7 to 100.0 % at 8B to
    405B); on fixed hardware the price may be the same, and then the lower loss decides for 16 bits.
    Articles: A3: BF16 on Hopper costs 1.6 times for nothing. Saturated Qwen3-8B 1.15-1.24 times; 70B for one user two
    H100 against one (2.0). A1: 4 bits are 4 times cheaper: 3.5 times for 70B against 2 x A100-80, 2.0 against one
    MI300X.
    Source: RedHatAI FP8-dynamic cards; `lanewise plan --lanes fp8` prices the difference.
    Fires: --model Qwen/Qwen3-8B --on h100-sxm5-80 --qps 1 --lanes bf16
    Silent: --model Qwen/Qwen3-8B --on a100-sxm4-80 --qps 1 --lanes bf16
    """
    pairing = case.pairing
    eight = pairing.engine.kernel("fp8", "fp8-dynamic", pairing.device.accelerator)
    if pairing.lane.family != "16-bit" or eight is None or eight.path != "fp8":
        return None
    return Says(
        because=f"{pairing.device.accelerator.name} multiplies in FP8: half the weights at about the same quality",
        source="RedHatAI FP8-dynamic cards",
    )


@rule("C201", "refuse")
def over_budget(case: Measured) -> Says | None:
    """Refuses what costs more than the budget.

    Why: the request says so.
    Articles: A1: a cost difference of 53 times between BF16 and 4-bit 70B compares with a device on which the model
    does not run. For one user: 1,883 $ a month (2 x A100-80, BF16), 942 $ (8 bits), 540 $ (4 bits, one RTX A6000): 3.5
    times.
    Source: the request's budget and the price used.
    Fires: --model Qwen/Qwen3-8B --on l4 --qps 0.1 --usd-per-month 10
    Silent: --model Qwen/Qwen3-8B --on l4 --qps 0.1 --usd-per-month 5000
    """
    limit = case.placed.pairing.settled.objectives.usd_per_month
    if limit is None or case.usd_per_month is None or case.usd_per_month <= limit:
        return None
    return Says(
        because=f"{case.usd_per_month:,.0f} $ a month exceed the budget of {limit:,.0f} $",
        facts={"usd_per_month": round(case.usd_per_month, 2), "budget": limit, "devices": case.devices},
    )
