"""The catalogue over REST: lists to search, entries with the source of every field."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import MediaType, Response, get
from litestar.datastructures import State
from litestar.params import FromPath, QueryParameter

from planner import browse, service

Query = Annotated[str, QueryParameter(description="words that must all occur in an entry")]


@get("/catalog/{kind:str}", sync_to_thread=True, tags=["catalogue"])
def listed(kind: FromPath[browse.Kind], state: State, q: Query = "") -> Response[bytes]:
    """Every entry of one kind."""
    found = browse.lines(service.catalogue(state.settings, state.store), kind, q)
    return Response(service.encode(found), media_type=MediaType.JSON)


@get("/catalog/{kind:str}/{entry_id:path}", sync_to_thread=True, tags=["catalogue"])
def shown(kind: FromPath[browse.Kind], entry_id: FromPath[str], state: State) -> Response[bytes]:
    """One entry, every field with its source; a model id keeps its slash."""
    entry = browse.show(service.catalogue(state.settings, state.store), str(entry_id).lstrip("/"), kind)
    return Response(service.encode(entry), media_type=MediaType.JSON)


ROUTES: tuple[Any, ...] = (listed, shown)
