"""What the OpenAPI documents of all predictors have in common: the daemon's own routes, and its problems."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from predictord.problem import MEDIA_TYPE, STATUS, Code
from predictord.supervisor.states import ServiceState

_STRING = {"type": "string"}
_PROBLEM, _STATUS = "predictord.Problem", "predictord.Status"
"""With a dot, which no model's name has."""


def reference(kind: str, name: str) -> str:
    """A reference to a component."""
    return f"#/components/{kind}/{name}"


def problem(status: int, codes: Sequence[Code]) -> dict[str, Any]:
    """The response for all of these problem codes that have this status."""
    named = [code.value for code in codes if STATUS[code] == status]
    headers: dict[str, Any] = {"x-request-id": {"$ref": reference("headers", "x-request-id")}}
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["retry-after"] = {"description": "Seconds until it may work.", "schema": {"type": "integer"}}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = {"schema": _STRING}
    return {
        "description": f"{HTTPStatus(status).phrase}: {', '.join(named)}.",
        "headers": headers,
        "content": {MEDIA_TYPE: {"schema": {"$ref": reference("schemas", _PROBLEM)}}},
    }


def _get(operation_id: str, summary: str, content: dict[str, Any], **more: Any) -> dict[str, Any]:
    responses = {"200": {"description": summary, "content": content}, **more.pop("responses", {})}
    return {
        "get": {"operationId": operation_id, "tags": ["daemon"], "summary": summary, "responses": responses, **more}
    }


_TEXT = {"text/plain": {"schema": _STRING}}
_OBJECT = {"application/json": {"schema": {"type": "object"}}}
_UNREADY = problem(503, [Code.NO_WORKER, Code.DRAINING])

ROUTES: dict[str, Any] = {
    "/": _get("summary", "What is served here; a page for browsers.", {**_OBJECT, "text/html": {"schema": {}}}),
    "/healthz": _get("health", "The daemon turns.", _TEXT, security=[]),
    "/readyz": _get("readiness", "A worker can answer.", _TEXT, responses={"503": _UNREADY}),
    "/status": _get(
        "status", "The state of all parts.", {"application/json": {"schema": {"$ref": reference("schemas", _STATUS)}}}
    ),
    "/metrics": _get(
        "metrics", "Numbers for Prometheus.", {**_TEXT, "application/openmetrics-text": {"schema": _STRING}}
    ),
    "/events": _get("events", "Changes of the state, as they happen.", {"text/event-stream": {"schema": _STRING}}),
    "/openapi.json": _get("schema", "This document.", _OBJECT),
}

SCHEMAS: dict[str, Any] = {
    _PROBLEM: {
        "type": "object",
        "description": "Problem details (RFC 9457).",
        "required": ["type", "title", "status", "detail", "code", "request_id"],
        "properties": {
            "type": {"const": "about:blank"},
            "title": _STRING,
            "status": {"type": "integer"},
            "detail": {**_STRING, "description": "What happened, for people."},
            "code": {"enum": [code.value for code in Code], "description": "What happened, for programs."},
            "request_id": _STRING,
            "worker": {"type": "integer"},
            "traceback": {**_STRING, "description": "The predictor's own, with --debug."},
            "errors": {
                "type": "array",
                "description": "What is wrong with which field.",
                "items": {
                    "type": "object",
                    "required": ["loc", "msg", "type"],
                    "properties": {"loc": {"type": "array"}, "msg": _STRING, "type": _STRING},
                },
            },
        },
    },
    _STATUS: {
        "type": "object",
        "required": ["version", "pid", "state", "predictor", "generation", "reload", "workers", "queue", "requests"],
        "properties": {
            "version": _STRING,
            "pid": {"type": "integer"},
            "state": {"enum": [state.value for state in ServiceState]},
            "predictor": {"type": "object"},
            "generation": {"type": "integer"},
            "reload": {"type": ["object", "null"]},
            "workers": {"type": "array", "items": {"type": "object"}},
            "queue": {"type": "object"},
            "requests": {"type": "object"},
        },
    },
}

HEADERS: dict[str, Any] = {
    "x-request-id": {"description": "The request's own, or one made for it.", "schema": _STRING},
    "x-predictord-worker": {"description": "The worker that answered.", "schema": {"type": "integer"}},
    "x-predictord-generation": {"description": "The generation it runs.", "schema": {"type": "integer"}},
    "server-timing": {"description": "Milliseconds in the queue and in predict.", "schema": _STRING},
}
"""Of an answer to a prediction."""
