"""OpenAPI for documents that we decode and encode ourselves: schemas from the Structs, an example of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
from litestar.openapi.spec import (
    Components,
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    Parameter,
    Reference,
    RequestBody,
    Schema,
)

from catalog.inventory import Inventory
from catalog.measurement import Added, Measurement
from planner import browse
from planner.api import job_schema
from planner.evidence import Answer
from planner.headroom.picture import Ask, Headroom
from planner.plan import Plan
from planner.request import Request
from planner.store import Measured

EXAMPLE: dict[str, Any] = {
    "model": "meta-llama/Llama-3.1-8B-Instruct",
    "workload": {
        "qps": 4,
        "prompt_tokens": {"mean": 1500, "p95": 6000},
        "output_tokens": {"mean": 300, "p95": 800},
        "mix": {"chat": 0.6, "code": 0.4},
    },
    "slo": {"ttft_ms": {"p95": 1000}, "tpot_ms": {"p95": 50}},
    "quality": {"max_loss_pct": 2.0},
    "hardware": {"accelerators": [{"id": "l4", "count": 8}, {"id": "h100-sxm5-80", "count": 2}]},
}
FAULT: dict[str, Any] = {"detail": "Expected `float`, got `str`", "path": "$.workload.qps"}
INVENTORY: dict[str, Any] = {
    "probed_at": "2026-11-21T10:00:00Z",
    "host": {"system": "linux", "machine": "x86_64", "ram_bytes": 1.1e12, "ram_available_bytes": 1e12},
    "driver": "580.65.06",
    "cuda": "13.0",
    "gpus": [
        {
            "index": 0,
            "name": "NVIDIA L40S",
            "accelerator": "l40s",
            "memory_bytes": 48305799168,
            "free_bytes": 47689236480,
            "problems": ["power limit: not permitted to this user"],
        }
    ],
}
EVIDENCE: dict[str, Any] = {"lane": "awq-int4", "task": "code", "size": "8B", "context": "32k", "source": "RedHatAI"}
ASK: dict[str, Any] = {
    "model": "Qwen/Qwen3-32B",
    "hardware": {"accelerators": [{"id": "h100-sxm5-80", "count": 1}]},
    "lane": "fp8",
    "context": 32768,
}
MEASUREMENT: dict[str, Any] = {
    "model": "Qwen/Qwen3-8B",
    "lane": "awq-int4",
    "task": "our tickets, exact match",
    "task_family": "classification",
    "baseline": 91.2,
    "quantized": 90.4,
    "stderr": 0.6,
}
DOCUMENTS = (
    Request,
    Plan,
    browse.Entry,
    Inventory,
    Ask,
    Headroom,
    Answer,
    Measurement,
    Measured,
    Added,
    *job_schema.DOCUMENTS,
)


@dataclass
class Documents(Components):
    """Litestar's own components, and below `#/components/schemas/` the documents that msgspec describes."""

    def to_schema(self) -> dict[str, Any]:
        written = super().to_schema()
        return written | {"schemas": _schemas() | written.get("schemas", {})}


def _schemas() -> dict[str, Any]:
    _, named = msgspec.json.schema_components(DOCUMENTS, ref_template="#/components/schemas/{name}")
    text = {"type": "string"}
    fault = {"type": "object", "properties": {"detail": text, "path": text}, "required": ["detail"]}
    identity = {"type": "object", "properties": {"id": text}, "required": ["id"]}
    return named | {"Fault": fault, "Identity": identity}


def _json(name: str, example: dict[str, Any] | None = None) -> dict[str, OpenAPIMediaType]:
    reference = Reference(ref=f"#/components/schemas/{name}")
    return {"application/json": OpenAPIMediaType(schema=reference, example=example)}


@dataclass
class PlanOperation(Operation):
    """POST /plan: a Request in, a Plan out, a Fault for bad input."""

    def __post_init__(self) -> None:
        self.request_body = RequestBody(content=_json("Request", EXAMPLE), required=True)
        self.responses = {
            "200": OpenAPIResponse(
                description="The plan; `feasible` says whether anything fits", content=_json("Plan")
            ),
            "400": OpenAPIResponse(description="Bad input, with the path of the fault", content=_json("Fault", FAULT)),
            "413": OpenAPIResponse(description="The body is larger than 1 MiB", content=_json("Fault")),
        }


@dataclass
class StoredPlanOperation(Operation):
    """GET /plans/{id}: a Plan out."""

    def __post_init__(self) -> None:
        self.responses = {
            "200": OpenAPIResponse(description="The plan as it was answered", content=_json("Plan")),
            "404": OpenAPIResponse(description="No such plan", content=_json("Fault")),
        }


@dataclass
class FitOperation(Operation):
    """POST /fit: an Ask in, a Headroom out, a Fault for bad input."""

    def __post_init__(self) -> None:
        self.request_body = RequestBody(content=_json("Ask", ASK), required=True)
        self.responses = {
            "200": OpenAPIResponse(
                description="The memory of one device; `starts` says whether anything does", content=_json("Headroom")
            ),
            "400": OpenAPIResponse(description="Bad input, with the path of the fault", content=_json("Fault", FAULT)),
            "413": OpenAPIResponse(description="The body is larger than 1 MiB", content=_json("Fault")),
        }


@dataclass
class InventoryOperation(Operation):
    """POST /inventories: an Inventory in, its Identity out, a Fault for bad input."""

    def __post_init__(self) -> None:
        self.request_body = RequestBody(content=_json("Inventory", INVENTORY), required=True)
        self.responses = {
            "200": OpenAPIResponse(
                description="It is kept under this id", content=_json("Identity", {"id": "0123456789abcdef"})
            ),
            "400": OpenAPIResponse(description="Bad input, with the path of the fault", content=_json("Fault", FAULT)),
            "413": OpenAPIResponse(description="The body is larger than 1 MiB", content=_json("Fault")),
        }


@dataclass
class EvidenceOperation(Operation):
    """GET /evidence: an Answer out, a Fault for an unknown lane, task or size."""

    def __post_init__(self) -> None:
        for parameter in self.parameters or []:
            if isinstance(parameter, Parameter) and parameter.name in EVIDENCE:
                parameter.example = EVIDENCE[parameter.name]
        self.responses = {
            "200": OpenAPIResponse(description="Estimate, rows and their medians by source", content=_json("Answer")),
            "400": OpenAPIResponse(
                description="Bad input, with the parameter at fault",
                content=_json("Fault", {"detail": "no task 'poetry'; known are chat, code", "path": "task"}),
            ),
        }


@dataclass
class MeasurementsOperation(Operation):
    """POST /measurements: one Measurement or a list in, what became of each out, a Fault for bad input."""

    def __post_init__(self) -> None:
        one = Reference(ref="#/components/schemas/Measurement")
        several = Schema(type=OpenAPIType.ARRAY, items=one, min_items=1)
        body = OpenAPIMediaType(schema=Schema(one_of=[several, one]), example=[MEASUREMENT])
        self.request_body = RequestBody(content={"application/json": body}, required=True)
        fault = {"detail": "expected a score above 0, got -1.0", "path": "$[0].baseline"}
        self.responses = {
            "200": OpenAPIResponse(
                description="All are kept", content=_json("Added", {"added": ["own-0123456789ab"], "known": []})
            ),
            "400": OpenAPIResponse(
                description="Bad input: nothing is kept; every fault with its path", content=_json("Fault", fault)
            ),
            "413": OpenAPIResponse(description="The body is larger than 1 MiB", content=_json("Fault")),
        }


@dataclass
class KeptMeasurementsOperation(Operation):
    """GET /measurements: a page of Evidence out."""

    def __post_init__(self) -> None:
        self.responses = {"200": OpenAPIResponse(description="A page of rows", content=_json("Measured"))}


@dataclass
class ForgottenOperation(Operation):
    """DELETE /measurements/{id}: nothing out."""

    def __post_init__(self) -> None:
        self.responses = {
            "204": OpenAPIResponse(description="It is forgotten"),
            "404": OpenAPIResponse(description="No such measurement", content=_json("Fault")),
        }


@dataclass
class StoredInventoryOperation(Operation):
    """GET /inventories/{id}: an Inventory out."""

    def __post_init__(self) -> None:
        self.responses = {
            "200": OpenAPIResponse(description="The inventory", content=_json("Inventory")),
            "404": OpenAPIResponse(description="No such inventory", content=_json("Fault")),
        }
