"""Whether the service can answer, and what it would answer from."""

from __future__ import annotations

from litestar import get
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
def health(state: State) -> Health:
    """Version, catalogue and store."""
    catalog = service.catalogue(state.settings)
    return Health(
        version=VERSION,
        catalog_digest=catalog.digest,
        catalog_as_of=catalog.as_of,
        database=state.store.answers(),
    )
