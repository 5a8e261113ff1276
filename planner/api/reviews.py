"""The review of a stored plan, the same bytes as `lanewise review` writes."""

from __future__ import annotations

from typing import Annotated

import msgspec
from litestar import Response, get
from litestar.datastructures import State
from litestar.params import FromPath, QueryParameter

from planner import service
from planner.api.measurements import Own
from planner.plan import Plan

MEDIA = {"md": "text/markdown", "html": "text/html"}
SAFE = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
}
"""A review runs nothing and fetches nothing; the browser is told so."""
Kind = Annotated[str, QueryParameter(name="format", description="md or html")]
Growth = Annotated[float | None, QueryParameter(name="growth", description="growth of the load per quarter, percent")]


@get("/plans/{plan_id:str}/review", sync_to_thread=True, media_type="text/markdown", tags=["plans"])
def review(
    plan_id: FromPath[str], state: State, kind: Kind = "md", growth: Growth = None, measurements: Own = True
) -> Response[bytes]:
    """A plan as one self-contained document to discuss and sign."""
    plan = msgspec.json.decode(state.store.get(plan_id), type=Plan)
    settings = msgspec.structs.replace(state.settings, measurements=measurements)
    document = service.review(plan, settings, kind, growth, state.store)
    return Response(document, media_type=MEDIA[kind], headers=SAFE)
