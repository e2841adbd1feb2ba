"""RFC 9457 problem details: the body of every error answer, and the table of codes."""

from enum import StrEnum
from http import HTTPStatus
from typing import Any

import msgspec


class Code(StrEnum):
    """What went wrong, for programs; `STATUS` has the HTTP status of each."""

    INVALID_PAYLOAD = "invalid_payload"
    BAD_REQUEST = "bad_request"
    TOKEN_REQUIRED = "token_required"  # noqa: S105
    HOST_NOT_ALLOWED = "host_not_allowed"
    ORIGIN_NOT_ALLOWED = "origin_not_allowed"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    REQUEST_INCOMPLETE = "request_incomplete"
    BODY_TOO_LARGE = "body_too_large"
    UNSUPPORTED_ENCODING = "unsupported_encoding"
    EXPECTATION_FAILED = "expectation_failed"
    VALIDATION_FAILED = "validation_failed"
    HEADERS_TOO_LARGE = "headers_too_large"
    PREDICTOR_ERROR = "predictor_error"
    UNSERIALIZABLE_PREDICTION = "unserializable_prediction"
    WORKER_DIED = "worker_died"
    QUEUE_FULL = "queue_full"
    QUEUE_TIMEOUT = "queue_timeout"
    NO_WORKER = "no_worker"
    DRAINING = "draining"
    PREDICT_TIMEOUT = "predict_timeout"


STATUS: dict[Code, int] = {
    Code.INVALID_PAYLOAD: 400,
    Code.BAD_REQUEST: 400,
    Code.TOKEN_REQUIRED: 401,
    Code.HOST_NOT_ALLOWED: 403,
    Code.ORIGIN_NOT_ALLOWED: 403,
    Code.NOT_FOUND: 404,
    Code.METHOD_NOT_ALLOWED: 405,
    Code.REQUEST_INCOMPLETE: 408,
    Code.BODY_TOO_LARGE: 413,
    Code.UNSUPPORTED_ENCODING: 415,
    Code.EXPECTATION_FAILED: 417,
    Code.VALIDATION_FAILED: 422,
    Code.HEADERS_TOO_LARGE: 431,
    Code.PREDICTOR_ERROR: 500,
    Code.UNSERIALIZABLE_PREDICTION: 500,
    Code.WORKER_DIED: 502,
    Code.QUEUE_FULL: 503,
    Code.QUEUE_TIMEOUT: 503,
    Code.NO_WORKER: 503,
    Code.DRAINING: 503,
    Code.PREDICT_TIMEOUT: 504,
}

BODILESS = frozenset({204, 304})
"""Statuses whose answers have neither a body nor a length (RFC 9110, section 6.4.1)."""

RETRY_AFTER_S = 1
MEDIA_TYPE = "application/problem+json"


class Problem(msgspec.Struct, frozen=True):
    """One failure of one request, before it is known which request id and worker it belongs to.

    `errors` are pydantic's field errors (422); `traceback` is text and leaves the
    machine only with `--debug`.
    """

    code: Code
    detail: str
    traceback: str | None = None
    errors: list[dict[str, Any]] | None = None

    @property
    def status(self) -> int:
        """The HTTP status of this problem's code."""
        return STATUS[self.code]

    def body(self, request_id: str, *, worker: int | None = None, debug: bool = False) -> bytes:
        """The `application/problem+json` document."""
        document: dict[str, Any] = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "code": self.code.value,
            "request_id": request_id,
        }
        if worker is not None:
            document["worker"] = worker
        if debug and self.traceback:
            document["traceback"] = self.traceback
        if self.errors is not None:
            document["errors"] = self.errors
        return msgspec.json.encode(document)

    def event(self, request_id: str, *, worker: int | None = None, debug: bool = False) -> bytes:
        """The same document as the `error` event that ends a stream of Server-Sent Events."""
        return b"event: error\ndata: %b\n\n" % self.body(request_id, worker=worker, debug=debug)
