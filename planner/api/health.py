"""Whether the service can answer, and what it would answer from."""

from __future__ import annotations

from litestar import Response, get
from litestar.datastructures import State
from msgspec import Struct

from planner import service
from planner.version import VERSION


class Health(Struct, frozen=True, kw_only=True):
    """`database` is true when the store answered a query just now."""

    version: str
    catalog_digest: str
    catalog_as_of: str
    database: bool


@get("/health", sync_to_thread=True, tags=["service"])
def health(state: State) -> Response[Health]:
    """Version, catalogue and store; 503 while the store does not answer."""
    answers = state.store.answers()
    catalog = service.catalogue(state.settings, state.store) if answers else service.facts(state.settings)
    found = Health(version=VERSION, catalog_digest=catalog.digest, catalog_as_of=catalog.as_of, database=answers)
    return Response(found, status_code=200 if answers else 503)
