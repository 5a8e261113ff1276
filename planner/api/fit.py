"""Does it start, and how much fits: the same document as `lanewise fit --json`."""

from __future__ import annotations

from litestar import MediaType, Response, post
from litestar.datastructures import State
from litestar.params import RawBody

from planner import decode, service
from planner.api import schema


@post("/fit", status_code=200, sync_to_thread=True, operation_class=schema.FitOperation, tags=["plans"])
def fit(body: RawBody, state: State) -> Response[bytes]:
    """Count the memory of one device; "does not start" is an answer too. Nothing is kept."""
    found = service.make_headroom(decode.decode_ask(body), state.settings, state.store)
    return Response(service.encode(found), media_type=MediaType.JSON)
