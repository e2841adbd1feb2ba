"""From a request's body to the `payload` that `predict` asked for."""

import codecs
import inspect
import re
from typing import Any

from predictord.problem import Code, Problem
from predictord.wire import Buffer
from predictord.worker.json_body import parse_json

MAX_ERRORS = 100
"""A list of a million wrong items is not answered with a million errors."""

_CHARSET = re.compile(r""";\s*charset\s*=\s*["']?([^\s;"']*)""", re.IGNORECASE)
_NO_CHARSETS = frozenset({"idna", "punycode", "unicode_escape", "raw-unicode-escape", "undefined"})
"""Codecs of Python's that no client means; decoding some takes quadratic time."""


class PayloadRejected(Exception):
    """The client's body is not what its Content-Type, or the predictor's type, says it is."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


class PayloadDecoder:
    """Turns bodies into payloads for one `payload` parameter, whose annotation decides.

    With batching, `annotation` is that of an item. `schema` is the JSON schema of a typed payload, as
    JSON; `note` says in a sentence what about the annotation could not be used, for `check`.
    """

    schema: bytes | None = None
    note: str | None = None

    def __init__(self, annotation: Any = inspect.Parameter.empty) -> None:
        self._raw = annotation is bytes
        self._text = annotation is str
        self._typed: Any = None  # a TypedPayload, of a module imported only for typed predictors
        if not any(annotation is untyped for untyped in (inspect.Parameter.empty, Any, object, bytes, str)):
            self._use_type(annotation)

    def _use_type(self, annotation: Any) -> None:
        from predictord.worker.typed_payload import NoSchema, TypedPayload

        try:
            self._typed = TypedPayload(annotation)
        except NoSchema as error:
            self.note = str(error)
            return
        self.schema = self._typed.schema
        self.note = self._typed.note

    def __call__(self, content_type: str | None, body: Buffer) -> Any:
        """The payload of one request. Raises PayloadRejected; does not block."""
        try:
            if self._raw:
                return bytes(body)
            if self._text:
                return _decode_text(content_type or "", body)
            if content_type == "application/json" and self._typed is None:
                return parse_json(body)
            return self._parse(content_type or "", body)
        except ValueError as error:
            raise PayloadRejected(Problem(Code.INVALID_PAYLOAD, str(error))) from error

    def _parse(self, content_type: str, body: Buffer) -> Any:
        media_type = content_type.partition(";")[0].strip().lower()
        is_json = media_type == "application/json" or media_type.endswith("+json")
        payload = parse_json(body) if is_json else _parse_other(media_type, content_type, body)
        if self._typed is None:
            return payload
        value, errors = self._typed.validate(payload, bytes(body) if is_json else None)
        if errors is not None:
            raise PayloadRejected(_validation_problem(errors, payload))
        return value


def _parse_other(media_type: str, content_type: str, body: Buffer) -> Any:
    if media_type == "multipart/form-data":
        from predictord.worker.form import parse_multipart

        _charset(content_type)
        return parse_multipart(content_type, bytes(body))
    if media_type == "application/x-www-form-urlencoded":
        from predictord.worker.form import parse_urlencoded

        return parse_urlencoded(content_type, bytes(body))
    if media_type.startswith("text/"):
        return _decode_text(content_type, body)
    return bytes(body)


def _decode_text(content_type: str, body: Buffer) -> str:
    charset = _charset(content_type)
    try:
        return bytes(body).decode(charset)
    except UnicodeDecodeError as error:
        raise ValueError(f"the body is not {charset} text: {error.reason} at byte {error.start}") from error
    except LookupError as error:  # a codec, but not one of text: hex, zlib
        raise ValueError(f"unknown charset {charset!r} in Content-Type") from error


def _charset(content_type: str) -> str:
    named = _CHARSET.search(content_type)
    if named is None:
        return "utf-8"
    try:
        charset = codecs.lookup(named[1]).name
    except (LookupError, ValueError):
        charset = "undefined"
    if charset in _NO_CHARSETS:
        raise ValueError(f"unknown charset {named[1]!r} in Content-Type")
    return charset


def _validation_problem(errors: list[dict[str, Any]], payload: Any) -> Problem:
    first = errors[0]
    place = ".".join(map(str, first["loc"]))
    detail = f"{place}: {first['msg']}" if place else first["msg"]
    if len(errors) > 1:
        detail += f" (and {len(errors) - 1} more, see errors)"
    if isinstance(payload, bytes):
        detail += "; the body came without a Content-Type that is parsed, such as application/json"
    return Problem(Code.VALIDATION_FAILED, detail, errors=errors[:MAX_ERRORS])
