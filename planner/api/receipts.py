"""Receipts of jobs: what a verification came to."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import MediaType, Response, get
from litestar.datastructures import State
from litestar.params import FromPath, QueryParameter

from planner import service
from planner.api import job_schema
from planner.api.jobs import OfPlan, known
from planner.jobqueue.book import Book

Limit = Annotated[int, QueryParameter(ge=1, le=200, description="receipts per page")]
Offset = Annotated[int, QueryParameter(ge=0, le=2**31, description="receipts to skip")]


@get("/receipts", sync_to_thread=True, operation_class=job_schema.ReceiptsOperation, tags=["jobs"])
def listed(state: State, limit: Limit = 20, offset: Offset = 0, plan_id: OfPlan = None) -> Response[bytes]:
    """Receipts, newest first."""
    found = Book(state.store).receipts(limit, offset, known(plan_id))
    return Response(service.encode(found), media_type=MediaType.JSON)


@get("/receipts/{receipt_id:str}", sync_to_thread=True, operation_class=job_schema.ReceiptOperation, tags=["jobs"])
def stored(receipt_id: FromPath[str], state: State) -> Response[bytes]:
    """One receipt, byte for byte as the run wrote it."""
    return Response(Book(state.store).receipt(receipt_id), media_type=MediaType.JSON)


ROUTES: tuple[Any, ...] = (listed, stored)
