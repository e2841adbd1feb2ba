"""What the door decides from a request's head alone, as plain functions (who may call is access.py's)."""

import re
from itertools import count
from uuid import uuid4

from predictord.problem import Code, Problem
from predictord.supervisor import limits
from predictord.wire import Headers

_SANE_ID = re.compile(rb"[A-Za-z0-9._~:/+=-]{1,128}").fullmatch
_ids = count(1)
_id_prefix = uuid4().hex[:12].encode()


def new_id() -> bytes:
    """A request id that no other request of this machine has."""
    return b"%b%d" % (_id_prefix, next(_ids))


def choose_id(given: bytes | None) -> bytes:
    """The client's own request id if it is harmless in logs and headers, else a new one."""
    return given if given is not None and _SANE_ID(given) else new_id()


def is_long(url: bytes, headers: Headers) -> bool:
    """Whether request line and header fields are longer together than `limits.HEAD_BYTES`."""
    return len(url) + sum(len(name) + len(value) + 4 for name, value in headers) > limits.HEAD_BYTES


def framing_problem(version: str, url: bytes, headers: Headers) -> Problem | None:
    """What the parser lets pass and others read differently (RFC 9112, sections 3.2 and 6.1)."""
    if version not in ("1.1", "1.0"):
        return Problem(Code.BAD_REQUEST, f"HTTP/{version} is not supported; use HTTP/1.1")
    if b"#" in url:
        return Problem(Code.BAD_REQUEST, "a request target has no fragment (#)")
    codings = [value.lower() for name, value in headers if name == b"transfer-encoding"]
    if codings and (version == "1.0" or codings != [b"chunked"]):
        return Problem(Code.BAD_REQUEST, "the only Transfer-Encoding is one `chunked`, and only in HTTP/1.1")
    return None


def expectation_problem(expect: bytes) -> Problem | None:
    """Why this `Expect` can't be met."""
    if expect.lower() == b"100-continue":
        return None
    return Problem(Code.EXPECTATION_FAILED, "only `Expect: 100-continue` is understood")


def encoding_problem(headers: Headers) -> Problem | None:
    """Why a body with these `Content-Encoding`s is not taken."""
    codings = [value for name, value in headers if name == b"content-encoding" and value.lower() != b"identity"]
    if not codings:
        return None
    name = b", ".join(codings).decode("latin-1")
    return Problem(Code.UNSUPPORTED_ENCODING, f"Content-Encoding {name} is not supported; send it plain")


def too_long() -> Problem:
    """The answer to a head past its limits."""
    most = f"the request line and header fields are limited to {limits.HEAD_BYTES >> 10} KiB"
    return Problem(Code.HEADERS_TOO_LARGE, f"{most} and {limits.HEADER_FIELDS} fields")
