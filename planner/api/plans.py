"""Plans: ask for one, list them, take one with its launch files."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import MediaType, Response, get, post
from litestar.datastructures import State
from litestar.params import FromPath, FromQuery, QueryParameter, RawBody

from catalog.errors import NotFound
from planner import archive, decode, service
from planner.api import schema
from planner.api.measurements import Own
from planner.plan import Plan
from planner.service import Rendered
from planner.store import Page, Store

DOCUMENT = MediaType.JSON
Limit = Annotated[int, QueryParameter(ge=1, le=200, description="plans per page")]
Offset = Annotated[int, QueryParameter(ge=0, description="plans to skip")]


@post("/plan", status_code=200, sync_to_thread=True, operation_class=schema.PlanOperation, tags=["plans"])
def make(body: RawBody, state: State, measurements: Own = True) -> Response[bytes]:
    """Plan one deployment and keep the answer; infeasible is an answer too."""
    settings = msgspec.structs.replace(state.settings, measurements=measurements)
    plan = service.make_plan(decode.decode(body, "json"), settings, state.store)
    document = service.encode(plan)
    state.store.save(plan, document)
    return Response(document, media_type=DOCUMENT)


@get("/plans", sync_to_thread=True, tags=["plans"])
def listed(state: State, limit: Limit = 20, offset: Offset = 0, model: FromQuery[str | None] = None) -> Page:
    """Stored plans, newest first."""
    store: Store = state.store
    return store.page(limit, offset, model)


@get("/plans/{plan_id:str}", sync_to_thread=True, operation_class=schema.StoredPlanOperation, tags=["plans"])
def stored(plan_id: FromPath[str], state: State) -> Response[bytes]:
    """One plan, byte for byte as it was answered."""
    return Response(state.store.get(plan_id), media_type=DOCUMENT)


@get("/plans/{plan_id:str}/files", sync_to_thread=True, media_type="application/gzip", tags=["plans"])
def files(plan_id: FromPath[str], state: State) -> Response[bytes]:
    """The launch files of one plan as a .tar.gz archive; the same plan gives the same bytes."""
    content = archive.pack(_launch_files(state, plan_id))
    headers = {"Content-Disposition": f'attachment; filename="lanewise-{plan_id[:12]}.tar.gz"'}
    return Response(content, media_type="application/gzip", headers=headers)


@get("/plans/{plan_id:str}/files/{target:str}/{name:str}", sync_to_thread=True, media_type="text/plain", tags=["plans"])
def file(plan_id: FromPath[str], target: FromPath[str], name: FromPath[str], state: State) -> Response[bytes]:
    """One launch file of one plan."""
    for launch, content in _launch_files(state, plan_id):
        if (launch.target, launch.name) == (target, name):
            return Response(content, media_type="text/plain; charset=utf-8")
    raise NotFound(f"plan {plan_id!r} has no launch file {target}/{name}")


def _launch_files(state: State, plan_id: str) -> Rendered:
    plan = msgspec.json.decode(state.store.get(plan_id), type=Plan)
    return service.launch_files(plan, state.settings)


ROUTES: tuple[Any, ...] = (make, listed, stored, files, file)
