"""A request head that a connection has sent before: what was parsed and judged once need not be again.

A client that keeps its connection sends the same head with every request, but for the
length of the body. Byte for byte the same, it is the same to the parser and to the rules
of access, which look at nothing else but the connection.
"""

from dataclasses import dataclass

from predictord.wire import Predict, RequestHead, frame_head

_MAX_DIGITS = 10
_HEAD_END = b"\r\n\r\n"
_LENGTH_FIELD = b"\r\ncontent-length:"


@dataclass(slots=True)
class KnownHead:
    """One head as it was sent (`raw`), and what is made of it; `total_bytes` counts its body too."""

    raw: bytes
    body_at: int
    body_bytes: int
    total_bytes: int
    head: RequestHead
    extra: bytes
    """Rendered header lines that the answer carries (CORS)."""
    frame: bytes
    """What a worker gets before the body."""
    _digits_at: int
    _digits_end: int

    @classmethod
    def of(cls, request: bytes, head: RequestHead, body_bytes: int, extra: bytes) -> "KnownHead | None":
        """Remember the head of a whole `request` whose parts are these; `None` if it can't be told apart."""
        end = request.find(_HEAD_END) + len(_HEAD_END)
        raw = request[:end]
        before, found, after = raw.lower().partition(_LENGTH_FIELD)
        digits = b"%d" % body_bytes
        if not found or after.partition(b"\r")[0].strip() != digits or len(request) != end + body_bytes:
            return None
        digits_at = raw.index(digits, len(before) + len(found))
        frame = frame_head(Predict([head], [body_bytes]), body_bytes)
        return cls(raw, end, body_bytes, len(request), head, extra, frame, digits_at, digits_at + len(digits))

    def renewed(self, request: bytes) -> "KnownHead | None":
        """This head with the length of another body, if `request` is one whole request with that."""
        at, raw = self._digits_at, self.raw
        if not request.startswith(raw[:at]):
            return None
        end = request.find(b"\r", at, at + _MAX_DIGITS + 1)
        digits, after = request[at:end], raw[self._digits_end :]
        if end < 0 or not request.startswith(after, end) or not digits.isdigit():
            return None
        body_bytes = len(request) - end - len(after)
        if digits != b"%d" % body_bytes:
            return None
        old = self.head
        headers = [(name, digits if name == b"content-length" else value) for name, value in old.headers]
        head = RequestHead(old.content_type, old.method, old.path, old.query, old.http_version, old.client, headers)
        frame = frame_head(Predict([head], [body_bytes]), body_bytes)
        body_at = end + len(after)
        return KnownHead(request[:body_at], body_at, body_bytes, len(request), head, self.extra, frame, at, end)
