"""The application: routes, errors as documents, OpenAPI."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
from typing import Any

import msgspec
from litestar import Litestar, Response
from litestar.datastructures import State
from litestar.exceptions import HTTPException
from litestar.logging import LoggingConfig
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin

from catalog.accelerator import Accelerator
from catalog.artifact import Artifact
from catalog.engine import Engine
from catalog.errors import BadInput, NotFound, UnknownModel, Unsupported
from catalog.evidence import Evidence
from catalog.lane import Spelling
from catalog.model import Model
from catalog.parameters import Parameters
from catalog.price import Offer
from planner import service
from planner.api import (
    catalog,
    evidence,
    fit,
    health,
    inventories,
    jobs,
    measurements,
    plans,
    receipts,
    reviews,
    schema,
)
from planner.jobqueue.book import Full
from planner.settings import Settings, from_environment
from planner.store import Store
from planner.version import VERSION
from probes.checkpoint import Entry
from probes.nvml import Line

COLLECTIONS = 50_000, 20, 50
"""New objects before the youngest are looked through, and so on: a plan makes some hundred thousand that go at once."""
LARGEST_BODY = 1 << 20
"""Bytes; a request is a page of JSON, not an upload."""

EXPECTED: set[int | type[Exception]] = {400, 404, 405, 413, BadInput, UnknownModel, Unsupported, NotFound, Full}
"""Status codes and errors that are answers; anything else is a bug, and its traceback goes to the log."""


DECODED = (
    *schema.DOCUMENTS, Accelerator, Artifact, Engine, Evidence, Model, Offer, Parameters, Spelling, Entry, Line
)  # fmt: skip
"""Every type that a request may make us decode."""


ROUTES = (
    *plans.ROUTES, reviews.review, fit.fit, evidence.asked, *measurements.ROUTES, *inventories.ROUTES, *catalog.ROUTES,
    *jobs.ROUTES, *receipts.ROUTES, health.health,
)  # fmt: skip


def create_app(settings: Settings) -> Litestar:
    """Open the store (migrating it) and answer."""
    store = Store(settings.database_url)
    for kind in DECODED:
        msgspec.json.Decoder(kind)  # lays the type out now: msgspec 0.22 crashes where two threads are the first to
    return Litestar(
        route_handlers=[*ROUTES],
        state=State({"settings": settings, "store": store}),
        on_shutdown=[store.close],
        request_max_body_size=LARGEST_BODY,
        exception_handlers={BadInput: _bad_input, NotFound: _not_found, Full: jobs.full, HTTPException: _http},
        logging_config=LoggingConfig(log_exceptions="always", disable_stack_trace=EXPECTED),
        openapi_config=OpenAPIConfig(
            title="Lanewise",
            version=VERSION,
            description="Which quantization lane to ship, on which hardware, how fast, at what cost and quality.",
            components=schema.Documents(),
            render_plugins=[JsonRenderPlugin()],
        ),
    )


def app_of_environment() -> Litestar:
    """The application of one of the server's processes, its catalogue read before the first request."""
    _end_with_parent()
    settings = from_environment()
    app = create_app(settings)
    service.catalogue(settings, app.state.store)
    _spare_what_stays()
    return app


def _end_with_parent() -> None:
    """A process of a server whose first process was killed would go on to hold the port."""
    parent = multiprocessing.parent_process()
    if parent is not None:

        def watch() -> None:
            parent.join()
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=watch, daemon=True).start()


def _spare_what_stays() -> None:
    """Facts and code stay as long as the process: collecting garbage among them takes longer than a plan."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTIONS)


def _bad_input(_request: Any, error: BadInput) -> Response[dict[str, str]]:
    return Response({"detail": error.message, "path": error.path}, status_code=400)


def _not_found(_request: Any, error: NotFound) -> Response[dict[str, str]]:
    return Response({"detail": str(error)}, status_code=404)


def _http(_request: Any, error: HTTPException) -> Response[dict[str, str]]:
    faults = error.extra if isinstance(error.extra, list) else []
    path = {"path": str(faults[0]["key"])} if faults and "key" in faults[0] else {}
    return Response({"detail": error.detail} | path, status_code=error.status_code, headers=error.headers)
