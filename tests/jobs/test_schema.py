"""What the OpenAPI document says of jobs and receipts holds for whatever schemathesis makes of it, on a real server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings

from tests.jobs.scene import Scene

schemathesis = pytest.importorskip("schemathesis", reason="no schemathesis here: routes are not fuzzed")
from schemathesis.checks import load_all_checks, not_a_server_error  # noqa: E402
from schemathesis.specs.openapi.checks import (  # noqa: E402
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)
load_all_checks()


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def ended(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Scene, str]]:
    """A server, and a job of it that has run to its end; the database may have others."""
    folder = tmp_path_factory.mktemp("fuzzed")
    sqlite = f"sqlite:///{folder / 'data' / 'lanewise.sqlite3'}"
    found = Scene(folder, request.getfixturevalue("postgres") if request.param == "postgres" else sqlite)
    found.serve()
    yield found, found.until(found.ask(), "done").id
    found.end()


def operations(scene: Scene) -> list[Any]:
    """Of the routes of jobs."""
    document = httpx.get(f"{scene.at}/schema").json()
    wanted = {path: each for path, each in document["paths"].items() if path.startswith(("/jobs", "/receipts"))}
    verify = {path: each for path, each in document["paths"].items() if path.endswith("/verify")}
    made = schemathesis.openapi.from_dict(document | {"paths": wanted | verify})
    made.config.update(base_url=scene.at)
    return [each.ok() for each in made.get_all_operations()]


@pytest.mark.slow
def test_answers_are_what_the_schema_says(ended: tuple[Scene, str]) -> None:
    """With whatever ids it makes, and with those of the job that ended."""
    scene, key = ended
    job = httpx.get(f"{scene.at}/jobs/{key}").json()
    known = {"job_id": job["id"], "plan_id": job["plan_id"], "receipt_id": job["receipt_id"], "step": "b"}
    found = operations(scene)
    assert len(found) == 8
    for operation in found:

        @given(case=operation.as_strategy())
        @settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        def answered(case: Any) -> None:
            case.call_and_validate(checks=CHECKS)
            if case.path_parameters:
                case.path_parameters = {name: known[name] for name in case.path_parameters}
                case.call_and_validate(checks=CHECKS)

        answered()
