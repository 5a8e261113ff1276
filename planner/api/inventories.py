"""Inventories: what `lanewise probe --send` sends, kept for plans to be made with."""

from __future__ import annotations

from typing import Any

from litestar import MediaType, Response, get, post
from litestar.datastructures import State
from litestar.params import FromPath, RawBody

from catalog import inventory
from planner import service
from planner.api import schema


@post(
    "/inventories",
    status_code=200,
    sync_to_thread=True,
    operation_class=schema.InventoryOperation,
    tags=["inventories"],
)
def keep(body: RawBody, state: State) -> Response[bytes]:
    """Keep one inventory; the same document has the same id, however often it comes."""
    identity = state.store.save_inventory(inventory.decode(body))
    return Response(service.encode({"id": identity}), media_type=MediaType.JSON)


@get(
    "/inventories/{inventory_id:str}",
    sync_to_thread=True,
    operation_class=schema.StoredInventoryOperation,
    tags=["inventories"],
)
def stored(inventory_id: FromPath[str], state: State) -> Response[bytes]:
    """One inventory."""
    return Response(service.encode(state.store.inventory(inventory_id)), media_type=MediaType.JSON)


ROUTES: tuple[Any, ...] = (keep, stored)
