import pytest

from predictord.supervisor.known_head import KnownHead
from predictord.wire import PREFIX, Predict, RequestHead, decode_to_worker

BEFORE = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
AFTER = b"\r\nContent-Type: text/plain\r\n\r\n"
HEADERS = [(b"host", b"localhost"), (b"content-length", b"3"), (b"content-type", b"text/plain")]
HEAD = RequestHead("text/plain", "POST", "/predict", b"", "1.1", ("127.0.0.1", 5), HEADERS)


def known() -> KnownHead:
    head = KnownHead.of(BEFORE + b"3" + AFTER + b"abc", HEAD, 3, b"vary: origin\r\n")
    assert head is not None
    return head


def sent_to_worker(head: KnownHead) -> tuple[Predict, int]:
    header_bytes, body_bytes = PREFIX.unpack_from(head.frame)
    message = decode_to_worker(head.frame[PREFIX.size :])
    assert isinstance(message, Predict) and len(head.frame) == PREFIX.size + header_bytes
    return message, body_bytes


def test_what_is_remembered_is_what_was_sent() -> None:
    head = known()
    assert (head.raw, head.body_bytes, head.body_at) == (BEFORE + b"3" + AFTER, 3, len(BEFORE + AFTER) + 1)
    message, body_bytes = sent_to_worker(head)
    assert (message.requests, message.sizes, body_bytes) == ([HEAD], [3], 3)


def test_another_length_makes_another_head() -> None:
    body = b"x" * 12
    renewed = known().renewed(BEFORE + b"12" + AFTER + body)
    assert renewed is not None
    assert (renewed.raw, renewed.body_bytes, renewed.extra) == (BEFORE + b"12" + AFTER, 12, b"vary: origin\r\n")
    message, body_bytes = sent_to_worker(renewed)
    assert (message.sizes, body_bytes) == ([12], 12)
    assert dict(message.requests[0].headers) == {**dict(HEADERS), b"content-length": b"12"}
    assert dict(HEAD.headers)[b"content-length"] == b"3", "the first one's head is not changed"


@pytest.mark.parametrize(
    "request_",
    [
        BEFORE + b"4" + AFTER + b"abc",  # the body is not all there
        BEFORE + b"2" + AFTER + b"abc",  # another request follows
        BEFORE + b"03" + AFTER + b"abc",
        BEFORE + b"+3" + AFTER + b"abc",
        BEFORE + b"3 " + AFTER + b"abc",
        BEFORE + b"" + AFTER + b"abc",
        BEFORE + b"\xb2" + AFTER + b"ab",
        BEFORE + b"3, 3" + AFTER + b"abc",
        BEFORE + b"3\r\nContent-Length: 3" + AFTER + b"abc",
        BEFORE + b"3" + AFTER.replace(b"plain", b"html") + b"abc",
        BEFORE.replace(b"localhost", b"elsewhere") + b"3" + AFTER + b"abc",
        BEFORE.replace(b"POST", b"GET") + b"3" + AFTER + b"abc",
        BEFORE + b"3\r\nX-Request-Id: 7" + AFTER + b"abc",
        BEFORE + b"12345678901" + AFTER + b"abc",
        BEFORE,
        b"",
    ],
)
def test_what_differs_in_more_than_the_length_is_parsed(request_: bytes) -> None:
    assert known().renewed(request_) is None


@pytest.mark.parametrize(
    "request_",
    [
        BEFORE + b"3" + AFTER + b"ab",
        BEFORE + b"3" + AFTER + b"abcd",
        BEFORE + b" 03" + AFTER + b"abc",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ],
)
def test_what_could_be_read_in_two_ways_is_not_remembered(request_: bytes) -> None:
    assert KnownHead.of(request_, HEAD, 3, b"") is None
