"""Payloads with a type: validated by pydantic, which is imported only for predictors that have one."""

import inspect
import sys
from typing import Any

import msgspec
from pydantic import (
    PydanticSchemaGenerationError,
    PydanticUndefinedAnnotation,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
    create_model,
)


class NoSchema(Exception):
    """The annotation is not a type that pydantic can validate; its text says so."""


class TypedPayload:
    """Validates parsed payloads against one annotation. Raises NoSchema when made for one it can't use.

    `schema` is the JSON schema, as JSON; `None` with a `note` where the type validates but has none.
    """

    schema: bytes | None = None
    note: str | None = None

    def __init__(self, annotation: Any) -> None:
        name = inspect.formatannotation(annotation)
        try:
            self._adapter: TypeAdapter[Any] = TypeAdapter(annotation)
        except (PydanticUserError, PydanticUndefinedAnnotation) as error:
            reason = error.message.partition("\n")[0]
            if isinstance(error, PydanticSchemaGenerationError):  # whose text is about models, which this is none of
                reason = "pydantic has no schema for it, so that payload is what the request's Content-Type makes of it"
            raise NoSchema(f"payload's annotation {name} is ignored: {reason}") from error
        self._lists: frozenset[str] = frozenset()
        try:
            schema = self._adapter.json_schema()
        except PydanticUserError as error:
            self.note = f"payload's annotation {name} is validated, but has no JSON schema: {error.message}"
        else:
            self.schema = msgspec.json.encode(schema)
            self._lists = _list_fields(schema)

    def validate(self, payload: Any, json: bytes | None) -> tuple[Any, list[dict[str, Any]] | None]:
        """The validated payload and `None`, or `None` and the field errors.

        `payload` is the parsed body; `json` its text where it is JSON, for then pydantic's JSON mode
        holds (a strict model takes dates as text, `bytes` may be base64).
        """
        try:
            if json is None:
                return self._adapter.validate_python(self._plain(payload)), None
            try:
                return self._adapter.validate_json(json), None
            except ValidationError as error:
                if not _is_too_deep(error):
                    raise
                return self._adapter.validate_python(payload), None
        except ValidationError as error:
            return None, _field_errors(error)

    def _plain(self, payload: Any) -> Any:
        datastructures = sys.modules.get("starlette.datastructures")
        if datastructures is None or not isinstance(payload, datastructures.FormData):
            return payload
        return {name: payload.getlist(name) if name in self._lists else payload[name] for name in payload}


def warm_up() -> None:
    """Let pydantic import now what it imports with the first model that is made, and look for its plugins."""
    TypedPayload(create_model("Trial", value=(int, ...)))


def _is_too_deep(error: ValidationError) -> bool:
    """pydantic's own depth limit is lower than ours, and the text has parsed before: no other fault is left."""
    first = _details(error)[0]
    return first["type"] == "json_invalid" and not first["loc"]


def _details(error: ValidationError) -> list[Any]:
    return list(error.errors(include_url=False, include_context=False, include_input=False))


def _list_fields(schema: dict[str, Any]) -> frozenset[str]:
    if "$ref" in schema:
        schema = schema["$defs"][schema["$ref"].rpartition("/")[2]]
    properties: dict[str, Any] = schema.get("properties", {})
    return frozenset(
        name
        for name, field in properties.items()
        if any(option.get("type") == "array" for option in (field, *field.get("anyOf", ())))
    )


def _field_errors(error: ValidationError) -> list[dict[str, Any]]:
    return [
        {
            "loc": [_printable(step) if isinstance(step, str) else step for step in detail["loc"]],
            "msg": _printable(detail["msg"]),
            "type": detail["type"],
        }
        for detail in _details(error)
    ]


def _printable(text: str) -> str:
    return text.encode(errors="replace").decode()
