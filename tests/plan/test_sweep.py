"""The array pass: rows share work, and none can tell."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, cast

import numpy as np
import pytest
from msgspec import structs

from planner import hardware, pairing, refusals, sweep
from planner.fits import Fits
from planner.pairing import Option
from planner.rank import name_of
from planner.request import Request
from planner.rooms import fixture, room, rooms
from planner.rows import Rows, picked, rows
from planner.rules import ANYWHERE, CACHED, MEASURED, PAIRING, PRICED, PROBED, waived
from planner.rules.rule import Device, Pairing, ask
from planner.search import search
from planner.serving import Z, budgeted, latency, pace, percentile
from planner.settle import settle
from tests.plan.asking import ask as asked
from tests.plan.asking import catalog

LLAMA, MOE = "meta-llama/Llama-3.1-8B-Instruct", "Qwen/Qwen3-30B-A3B"
SLO = {"ttft_ms": {"p95": 900.0}, "tpot_ms": {"p95": 40.0}}
OWN = {"estimates": [{"lane": "fp8", "requests_per_s": 3.0, "loss_pct": {"chat": 0.4}}]}
REQUESTS = {
    "objectives": asked(LLAMA, workload={"qps": 6.0}, slo=SLO, hardware={"any": {}}),
    "no objective": asked(MOE, workload={"qps": 2.0}, hardware={"any": {"max_accelerators": 8}}),
    "users": asked(LLAMA, workload={"users": 40}, slo={"e2e_ms": {"p90": 9000.0}}, hardware={"any": {}}),
    "strict": asked(LLAMA, workload={"qps": 6.0}, slo=SLO, confidence="high", hardware={"any": {}}),
    "budget": asked(LLAMA, workload={"qps": 6.0}, budget={"usd_per_month": 900.0}, hardware={"any": {}}),
    "own numbers": asked(LLAMA, workload={"qps": 6.0}, slo=SLO, overrides=OWN, hardware={"any": {}}),
    "loose": asked(LLAMA, workload={"qps": 6.0}, quality={"max_loss_pct": 20.0}, overrides={"waive": ["Q401"]}),
}
COLUMNS = [field.name for field in fields(sweep.Swept) if field.name not in ("rows", "room", "misses")]


@pytest.fixture(params=REQUESTS)
def request_(request: pytest.FixtureRequest) -> Request:
    return REQUESTS[request.param]


def options(request: Request) -> tuple[list[Option], Any]:
    model = catalog().model(request.model)
    settled = settle(request, model.max_position, catalog().as_of)
    return pairing.options(settled, model, hardware.devices(request, catalog()), catalog()).kept, settled


def test_rows_that_share_a_case_come_to_what_each_comes_to_alone(request_: Request) -> None:
    kept, settled = options(request_)
    apart = [structs.replace(option, like=option.pairing) for option in kept]
    together, _ = rows(kept, Fits(catalog().speed))
    alone, _ = rows(apart, Fits(catalog().speed))
    assert sum(block.cases.size for block in together) < sum(block.cases.size for block in alone)
    for shared, own in zip(together, alone, strict=True):
        one, other = sweep.sweep(shared, settled), sweep.sweep(own, settled)
        for name in COLUMNS:
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name), name)


def test_what_else_is_asked_about_changes_no_case(request_: Request) -> None:
    kept, settled = options(request_)
    for block in rows(kept, Fits(catalog().speed))[0]:
        whole = sweep.evaluate(block.cases, settled)
        some = np.arange(0, block.cases.size, 7)
        part = sweep.evaluate(block.cases.at(some), settled)
        for name in ("starts", "holds", "served", "most", "rate", "devices", "feasible", "batch", "e2e_p95_s"):
            np.testing.assert_array_equal(getattr(whole, name)[some], getattr(part, name), name)


def test_the_largest_batch_meets_everything_and_the_next_step_does_not() -> None:
    kept, settled = options(REQUESTS["objectives"])
    for block in rows(kept, Fits(catalog().speed))[0]:
        cases, found = block.cases, sweep.evaluate(block.cases, settled)
        top = sweep.seats(cases.books, settled)
        step = (np.log(top) - np.log(sweep.LEAST)) / 2**sweep.HALVINGS
        short = found.served & (found.most < top * (1 - 1e-9))
        assert possible(block, settled, found.most)[found.served].all()
        assert not possible(block, settled, found.most * np.exp(step))[short].any()
    assert short.any() or block.books == "llama.cpp"


def possible(block: Rows, settled: Any, batch: Any) -> Any:
    """The objectives and the memory, written out."""
    terms, books = block.cases.terms, block.books
    held = room(terms, batch, books)
    ok = (held.cache_bytes >= np.maximum(held.longest_bytes, held.running_bytes)) & (budgeted(terms, batch) <= 1)
    late = latency(terms, (batch, held.slots), pace(terms, batch, books), books)
    for objective, limit in settled.objectives.slo_s.items():
        name, quantile, _ = objective.split("_")
        ok &= percentile(late, name, np.asarray(Z[quantile])) <= limit
    return ok


def test_every_pairing_gets_what_the_rules_say_of_it_alone(request_: Request) -> None:
    found, over = search(request_, catalog()), waived(request_)
    for option in found.options.kept:
        paired, refusal = ask(PAIRING, option.pairing, over)
        priced, _ = ask(PRICED, option.pairing, over)
        said, late = ask(CACHED, option.cached, over)
        assert refusal is None
        assert late is None
        assert option.findings == (*paired, *priced, *said)
    for refused, finding in found.options.refused:
        early = ask(PAIRING, refused, over)[1]
        cached = pairing.caches(refused, pairing.Losses(catalog(), found.model, found.settled))
        assert finding in ([early] if early else [ask(CACHED, each, over)[1] for each in cached])


class Unpriced:
    """A device that does not tell what it costs or with how many others it is rented."""

    def __init__(self, device: Device) -> None:
        self._device = device

    def __getattr__(self, name: str) -> Any:
        if name in ("usd_per_hour", "price_source", "offer", "doubtful_usd_per_hour", "per_instance", "per_node"):
            raise AssertionError(f"a rule looks at {name} of a pairing that stands for several")
        return getattr(self._device, name)


def test_only_price_rules_look_at_prices() -> None:
    found = search(REQUESTS["no objective"], catalog())
    cases = {id(option.like): option.like for option in found.options.kept}
    cases |= {id(refused): refused for refused, _ in found.options.refused}
    for case in cases.values():
        blind = Pairing(**{name: getattr(case, name) for name in case.__struct_fields__ if name != "device"},
                        device=Unpriced(case.device))  # type: ignore[arg-type]  # fmt: skip
        assert ask(PAIRING, blind) == ask(PAIRING, case)


class Unseen:
    """A device that nothing may look at."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"a rule looks at {name} of a device while it speaks for all devices")


@pytest.mark.parametrize("name", ["no objective", "own numbers", "loose"])
def test_rules_that_speak_for_all_devices_see_none(name: str) -> None:
    found = search(REQUESTS[name], catalog())
    cases = [option.like for option in found.options.kept] + [case for case, _ in found.options.refused]
    for case in {id(each): each for each in cases}.values():
        blind = structs.replace(case, device=Unseen(), kernel=None)
        assert [rule(blind) for rule in ANYWHERE] == [rule(case) for rule in ANYWHERE]


def test_rules_of_probed_machines_are_silent_where_none_was_probed() -> None:
    found = search(REQUESTS["no objective"], catalog())
    cases = [option.like for option in found.options.kept] + [case for case, _ in found.options.refused]
    assert {rule(case) for rule in PROBED for case in cases} == {None}


def test_what_stays_of_the_memory_may_be_picked_from_more_cases() -> None:
    kept, _ = options(REQUESTS["no objective"])
    cases = rows(kept, Fits(catalog().speed))[0][0].cases
    some, batch = np.arange(3, cases.size, 11), np.geomspace(0.1, 300, len(range(3, cases.size, 11)))
    chosen, fixed = cases.at(some), cast(Any, picked(fixture(cases.terms), some))
    alone, given = (rooms(chosen.terms, "vllm", each)(batch) for each in (None, fixed))
    for name in (field.name for field in fields(alone)):
        np.testing.assert_array_equal(getattr(alone, name), getattr(given, name), name)


def test_the_row_that_came_furthest_speaks_for_its_family(request_: Request) -> None:
    found = search(request_, catalog())
    told = refusals.refused(found.options, found.unplaced, found.swept, found.settled)
    speaks: dict[tuple[str, str, str], Any] = {}
    rows_of: dict[tuple[str, str, str], int] = {}
    feasible = set()
    for block in found.swept:
        stays = block.feasible & block.affordable
        stage = block.starts * 1 + block.holds + block.served + block.feasible + stays
        near = np.where(block.starts, -block.devices, block.room.cache_bytes / block.room.claimed_bytes)
        for place, option in enumerate(block.rows.options):
            own, name = np.flatnonzero(block.rows.option == place).tolist(), name_of(option.pairing)
            if not own:
                continue
            if stays[own].any():
                feasible.add(name)
                continue
            index = max(own, key=lambda row: (stage[row], near[row], row))
            rows_of[name] = rows_of.get(name, 0) + len(own)
            speaks.setdefault(name, (block, index))
    for entry in told:
        name = entry.lane, entry.engine, entry.accelerator
        assert name not in feasible
        if name in speaks:
            case = refusals.measured(*speaks[name], found.settled)
            assert entry.finding == next(said for rule in MEASURED if (said := rule(case)) is not None)
            assert entry.candidates >= rows_of[name]
    assert {(each.lane, each.engine, each.accelerator) for each in told} >= speaks.keys() - feasible
