"""The OpenAPI document of a served predictor: one operation, typed as far as the predictor is."""

from typing import Any

import orjson

from predictord import __version__
from predictord.problem import MEDIA_TYPE


def describe(payload_schema: bytes | None) -> dict[str, Any]:
    """OpenAPI 3.1; an untyped payload may be anything, and the document says so."""
    schema: dict[str, Any] = orjson.loads(payload_schema) if payload_schema is not None else {}
    definitions = schema.pop("$defs", {})
    content = {"application/json": {"schema": schema}}
    if payload_schema is None:
        content["*/*"] = {"schema": {}}
    operation = {
        "operationId": "predict",
        "summary": "Run one prediction",
        "requestBody": {"required": True, "content": content},
        "responses": {
            "200": {"description": "The prediction", "content": {"*/*": {"schema": {}}}},
            "default": {"description": "A problem (RFC 9457)", "content": {MEDIA_TYPE: {"schema": {"type": "object"}}}},
        },
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "predictord", "version": __version__},
        "paths": {
            "/": {"post": {**operation, "operationId": "predict_at_root"}},
            "/predict": {"post": operation},
        },
        "components": {"schemas": definitions},
    }
