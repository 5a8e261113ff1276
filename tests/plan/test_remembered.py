"""What is kept between plans: by identity, bounded, and never across catalogues."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from types import MappingProxyType

from msgspec import structs

from catalog.engine import Engine
from planner import service
from planner.fits import fits_of
from planner.lanes import LANES
from planner.remembered import remembered
from tests.plan.asking import ask, catalog, planned


class Fact:
    """Equal to every other."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fact)

    def __hash__(self) -> int:
        return 0


def test_a_fact_is_told_by_its_identity_and_worked_out_once() -> None:
    calls = []

    @remembered(8)
    def named(fact: Fact, number: int) -> tuple[int, int]:
        calls.append(number)
        return id(fact), number

    first, second = Fact(), Fact()
    assert first == second
    assert [named(first, 1), named(first, 1), named(second, 1), named(first, 2)] == [
        (id(first), 1),
        (id(first), 1),
        (id(second), 1),
        (id(first), 2),
    ]
    assert calls == [1, 1, 2]


def test_only_the_last_facts_are_kept() -> None:
    @remembered(2)
    def same(fact: Fact) -> int:
        return id(fact)

    oldest = Fact()
    seen = weakref.ref(oldest)
    same(oldest)
    del oldest
    gc.collect()
    assert seen() is not None
    for _ in range(2):
        same(Fact())
    gc.collect()
    assert seen() is None


def fresh(engine: Engine) -> Engine:
    """The same engine, of which nothing was looked up yet."""
    return structs.replace(engine)


def test_an_engine_looks_up_for_devices_of_one_kind_what_each_of_them_gets() -> None:
    for engine in catalog().engines:
        for device in catalog().accelerators.values():
            own = fresh(engine)
            assert engine.made_for(device) == own.made_for(device)
            for lane in LANES:
                for method in lane.methods:
                    name = method.recipe.name
                    assert engine.kernel(lane.id, name, device) is own.kernel(lane.id, name, device)
            for row in engine.caches:
                assert engine.cache(row.dtype, device) is own.cache(row.dtype, device)


def test_plans_of_one_catalogue_do_not_show_in_those_of_another() -> None:
    request = ask("Qwen/Qwen3-32B", workload={"qps": 2.0}, hardware={"any": {}})
    slow = structs.replace(catalog().accelerators["h100-sxm5-80"], bandwidth=1e12, architecture="ampere")
    lame = [
        structs.replace(each, kernels=tuple(row for row in each.kernels if "fp8" not in row.lanes), memory_share=0.5)
        for each in catalog().engines
    ]
    changes = {
        "accelerator": {"accelerators": MappingProxyType({**catalog().accelerators, slow.id: slow})},
        "engines": {"engines": tuple(lame)},
        "evidence": {"evidence": tuple(row for row in catalog().evidence if row.lane != "fp8")},
        "losses": {"severity": structs.replace(catalog().severity, base=catalog().severity.base + 0.5)},
        "speed": {"speed": structs.replace(catalog().speed, parameter=tuple(
            structs.replace(row, value=row.value * 0.7) if row.name == "weight_efficiency" and not row.of else row
            for row in catalog().speed.parameter))},
    }  # fmt: skip
    before = service.encode(planned(request))
    for name, change in changes.items():
        other = replace(catalog(), **change)  # type: ignore[arg-type]
        told = service.encode(planned(request, other))
        assert told != before, name
        assert told == service.encode(planned(request, replace(catalog(), **change))), name  # type: ignore[arg-type]
        assert fits_of(other) is not fits_of(catalog())
    assert service.encode(planned(request)) == before
