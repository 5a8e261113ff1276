"""Own measurements: kept for plans to be made with, listed, forgotten."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import MediaType, Response, Router, delete, get, post
from litestar.datastructures import State
from litestar.params import FromPath, QueryParameter, RawBody

from catalog import measurement
from planner import service
from planner.api import schema

Own = Annotated[bool, QueryParameter(description="whether own measurements take part")]
Limit = Annotated[int, QueryParameter(ge=1, le=1000, description="measurements per page")]
Offset = Annotated[int, QueryParameter(ge=0, description="measurements to skip")]


@post(
    status_code=200,
    sync_to_thread=True,
    operation_class=schema.MeasurementsOperation,
    tags=["evidence"],
)
def keep(body: RawBody, state: State) -> Response[bytes]:
    """Keep one measurement or a list, all or none; one that is kept already stays one."""
    rows = measurement.read_json(body, service.facts(state.settings))
    return Response(service.encode(state.store.save_measurements(rows)), media_type=MediaType.JSON)


@get(sync_to_thread=True, operation_class=schema.KeptMeasurementsOperation, tags=["evidence"])
def listed(state: State, limit: Limit = 100, offset: Offset = 0) -> Response[bytes]:
    """Measurements of the store in the order of their ids."""
    return Response(service.encode(state.store.measured(limit, offset)), media_type=MediaType.JSON)


@delete(
    "/{measurement_id:str}",
    sync_to_thread=True,
    operation_class=schema.ForgottenOperation,
    tags=["evidence"],
)
def forget(measurement_id: FromPath[str], state: State) -> None:
    """Forget one; plans are made without it from then on."""
    state.store.remove_measurement(measurement_id)


ROUTES: tuple[Any, ...] = (Router("/measurements", route_handlers=[keep, listed, forget]),)
"""A router: Litestar 2.25 hands a handler to a thread twice where another one joins its path later."""
