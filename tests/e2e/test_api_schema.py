"""The API keeps to its own OpenAPI: fuzzed from it (schemathesis), it answers as documented and never with a 5xx."""

from typing import Any

import httpx
import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from support.api import Api
from support.gateway import GatewayProcess

OPEN = ("/health", "/health/live", "/health/ready")
EXAMPLES = 7
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
ROUTES = [
    "GET /api/v1/sessions",
    "POST /api/v1/sessions",
    "GET /api/v1/sessions/{session_id}",
    "PATCH /api/v1/sessions/{session_id}",
    "DELETE /api/v1/sessions/{session_id}",
    "POST /api/v1/sessions/{session_id}/stop",
    "POST /api/v1/sessions/{session_id}/interrupt",
    "POST /api/v1/sessions/{session_id}/chat",
    "GET /api/v1/sessions/{session_id}/turns",
    "GET /api/v1/sessions/{session_id}/turns/{turn_id}",
    "DELETE /api/v1/sessions/{session_id}/turns/{turn_id}",
    "GET /api/v1/sessions/{session_id}/logs",
    "GET /api/v1/sessions/{session_id}/messages",
    "GET /api/v1/sessions/{session_id}/events",
    "GET /api/v1/sessions/{session_id}/events/stream",
    "GET /health",
    "GET /health/live",
    "GET /health/ready",
    "GET /metrics",
]


@pytest.fixture(scope="module")
def schema(tight_gateway: GatewayProcess) -> schemathesis.BaseSchema:
    return schemathesis.openapi.from_url(f"{tight_gateway.url}/openapi.json")


@pytest.fixture(scope="module")
def document(tight_gateway: GatewayProcess) -> dict[str, Any]:
    return dict(httpx.get(f"{tight_gateway.url}/openapi.json", trust_env=False).json())


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    methods = ("get", "post", "put", "patch", "delete")
    return {
        f"{method.upper()} {path}": operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in methods
    }


def test_every_route_is_documented_with_a_summary_and_an_example_where_it_takes_a_body(
    document: dict[str, Any],
) -> None:
    found = operations(document)
    assert sorted(found) == sorted(ROUTES)
    for name, operation in found.items():
        assert operation.get("summary"), name
        if body := operation.get("requestBody"):
            assert _has_example(document, body["content"]["application/json"]["schema"]), name


def test_what_is_answered_is_documented_with_an_example(document: dict[str, Any]) -> None:
    bare = []
    for name, operation in operations(document).items():
        good = next(answer for status, answer in operation["responses"].items() if status.startswith("2"))
        content = good.get("content", {}).get("application/json")
        if content and not (_has_example(document, content["schema"]) or "example" in content or "examples" in content):
            bare.append(name)
    assert not [name for name in bare if name.split()[1] not in (*OPEN, "/metrics")]


def _has_example(document: dict[str, Any], schema: dict[str, Any], seen: frozenset[str] = frozenset()) -> bool:
    """Whether a schema has an example, or consists of one that has."""
    if "example" in schema or "examples" in schema:
        return True
    if reference := schema.get("$ref"):
        name = reference.rsplit("/", 1)[1]
        return name not in seen and _has_example(document, document["components"]["schemas"][name], seen | {name})
    inner = [*schema.get("anyOf", []), *schema.get("properties", {}).values()]
    inner += [schema["items"]] if "items" in schema else []
    return any(_has_example(document, part, seen) for part in inner)


def test_every_route_but_health_wants_a_token_and_says_so(document: dict[str, Any]) -> None:
    secured = {name for name, operation in operations(document).items() if operation.get("security")}
    assert {name.split()[1] for name in set(ROUTES) - secured} == set(OPEN)


async def test_the_fuzzed_api_answers_as_documented(tight: Api, schema: schemathesis.BaseSchema) -> None:
    session_id = await tight.open_session()
    await tight.has_status(session_id, "idle")
    failures: list[str] = []
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.path.endswith("/events/stream"):
            continue  # it does not end; see below
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            try:
                fuzz(operation, mode, tight.token, session_id)
            except hypothesis.errors.Unsatisfiable:
                continue  # nothing about it can be wrong
            except FailureGroup as group:
                failures += [f"{operation.label} ({mode}): {failure!r} {failure}" for failure in group.exceptions]
    assert not failures, "\n\n".join(failures)
    assert (await tight.get(f"{tight.root}/health")).json()["status"] == "ok"


def fuzz(operation: APIOperation, mode: GenerationMode, token: str, session_id: str) -> None:
    """Send what the schema allows (or forbids) to one operation; the first answer that is not as documented is raised."""

    @hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode), real=hypothesis.strategies.booleans())
    def send(case: Case, real: bool) -> None:
        if real and case.method != "DELETE" and "session_id" in (case.path_parameters or {}):
            case.path_parameters["session_id"] = session_id
        if case.path.endswith("/chat") and isinstance(case.body, dict):
            case.body["stream"] = True  # a wait for the end is another test's
        answer = case.call(headers={"authorization": f"Bearer {token}"}, timeout=20)
        made = (
            answer.json().get("session_id") if case.path.endswith("/sessions") and answer.status_code == 201 else None
        )
        if made:
            httpx.delete(f"{answer.request.url}/{made}", headers={"authorization": f"Bearer {token}"}, trust_env=False)
        case.validate_response(answer, checks=CHECKS)

    send()


@pytest.mark.parametrize("query", [{}, {"after": 0, "previews": "false"}, {"after": 2**62}])
async def test_the_stream_answers_as_documented(tight: Api, document: dict[str, Any], query: dict[str, Any]) -> None:
    session_id = await tight.open_session()
    documented = document["paths"]["/api/v1/sessions/{session_id}/events/stream"]["get"]["responses"]
    async with tight.stream("GET", f"sessions/{session_id}/events/stream", params=query) as answer:
        assert answer.headers["content-type"].split(";")[0] in documented[str(answer.status_code)]["content"]
        assert (await anext(answer.aiter_lines())).startswith(":")
