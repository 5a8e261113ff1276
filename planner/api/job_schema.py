"""OpenAPI of jobs and receipts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from litestar.openapi.spec import (
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    Reference,
    RequestBody,
    Schema,
)

from planner.jobqueue.ask import VerifyAsk
from planner.jobqueue.job import Job, JobPage, ReceiptPage
from planner.proving.receipt import Receipt

VERIFY: dict[str, Any] = {
    "lane": "fp8",
    "budget_minutes": 60,
    "texts": [{"name": "tickets.jsonl", "content": '{"text": "My parcel has not arrived."}\n'}],
}
DOCUMENTS = (VerifyAsk, Job, JobPage, Receipt, ReceiptPage)


def _json(name: str, example: dict[str, Any] | None = None) -> dict[str, OpenAPIMediaType]:
    reference = Reference(ref=f"#/components/schemas/{name}")
    return {"application/json": OpenAPIMediaType(schema=reference, example=example)}


def _answer(description: str, name: str) -> OpenAPIResponse:
    return OpenAPIResponse(description=description, content=_json(name))


def _plain(description: str, kind: str) -> OpenAPIResponse:
    text = OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING))
    return OpenAPIResponse(description=description, content={kind: text})


BAD = _answer("Bad input, with the path of the fault", "Fault")
NO_JOB = _answer("No such job", "Fault")


@dataclass
class VerifyOperation(Operation):
    """POST /plans/{id}/verify: a VerifyAsk in, a Job out."""

    def __post_init__(self) -> None:
        self.request_body = RequestBody(content=_json("VerifyAsk", VERIFY), required=False)
        self.responses = {
            "202": _answer("It waits, or waits or runs already", "Job"),
            "400": BAD,
            "404": _answer("No such plan, or one without a candidate", "Fault"),
            "413": _answer("The body is larger than 1 MiB", "Fault"),
            "429": _answer("Too many jobs wait", "Fault"),
        }


@dataclass
class JobsOperation(Operation):
    """GET /jobs: a JobPage out."""

    def __post_init__(self) -> None:
        self.responses = {"200": _answer("A page of jobs", "JobPage"), "400": BAD}


@dataclass
class JobOperation(Operation):
    """GET /jobs/{id}: a Job out."""

    def __post_init__(self) -> None:
        self.responses = {"200": _answer("The job", "Job"), "404": NO_JOB}


@dataclass
class CancelOperation(Operation):
    """DELETE /jobs/{id}: a Job out."""

    def __post_init__(self) -> None:
        self.responses = {"202": _answer("The job as it is now", "Job"), "404": NO_JOB}


@dataclass
class LogOperation(Operation):
    """GET /jobs/{id}/logs/{step}: text out."""

    def __post_init__(self) -> None:
        self.responses = {
            "200": _plain("The end of what the step printed", "text/plain"),
            "400": BAD,
            "404": _answer("No such job, or no log of that step", "Fault"),
        }


@dataclass
class EventsOperation(Operation):
    """GET /jobs/{id}/events: server-sent events out."""

    def __post_init__(self) -> None:
        said = "Events `job`, `step` and `note` with their numbers, `progress` without one; ends with the job"
        stream = OpenAPIResponse(description=said, content={"text/event-stream": OpenAPIMediaType(schema=_event())})
        self.responses = {"200": stream, "400": BAD, "404": NO_JOB}


def _event() -> Schema:
    """One server-sent event; its data are a JSON object."""
    text, kinds = Schema(type=OpenAPIType.STRING), ("job", "step", "note", "progress")
    fields: dict[str, Schema | Reference] = {
        "event": Schema(type=OpenAPIType.STRING, enum=kinds),
        "id": text,
        "data": text,
    }
    return Schema(type=OpenAPIType.OBJECT, properties=fields, required=["event", "data"])


@dataclass
class ReceiptsOperation(Operation):
    """GET /receipts: a ReceiptPage out."""

    def __post_init__(self) -> None:
        self.responses = {"200": _answer("A page of receipts", "ReceiptPage"), "400": BAD}


@dataclass
class ReceiptOperation(Operation):
    """GET /receipts/{id}: a Receipt out."""

    def __post_init__(self) -> None:
        self.responses = {"200": _answer("The receipt", "Receipt"), "404": _answer("No such receipt", "Fault")}
