"""Reading `/openapi.json`."""

from typing import Any


def request_schema(document: dict[str, Any], path: str) -> dict[str, Any]:
    """What an OpenAPI document says of the body of `POST path`, references followed."""
    schema = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    while "$ref" in schema:
        found: Any = document
        for name in schema["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        schema = found
    assert isinstance(schema, dict)
    return schema
