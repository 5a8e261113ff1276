"""Short ways to ask in tests."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec

from catalog.load import Catalog, load
from planner import decode, search
from planner.plan import Plan
from planner.request import Request


@cache
def catalog() -> Catalog:
    """The shipped catalogue, read once."""
    return load()


def ask(model: str = "meta-llama/Llama-3.1-8B-Instruct", *devices: dict[str, Any], **fields: Any) -> Request:
    """A decoded request; `fields` are top-level, `workload` defaults to one request per second."""
    body: dict[str, Any] = {"model": model, "workload": fields.pop("workload", {"qps": 1.0}), **fields}
    if devices:
        body["hardware"] = {"accelerators": list(devices)}
    return decode.decode(msgspec.json.encode(body))


def device(name: str, count: int = 1, **more: Any) -> dict[str, Any]:
    return {"id": name, "count": count, **more}


def planned(request: Request, facts: Catalog | None = None) -> Plan:
    return search.plan(request, facts or catalog())


def devices(plan: Plan) -> int:
    """Devices of the choice; a number no fleet reaches when nothing fits."""
    return plan.choice.pools[0].count if plan.choice else 10**9


def cost(plan: Plan) -> float:
    """Dollars a month of the choice; infinite when nothing fits."""
    return plan.choice.estimates["price_usd_per_month"].value if plan.choice else float("inf")
