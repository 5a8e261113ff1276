"""What the devices cost: formulas over a float, an array of candidates, or a traced number."""

from __future__ import annotations

from planner.trace import N, ceiling, exponential, positive, step

HOURS_PER_MONTH = 730.0
"""365 x 24 / 12."""
MONTHS = 36.0
"""Until a device that was bought is written off (assumed: three years are usual)."""
PUE = 1.58
"""Mean of the sites that the Uptime Institute asked in 2023; the largest sites reach 1.1 to 1.2."""

IDLE_DRAW = 0.2
"""Part of its full power that a device draws while it waits with a model loaded (assumed)."""


@step
def capital_usd_per_hour(capital: N, months: N, hours_per_month: N) -> N:
    """What was paid for a device, in equal parts over every hour until it is written off."""
    return capital / (months * hours_per_month)


@step
def power_usd_per_hour(watts: N, pue: N, usd_per_watt_hour: N) -> N:
    """A device at full load, with what its site draws beside it: an upper bound, paid for every hour."""
    return watts * pue * usd_per_watt_hour


@step
def usd_per_device_hour(capital: N, power: N) -> N:
    """An hour of a device that was bought: its part of the capital, and its power."""
    return capital + power


@step
def paid_devices(devices: N, per_instance: N) -> N:
    """Instances are rented whole: a plan for three devices on instances of eight pays for eight."""
    return ceiling(devices / per_instance) * per_instance


@step
def price_usd_per_hour(paid: N, usd_per_device_hour: N) -> N:
    """Every paid device costs its hour, busy or idle."""
    return paid * usd_per_device_hour


@step
def price_usd_per_month(hourly: N, hours_per_month: N) -> N:
    """The planned devices run all month: the peak is what is paid for."""
    return hourly * hours_per_month


@step
def usd_per_token(hourly: N, seconds_per_hour: N, tokens_per_s: N) -> N:
    """The price of an hour over the answers' tokens made in it on average: idle hours are paid too."""
    return hourly / (seconds_per_hour * tokens_per_s)


@step
def usd_per_prompt_token(hourly: N, seconds_per_hour: N, prompt_tokens_per_s: N, prefill_share: N) -> N:
    """Prompts carry the part of the price that their prefill takes of the busy time; idle time is shared alike."""
    return prefill_share * usd_per_token(hourly, seconds_per_hour, prompt_tokens_per_s)


@step
def prefill_share(prompt_s: N, decode_s: N) -> N:
    """Of the device time that one request takes: its prompt, beside its share of the decode steps."""
    return prompt_s / (prompt_s + decode_s)


@step
def paid_idle_share(devices: N, paid: N, busy: N) -> N:
    """Of the paid time: replicas that wait, and devices of a rented instance that belong to none."""
    return 1 - devices / paid * busy


@step
def empty_share(batch: N) -> N:
    """Arrivals know nothing of each other, so the running batch is Poisson: how often it is empty, at this mean."""
    return exponential(0 - batch)


@step
def empty_share_of_users(batch: N) -> N:
    """A user asks again at once, so a replica is idle only where there are fewer users than replicas."""
    return positive(1 - batch)


@step
def watts(devices: N, device_watts: N, idle_draw: N, busy: N) -> N:
    """A device that works is taken to draw its full power (an upper bound), one that waits `idle_draw` of it."""
    return devices * device_watts * (idle_draw + (1 - idle_draw) * busy)


@step
def tokens_per_joule(tokens_per_s: N, watts: N) -> N:
    """Answers' tokens over the power that they are made with."""
    return tokens_per_s / watts
