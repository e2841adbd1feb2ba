"""The OpenAPI document of a served predictor: typed as far as the predictor is, and open where it is not."""

from typing import Any

import orjson

from predictord.problem import STATUS, Code
from predictord.supervisor.openapi_routes import HEADERS, ROUTES, SCHEMAS, problem, reference
from predictord.wire import Form, Interface

_JSON, _TEXT, _BYTES, _LINES = "application/json", "text/plain", "application/octet-stream", "application/x-ndjson"
_EVENTS = "text/event-stream"
_URLENCODED, _MULTIPART = "application/x-www-form-urlencoded", "multipart/form-data"
_OPEN: dict[str, Any] = {"schema": {}}
_STRING = {"schema": {"type": "string"}}
_FIELDS = {"schema": {"type": "object"}}

_NOT_OF_PREDICTIONS = frozenset({Code.NOT_FOUND, Code.METHOD_NOT_ALLOWED})
_ONLY_WITH_SCHEMA = frozenset({Code.VALIDATION_FAILED})
_ONLY_WITH_TOKEN = frozenset({Code.TOKEN_REQUIRED})


def describe(interface: Interface, *, name: str, generation: int, has_token: bool) -> dict[str, Any]:
    """OpenAPI 3.1 of this predictor and of the daemon's own routes."""
    schemas = _Schemas()
    body = schemas.add(interface.body_schema)
    answer = schemas.add(interface.answer_schema, "-Output")
    codes = set(Code) - _NOT_OF_PREDICTIONS
    if interface.body_schema is None:
        codes -= _ONLY_WITH_SCHEMA
    if not has_token:
        codes -= _ONLY_WITH_TOKEN
    statuses = sorted({STATUS[code] for code in codes})
    predict = _operation(interface, body, answer, statuses)
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": name, "version": str(generation)},
        "paths": {
            "/predict": {"post": {"operationId": "predict", **predict}},
            **ROUTES,
            "/": {"post": {"operationId": "predict_at_root", **predict}, **ROUTES["/"]},
        },
        "components": {
            "schemas": {**schemas.named, **SCHEMAS},
            "headers": HEADERS,
            "responses": {
                f"Problem{status}": problem(status, [code for code in Code if code in codes]) for status in statuses
            },
        },
    }
    if interface.doc:
        document["info"]["description"] = interface.doc
    if has_token:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
    return document


def _operation(interface: Interface, body: Any, answer: Any, statuses: list[int]) -> dict[str, Any]:
    summary, _, rest = interface.predict_doc.partition("\n")
    operation: dict[str, Any] = {"tags": ["predictor"], "summary": summary.strip() or "Run one prediction"}
    if rest.strip():
        operation["description"] = rest.strip()
    if interface.takes_query:
        anything = {"type": "object", "additionalProperties": {"type": "string"}}
        operation["parameters"] = [{"name": "query", "in": "query", "description": "Any fields.", "schema": anything}]
    if interface.body is not Form.NONE:
        content = _request_content(interface.body, body)
        operation["requestBody"] = {"required": interface.body is Form.JSON, "content": content}
    operation["responses"] = {
        "200": {
            "description": "A stream of its parts." if interface.streams else "The prediction.",
            "headers": {header: {"$ref": reference("headers", header)} for header in HEADERS},
            "content": _stream_content(interface.answer, answer) if interface.streams else _content(interface, answer),
        },
        **{str(status): {"$ref": reference("responses", f"Problem{status}")} for status in statuses},
        "default": {"description": "What the predictor itself answers with.", "content": {"*/*": _OPEN}},
    }
    return operation


def _request_content(form: Form, schema: Any) -> dict[str, Any]:
    if form is Form.JSON:
        return {_JSON: {"schema": schema}}
    if form is Form.BYTES:
        return {_BYTES: _OPEN}
    if form is Form.TEXT:
        return {_TEXT: _STRING}
    return {_JSON: _OPEN, _TEXT: _STRING, _URLENCODED: _FIELDS, _MULTIPART: _FIELDS, _BYTES: _OPEN}


def _content(interface: Interface, schema: Any) -> dict[str, Any]:
    contents: dict[Form, dict[str, Any]] = {
        Form.JSON: {_JSON: {"schema": schema}},
        Form.TEXT: {_TEXT: _STRING},
        Form.BYTES: {_BYTES: _OPEN},
    }
    return contents.get(interface.answer, {"*/*": _OPEN})


def _stream_content(form: Form, schema: Any) -> dict[str, Any]:
    """A stream has its own type, and is one of events for clients that accept those."""
    types = {Form.JSON: _LINES, Form.TEXT: _TEXT, Form.BYTES: _BYTES}
    if form not in types:
        return {"*/*": _OPEN}
    # Of lines and events the schema would be that of one, which OpenAPI 3.1 can't say of the whole.
    described = {"schema": {"type": "string"}} if form is not Form.BYTES else _OPEN
    if form is Form.JSON and schema:
        described = {"schema": {"type": "string", "contentMediaType": _LINES, "contentSchema": schema}}
    return {types[form]: described, _EVENTS: _STRING}


class _Schemas:
    """Collects JSON schemas whose definitions become components of the document."""

    def __init__(self) -> None:
        self.named: dict[str, Any] = {}

    def add(self, encoded: bytes | None, suffix: str = "") -> Any:
        """The schema with its references pointing at components; an open one where there is none.

        Definitions get the suffix if they are not those that have their names already: what
        comes out of a model may differ from what goes in.
        """
        if encoded is None:
            return {}
        schema = orjson.loads(encoded)
        definitions: dict[str, Any] = schema.pop("$defs", {})
        plain = {name: _renamed(definition, "") for name, definition in definitions.items()}
        if all(self.named.get(name, definition) == definition for name, definition in plain.items()):
            suffix = ""
        self.named |= {f"{name}{suffix}": _renamed(definition, suffix) for name, definition in definitions.items()}
        return _renamed(schema, suffix)


def _renamed(schema: Any, suffix: str) -> Any:
    if isinstance(schema, list):
        return [_renamed(item, suffix) for item in schema]
    if isinstance(schema, dict):
        return {key: _renamed(value, suffix) for key, value in schema.items()}
    if isinstance(schema, str) and schema.startswith("#/$defs/"):
        return reference("schemas", schema.removeprefix("#/$defs/") + suffix)
    return schema
