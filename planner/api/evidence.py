"""What is known of a lane's losses: the same document as `lanewise evidence --json`."""

from __future__ import annotations

from typing import Annotated

import msgspec
from litestar import MediaType, Response, get
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.params import QueryParameter

from planner import evidence, service
from planner.api import schema
from planner.api.measurements import Own

Lane = Annotated[str | None, QueryParameter(description="lane id, or kv:… for a cache format")]
Task = Annotated[str | None, QueryParameter(description="task family")]
Size = Annotated[str | None, QueryParameter(description="parameters: 8B, 0.5b, 70e9")]
Context = Annotated[str | None, QueryParameter(description="tokens: 32k, 32768")]
Model = Annotated[str | None, QueryParameter(description="rows of this model, by its id or a part of it")]
Recipe = Annotated[str | None, QueryParameter(description="rows of this recipe or training, or a part of its name")]
Source = Annotated[str | None, QueryParameter(description="rows whose citation or address contains this")]
OwnAlone = Annotated[bool, QueryParameter(description="own measurements alone")]
Limit = Annotated[int, QueryParameter(ge=1, le=evidence.MOST_ROWS, description="rows at most")]


def filters(
    lane: Lane = None,
    task: Task = None,
    size: Size = None,
    context: Context = None,
    model: Model = None,
    recipe: Recipe = None,
    source: Source = None,
) -> dict[str, str | None]:
    """What is asked for, as it is spelled."""
    asked = {"lane": lane, "task": task, "size": size, "context": context}
    return asked | {"model": model, "recipe": recipe, "source": source}


@get(
    "/evidence",
    sync_to_thread=True,
    dependencies={"filters": Provide(filters, sync_to_thread=False)},
    operation_class=schema.EvidenceOperation,
    tags=["evidence"],
)
def asked(
    state: State,
    filters: NamedDependency[dict[str, str | None]],
    own: OwnAlone = False,
    limit: Limit = evidence.ROWS,
    measurements: Own = True,
) -> Response[bytes]:
    """The estimate where lane, task and size are given; the rows nearest to it, or all that pass the filters."""
    settings = msgspec.structs.replace(state.settings, measurements=measurements)
    catalog = service.catalogue(settings, state.store)
    found = evidence.answer(evidence.question(catalog, own=own, limit=limit, **filters), catalog)
    return Response(service.encode(found), media_type=MediaType.JSON)
