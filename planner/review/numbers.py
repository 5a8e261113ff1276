"""The choice in numbers: cost, memory, speed, quality, and the alternatives beside it."""

from __future__ import annotations

from collections.abc import Iterator

from planner.plan import Candidate, Estimate
from planner.review.blocks import Block, Figure, Section, say, table, warn
from planner.review.content import Family, Review
from planner.review.settled import TIMES, label, limits_s, unprinted
from planner.wording import GATE_COLUMNS, against, amount, gate_line, interval, percent, short

NOTHING = "Nothing fits, so there is nothing to show."
UNKNOWN = (
    "The price is unknown: the catalogue has no trusted offer of this accelerator and the request states none. Set "
    "usd_per_hour of the accelerator to have it planned."
)


def cost(review: Review) -> Section:
    """Per hour, month and million tokens; what idle time costs where a mean rate is known."""
    choice = review.plan.choice
    if choice is None:
        return Section(title="Cost", blocks=(say(NOTHING),))
    made = choice.estimates
    if "price_usd_per_month" not in made:
        return Section(title="Cost", blocks=(warn(UNKNOWN),))
    names = {
        "price_usd_per_hour": "an hour",
        "price_usd_per_month": "a month of 730 hours",
        "price_usd_per_month_at_mean": "a month of the replicas that the mean rate needs",
        "usd_per_million_output_tokens": "a million output tokens, which carry everything",
        "usd_per_million_input_tokens": "a million input tokens, by the time of prefill",
        "usd_per_million_output_tokens_beside_input": "a million output tokens beside them, by the time of decode",
    }
    rows = [(text, f"{short(made[name].value)} $", made[name].basis) for name, text in names.items()]
    prices = table("for | price | basis", rows, (1,))
    return Section(title="Cost", blocks=(prices, *_idle(review, made), *_offer(choice), *_power(made)))


def _idle(review: Review, made: dict[str, Estimate]) -> Iterator[Block]:
    """What the mean rate leaves unused of what the peak pays for."""
    work = review.plan.request["workload"]
    if work.get("batch"):
        run = made["price_usd_per_hour"].value * work["batch"]["deadline_s"] / 3600
        yield _table("the batch of requests", JOB, made)
        due = amount(work["batch"]["deadline_s"], "s")
        yield say(f"Its deadline is {due}: paid until then it costs {short(run)} $.")
    if not work.get("qps"):
        return
    mean = work.get("qps_mean")
    if mean is None:
        yield say(
            "Idle time is not priced: the mean rate (workload.qps_mean) is not stated, the peak is taken to last."
        )
        return
    unused = 1 - mean / work["qps"]
    month, token = made["price_usd_per_month"].value, made["usd_per_million_output_tokens"].value
    yield say(
        f"The devices are paid for the peak of {short(work['qps'])} requests/s and serve {short(mean)} on average: "
        f"{percent(unused)} of what is paid, {short(unused * month)} $ a month, is capacity that waits for the peak. "
        f"In {percent(made['idle_share'].value)} of the paid time devices do nothing at all. A million output "
        f"tokens would cost {short(token * (1 - unused))} $ at the peak all day, instead of {short(token)} $."
    )


JOB = {"job_s": "until the last answer", "usd_per_job": "price, if the devices are given back then"}
DRAWN = {"watts": "power of the devices", "tokens_per_joule": "output tokens per joule"}


def _power(made: dict[str, Estimate]) -> Iterator[Block]:
    """Nothing where no source states the device's power."""
    if DRAWN.keys() & made.keys():
        yield _table("at the planned load", DRAWN, made)


def _table(head: str, names: dict[str, str], made: dict[str, Estimate]) -> Block:
    """The named estimates with their intervals."""
    rows = [
        (text, amount(made[name].value, made[name].unit), interval(made[name]), made[name].basis)
        for name, text in names.items()
        if name in made
    ]
    return table(f"{head} | value | 80 % interval | basis", rows, (1, 2))


def _offer(choice: Candidate) -> Iterator[Block]:
    offer = choice.offer if isinstance(choice.offer, dict) else {}
    if offer.get("provider"):
        place = f"{offer['provider']}, {offer['instance']}, {offer['region']}, {str(offer['market']).replace('_', ' ')}"
        dated = f"dated {offer['as_of']}" if offer.get("as_of") else "undated"
        yield say(f"Priced at {short(offer['usd_per_hour'])} $ per device and hour: {place}; {dated}.")
    elif offer.get("usd_per_hour") is not None:
        bought = str(offer["source"])
        why = bought if bought.startswith("owned") else "as the request states"
        yield say(f"Priced at {short(offer['usd_per_hour'])} $ per device and hour, {why}.")


def memory(review: Review) -> Section:
    """Bytes of one device, stacked."""
    if not review.memory:
        return Section(title="Memory per device", blocks=(say(NOTHING),))
    own = review.memory[0]
    assert review.plan.choice is not None
    made = review.plan.choice.estimates
    shown = {
        "weights": "weight_bytes",
        "activations": "activation_bytes",
        "KV cache needed": "kv_needed_bytes",
        "KV cache pool": "kv_pool_bytes",
    }
    rows: list[tuple[str, ...]] = [
        (text, amount(made[name].value, "B"), interval(made[name]), made[name].basis) for text, name in shown.items()
    ]
    derived = {"engine": "the engine's own (graphs, libraries)", "free": "free, not claimed by the engine"}
    rows += [
        (text, amount(own.parts[part], "B"), "–", "derived") for part, text in derived.items() if part in own.parts
    ]
    if own.device_bytes is not None:
        rows.append(("device", amount(own.device_bytes, "B"), "–", "catalogue or request"))
    pool = made["kv_pool_bytes"].value
    share = percent(made["kv_needed_bytes"].value / pool) if pool > 0 else "all"
    said = f"Of the KV pool {share} is needed at the highest load that still meets the objectives."
    blocks = (Figure(chart="memory"), table("what | size | 80 % interval | basis", rows, (1, 2)), say(said))
    return Section(title="Memory per device", blocks=blocks)


def speed(review: Review) -> Section:
    """Percentiles with intervals beside the objectives."""
    choice = review.plan.choice
    if choice is None:
        return Section(title="Speed", blocks=(say(NOTHING),))
    limits, made = limits_s(review.plan), choice.estimates
    names = [f"{name}_{quantile}_s" for name in TIMES for quantile in ("p50", "p95", "p99")]
    rows = [_latency(name, made[name], limits.get(name)) for name in names if name in made]
    rates = {
        "requests_per_s": "requests/s planned",
        "requests_per_s_max": "requests/s within the objectives",
        "running_sequences": "running sequences per replica",
        "tokens_per_step": "tokens a step, drafts included",
    }
    load = [
        (text, short(made[name].value), interval(made[name]), made[name].basis)
        for name, text in rates.items()
        if name in made
    ]
    others = [f"{label(name)} within {amount(limit, 's')}" for name, limit in unprinted(review.plan).items()]
    missing = (say(f"Objectives at other percentiles, held by the plan and not printed: {', '.join(others)}."),)
    blocks = (
        Figure(chart="latency"),
        table("latency | value | 80 % interval | basis | objective | to spare", rows, (1, 2, 4, 5)),
        table("load | value | 80 % interval | basis", load, (1, 2)),
        *(missing if others else ()),
        *_ready(made),
    )
    return Section(title="Speed", blocks=blocks)


STARTS = {
    "ready_s": "warm: checkpoint on the disk, kernels compiled",
    "ready_cold_s": "cold: nothing but the image",
}


def _ready(made: dict[str, Estimate]) -> Iterator[Block]:
    """Nothing where nothing is known of the engine's starts."""
    if STARTS.keys() & made.keys():
        yield _table("until a new replica serves", STARTS, made)


def _latency(name: str, estimate: Estimate, limit: float | None) -> tuple[str, ...]:
    objective, spare = "–", "–"
    if limit is not None:
        objective = amount(limit, "s")
        spare = f"{percent(1 - estimate.value / limit)}, {percent(1 - estimate.high / limit)} at the bad end"
    return (
        label(name),
        amount(estimate.value, "s"),
        interval(estimate),
        estimate.basis,
        objective,
        spare,
    )


def quality(review: Review) -> Section:
    """Expected loss by task family beside its tolerance."""
    if not review.families:
        return Section(title="Quality", blocks=(say(NOTHING),))
    head = "task family | share of the mix | expected loss | 80 % interval | tolerated | basis | sources"
    rows = [_family(family) for family in review.families]
    said = "Loss is in percent of the unquantized model's score; the interval says what one more source might find."
    return Section(title="Quality", blocks=(Figure(chart="quality"), table(head, rows, (1, 2, 3, 4)), say(said)))


def proof(review: Review) -> Section:
    """The gates that would settle whether the quality holds, in their order."""
    title, choice = "What would prove it", review.plan.choice
    if choice is None:
        return Section(title=title, blocks=(say(NOTHING),))
    if choice.verification is None:
        return Section(title=title, blocks=(say("Nothing is lost against the original: there is nothing to prove."),))
    made, said = choice.verification, choice.verification.verdicts
    rows = [gate_line(gate) for gate in made.gates]
    blocks = (
        say(f"The candidate {against(made)}."),
        table(" | ".join(GATE_COLUMNS), rows, (3, 4, 5)),
        say(f"Pass: {said['pass']}. Fail: {said['fail']}. Inconclusive: {said['inconclusive']}."),
        say(f"Gates on text screen: {said['screens']}."),
    )
    return Section(title=title, blocks=blocks)


def _family(family: Family) -> tuple[str, ...]:
    share = "–" if family.share_pct is None else f"{short(family.share_pct)} %"
    tolerated = f"{short(family.tolerated_pct)} %"
    loss = family.loss
    between = f"{short(loss.low)} to {short(loss.high)} %"
    return family.name, share, f"{short(loss.value)} %", between, tolerated, loss.basis, family.doubt or "two or more"


SHOWN = ("price_usd_per_month", "ttft_p95_s", "tpot_p95_s", "e2e_p95_s", "loss_pct")
"""Estimates of every candidate."""


def alternatives(review: Review) -> Section:
    """The choice and what was not chosen, with their numbers; what each would win and lose."""
    plan = review.plan
    if plan.choice is None:
        return Section(title="Alternatives", blocks=(say("Nothing fits, so there is nothing to choose between."),))
    if not review.alternatives:
        return Section(title="Alternatives", blocks=(say("Nothing else that differs is as good in anything."),))
    rows = [_numbers(candidate) for candidate in (plan.choice, *plan.alternatives)]
    head = "candidate | devices | KV cache | $/month | TTFT p95 | TPOT p95 | e2e p95 | loss"
    against = [
        (_name(each.candidate), "; ".join(each.wins) or "nothing", "; ".join(each.loses) or "nothing")
        for each in review.alternatives
    ]
    blocks = (
        Figure(chart="candidates"),
        table(head, rows, range(3, 8), marked=0),
        table("alternative | would win | would lose", against),
    )
    return Section(title="Alternatives", blocks=blocks)


def _name(candidate: Candidate) -> str:
    pool = candidate.pools[0]
    return f"{candidate.lane}, {candidate.engine}, {pool.count} x {pool.accelerator}"


def _numbers(candidate: Candidate) -> tuple[str, ...]:
    pool, made = candidate.pools[0], candidate.estimates
    shown = [amount(made[name].value, made[name].unit) if name in made else "unknown" for name in SHOWN]
    shown[0] = shown[0].replace(" $/month", "")
    return (
        f"{candidate.lane}, {candidate.engine}",
        f"{pool.count} x {pool.accelerator}",
        candidate.kv_cache_dtype,
        *shown,
    )
