"""HTTP abuse and browsers' attacks through a real daemon.

Who may call is tabled in tests/supervisor/test_access.py; here the point is that nobody else
gets as far as the predictor.
"""

import gzip
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.daemon import Daemon, eventually, serve_to_exit
from tests.ledger import PRELUDE
from tests.raw_http import Answer, Fields, RawConnection, exchange, request

SOURCE = (
    PRELUDE
    + """
class PythonPredictor:
    def predict(self, payload, headers):
        record("ran")
        return [type(payload).__name__, len(payload) if hasattr(payload, "__len__") else payload, headers.keys()]
"""
)

MAX_BODY = 1 << 20


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    allowed = ("--allow-host", "allowed.example", "--allow-origin", "https://app.example")
    with Daemon(SOURCE, "--max-body-size", str(MAX_BODY), *allowed) as daemon:
        yield daemon


@pytest.fixture(autouse=True)
def _new_ledger(daemon: Daemon) -> None:
    daemon.ledger.clear()


def assert_refused(daemon: Daemon, data: bytes, status: int, code: str, method: str = "POST") -> Answer:
    """This is answered so, and runs nothing."""
    with RawConnection(daemon.port) as connection:
        connection.send(data)
        answer = connection.answer(method)
    assert answer.status == status, answer
    if method != "HEAD":
        assert f'"code":"{code}"'.encode() in answer.body
    assert daemon.ledger.lines() == []
    return answer


# --- X1, X3

GOOD_HOSTS = [
    "localhost",
    "LOCALHOST",
    "localhost:1",
    "127.0.0.1",
    "127.0.0.1:65535",
    "[::1]",
    "[::1]:8000",
    "allowed.example",
    "Allowed.Example:81",
]
BAD_HOSTS = [
    "evil.example",
    "127.0.0.1.evil",
    "localhost.",
    "127.1",
    "0x7f.1",
    "[::ffff:127.0.0.1]",
    "0.0.0.0",
    "localhost, evil.example",
    "localhost,localhost",
    "a@localhost",
    "localhost@evil.example",
    "local\thost",
    "evil localhost",
    "x.local",
    "*.local",
    socket.gethostname(),
    "localhost/",
    "localhost?x",
    "localhost#x",
    "evil.example/@localhost",
    "evil.example#@localhost",
    "localhost:80:80",
    "localhost:http",
    "http://localhost",
]


@pytest.mark.parametrize("host", GOOD_HOSTS)
def test_our_names_pass(daemon: Daemon, host: str) -> None:
    assert exchange(daemon.port, request(host=host)).status == 200


@pytest.mark.parametrize("host", BAD_HOSTS)
@pytest.mark.parametrize(("method", "target"), [("POST", "/predict"), ("POST", "/"), ("GET", "/status"), ("HEAD", "/")])
def test_other_hosts_are_refused(daemon: Daemon, host: str, method: str, target: str) -> None:
    assert_refused(daemon, request(method, target, host=host), 403, "host_not_allowed", method)


@pytest.mark.parametrize(
    "headers",
    [
        [("Host", "")],
        [("Host", " ")],
        [("Host", "localhost"), ("Host", "localhost")],
        [("Host", "localhost"), ("host", "evil.example")],
        [("Host", "evil.example"), ("HOST", "localhost")],
    ],
)
def test_two_hosts_or_an_empty_one_is_a_bad_request(daemon: Daemon, headers: Fields) -> None:
    assert_refused(daemon, request(headers=headers), 400, "bad_request")


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_no_host_is_a_bad_request(daemon: Daemon, version: bytes) -> None:
    assert_refused(daemon, b"POST /predict HTTP/" + version + b"\r\nContent-Length: 0\r\n\r\n", 400, "bad_request")


@pytest.mark.parametrize(
    "target",
    [
        "http://localhost/predict",
        "http://evil.example/predict",
        "https://localhost:8000/",
        "localhost:8000",
        "*",
        "/predict#fragment",
        "/#/predict",
    ],
)
@pytest.mark.parametrize("method", ["POST", "GET", "OPTIONS"])
def test_targets_that_are_no_path_are_a_bad_request(daemon: Daemon, method: str, target: str) -> None:
    assert_refused(daemon, request(method, target), 400, "bad_request", method)


def test_authority_form_opens_no_tunnel(daemon: Daemon) -> None:
    with RawConnection(daemon.port) as connection:
        connection.send(request("CONNECT", "localhost:22") + request())
        assert connection.read_to_end().startswith(b"HTTP/1.1 400 ")
    assert daemon.ledger.lines() == []


# --- X4

ORIGIN = "Origin"
SITE = "Sec-Fetch-Site"
GOOD_ORIGINS = [
    "http://localhost:3000",
    "http://127.0.0.1",
    "https://[::1]:8443",
    "https://app.example",
]
BAD_ORIGINS = [
    "https://evil.example",
    "null",
    "file://",
    "chrome-extension://abcdefghijklmnop",
    "https://localhost.evil.example",
    "https://app.example:444",
    "http://app.example",
    "https://app.example.evil.example",
    "",
]
SIMPLE_TYPES = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", None]


def browser_headers(*headers: tuple[str, str], content_type: str | None = None) -> Fields:
    return [*headers, *([("Content-Type", content_type)] if content_type else [])]


def granted(answer: Answer) -> list[bytes]:
    return [name for name, _ in answer.headers if name.startswith(b"access-control-")]


@pytest.mark.parametrize("content_type", [*SIMPLE_TYPES, "application/json"])
@pytest.mark.parametrize("origin", BAD_ORIGINS)
def test_other_sites_simple_requests_are_refused(daemon: Daemon, origin: str, content_type: str | None) -> None:
    headers = browser_headers((ORIGIN, origin), content_type=content_type)
    answer = assert_refused(daemon, request(headers=headers, body=b"{}"), 403, "origin_not_allowed")
    assert granted(answer) == []


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize("mode", ["no-cors", "navigate", "cors", "websocket"])
@pytest.mark.parametrize(
    ("method", "target"), [("POST", "/predict"), ("POST", "/"), ("GET", "/status"), ("GET", "/healthz")]
)
def test_other_sites_requests_without_origin_are_refused(
    daemon: Daemon, site: str, mode: str, method: str, target: str
) -> None:
    headers = browser_headers((SITE, site), ("Sec-Fetch-Mode", mode), content_type="text/plain")
    assert granted(assert_refused(daemon, request(method, target, headers), 403, "origin_not_allowed", method)) == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"])
@pytest.mark.parametrize("target", ["/", "/status", "/openapi.json", "/predict", "/nowhere"])
def test_every_method_and_path_is_guarded(daemon: Daemon, method: str, target: str) -> None:
    data = request(method, target, [(ORIGIN, "https://evil.example")])
    assert granted(assert_refused(daemon, data, 403, "origin_not_allowed", method)) == []


def test_a_link_from_another_site_may_show_the_page(daemon: Daemon) -> None:
    headers = [(SITE, "cross-site"), ("Sec-Fetch-Mode", "navigate"), ("Accept", "text/html")]
    assert exchange(daemon.port, request("GET", "/", headers), "GET").status == 200


@pytest.mark.parametrize("origin", GOOD_ORIGINS)
def test_local_and_allowed_pages_may_call_and_read(daemon: Daemon, origin: str) -> None:
    answer = exchange(daemon.port, request(headers=[(ORIGIN, origin), (SITE, "cross-site")], body=b"x"))
    assert answer.status == 200
    assert answer.header("access-control-allow-origin") == origin
    assert answer.header("access-control-allow-credentials") is None
    assert "origin" in (answer.header("vary") or "")
    assert daemon.ledger.lines() == ["ran"]


def test_errors_can_be_read_by_local_pages_too(daemon: Daemon) -> None:
    origin = (ORIGIN, "http://localhost:3000")
    for data in (request(target="/nowhere", headers=[origin]), request(headers=[origin, ("Content-Encoding", "br")])):
        assert exchange(daemon.port, data).header("access-control-allow-origin") == origin[1]


def preflight(origin: str) -> bytes:
    asks = [("Access-Control-Request-Method", "POST"), ("Access-Control-Request-Headers", "content-type, x-mine")]
    return request("OPTIONS", "/predict", [(ORIGIN, origin), (SITE, "cross-site"), *asks])


@pytest.mark.parametrize("origin", GOOD_ORIGINS)
def test_preflight_of_an_allowed_page(daemon: Daemon, origin: str) -> None:
    with RawConnection(daemon.port) as connection:
        connection.send(preflight(origin))
        answer = connection.answer("OPTIONS")
        assert (answer.status, answer.body) == (204, b"")
        assert answer.header("access-control-allow-origin") == origin
        assert "POST" in (answer.header("access-control-allow-methods") or "")
        assert answer.header("access-control-allow-headers") == "content-type, x-mine"
        connection.send(request(headers=[(ORIGIN, origin)], body=b"x"))
        assert connection.answer().status == 200


@pytest.mark.parametrize("framing", [("Content-Length", "{}"), ("Transfer-Encoding", "chunked")])
def test_what_follows_a_preflight_as_its_body_is_no_request(daemon: Daemon, framing: tuple[str, str]) -> None:
    body = request(body=b"x")
    asks = [("Origin", "http://localhost:3000"), ("Access-Control-Request-Method", "POST")]
    with RawConnection(daemon.port) as connection:
        connection.send(body)
        assert connection.answer().status == 200
        connection.send(request("OPTIONS", "/predict", [*asks, (framing[0], framing[1].format(len(body)))]))
        assert connection.answer("OPTIONS").status == 400
        connection.send(body)
        assert connection.read_to_end() == b""
    assert daemon.ledger.lines() == ["ran"]


@pytest.mark.parametrize("origin", BAD_ORIGINS)
def test_preflight_of_any_other_page_grants_nothing(daemon: Daemon, origin: str) -> None:
    answer = assert_refused(daemon, preflight(origin), 403, "origin_not_allowed", "OPTIONS")
    assert granted(answer) == []


def test_without_origin_nothing_is_granted(daemon: Daemon) -> None:
    assert granted(exchange(daemon.port, request(body=b"x"))) == []


# --- X5


def listening(port: int) -> set[str]:
    """The addresses on which someone listens on this port, as the kernel writes them."""
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return {row[1].partition(":")[0] for row in rows if row[3] == "0A" and row[1].endswith(f":{port:04X}")}


def test_by_default_only_this_machine_can_connect(daemon: Daemon) -> None:
    loopback = {"0100007F", "00000000000000000000000001000000"}
    assert "0100007F" in listening(daemon.port) <= loopback


def test_another_address_needs_a_token() -> None:
    ended = serve_to_exit(SOURCE, "--host", "0.0.0.0")
    assert ended.code == 2
    assert "--token-file" in ended.log


def test_another_address_is_announced_and_guarded_by_the_token() -> None:
    token = "correct-horse"
    everywhere = ("--host", "0.0.0.0")
    with Daemon(SOURCE, *everywhere, environment={"PREDICTORD_TOKEN": token}, wait_ready=False) as daemon:
        port = int(daemon.wait_for_line(r"http://0\.0\.0\.0:(\d+)")[1])
        daemon.wait_for_line("other machines can connect")
        assert listening(port) == {"00000000"}
        with httpx.Client(base_url=f"http://127.0.0.2:{port}", trust_env=False) as client:
            bearer = {"Authorization": f"Bearer {token}"}
            eventually(lambda: client.get("/readyz", headers=bearer).status_code == 200)
            assert client.get("/healthz").status_code == 200
            for wrong in ({}, {"Authorization": "Bearer correct-"}, {"Authorization": f"Basic {token}"}):
                refused = client.post("/predict", headers=wrong)
                assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
            misplaced = client.post("/predict", params={"token": token}, headers={"Cookie": f"token={token}"})
            assert misplaced.status_code == 401
            assert daemon.ledger.lines() == []
            assert client.post("/predict", headers=bearer).status_code == 200
            assert client.post("/predict", headers={**bearer, "Host": "evil.example"}).status_code == 403


# --- X9 (the table of bad JSON is tests/contract/test_payload.py's)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, identity", "x"])
def test_compressed_bodies_are_not_taken(daemon: Daemon, encoding: str) -> None:
    bomb = gzip.compress(bytes(10 << 20))
    data = request(headers=[("Content-Encoding", encoding), ("Content-Type", "application/json")], body=bomb)
    assert_refused(daemon, data, 415, "unsupported_encoding")


def test_identity_is_no_encoding(daemon: Daemon) -> None:
    assert exchange(daemon.port, request(headers=[("Content-Encoding", "Identity")], body=b"x")).status == 200


@pytest.mark.parametrize(
    ("body", "position"),
    [
        (b"\xef\xbb\xbf[1]", b"position"),
        ("[1]".encode("utf-16"), b"position"),
        (b"[1" + b"0" * 10_000_000, b""),
        (b"[" * 100_000, b""),
        (b"\x1f\x8b", b"position"),
    ],
    ids=["bom", "utf-16", "endless-digits", "deep", "gzip"],
)
def test_bodies_that_are_no_json_harm_nobody(daemon: Daemon, body: bytes, position: bytes) -> None:
    body = body[:MAX_BODY]
    started = time.monotonic()
    answer = assert_refused(
        daemon, request(headers=[("Content-Type", "application/json")], body=body), 400, "invalid_payload"
    )
    assert time.monotonic() - started < 3
    assert len(answer.body) < 2000


# --- X10


def resident_bytes(daemon: Daemon) -> int:
    pages = int(Path(f"/proc/{daemon.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


def flood(daemon: Daemon, start: bytes, piece: bytes, pieces: int) -> tuple[bytes, int]:
    """What the door sends to, and how many bytes it takes from, a client that will not stop."""
    taken = 0
    with RawConnection(daemon.port) as connection:
        connection.send(start)
        connection.socket.settimeout(5)
        try:
            for _ in range(pieces):
                connection.socket.sendall(piece)
                taken += len(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass
        return connection.read_to_end(), taken


def test_a_declared_body_over_the_limit_is_refused_before_it_comes(daemon: Daemon) -> None:
    data = request(headers=[("Content-Length", str(MAX_BODY + 1))])
    answer = assert_refused(daemon, data, 413, "body_too_large")
    assert answer.header("connection") == "close"


def test_a_body_of_exactly_the_limit_passes(daemon: Daemon) -> None:
    assert exchange(daemon.port, request(body=bytes(MAX_BODY))).status == 200


def test_a_chunked_body_is_refused_when_it_passes_the_limit(daemon: Daemon) -> None:
    before = resident_bytes(daemon)
    start = request(headers=[("Transfer-Encoding", "chunked")])
    received, _ = flood(daemon, start, b"10000\r\n" + bytes(1 << 16) + b"\r\n", 64)
    assert received.startswith(b"HTTP/1.1 413 ")
    assert daemon.ledger.lines() == []
    assert resident_bytes(daemon) - before <= MAX_BODY + (2 << 20)


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"POST /predict HTTP/1.1\r\nHost: localhost\r\nX-Long: ", b"x" * 65536),
        (b"POST /predict HTTP/1.1\r\nHost: localhost\r\n", b"X-Many: x\r\n" * 2000),
        (b"POST /predict?", b"x" * 65536),
        (b"POST /predict HTTP/1.1\r\nHost: localhost\r\nX", b"x" * 65536),
        (b"GET /status HTTP/1.1\r\nHost: localhost\r\nCookie: ", b"a=b; " * 1000),
        (request(headers=[("Transfer-Encoding", "chunked")]) + b"1\r\nx\r\n0\r\nX-Trailer: ", b"x" * 65536),
        (request(headers=[("Transfer-Encoding", "chunked")]) + b"1;", b"x" * 65536),
    ],
    ids=["long-field", "many-fields", "long-target", "long-name", "long-cookie", "long-trailer", "long-extension"],
)
def test_a_head_without_end_is_cut_at_64_kib(daemon: Daemon, start: bytes, piece: bytes) -> None:
    exchange(daemon.port, request(body=b"warm"))
    daemon.ledger.clear()
    before = resident_bytes(daemon)
    received, _ = flood(daemon, start, piece, (8 << 20) // len(piece))
    assert received == b"" or received.startswith(b"HTTP/1.1 431 ")  # a flood's own reset may eat the answer
    assert resident_bytes(daemon) - before <= 2 << 20
    assert daemon.ledger.lines() == []


@pytest.mark.parametrize(
    ("headers", "target"),
    [
        ([("X-Long", "x" * 65536)], "/predict"),
        ([("X-Many", "x")] * 101, "/predict"),
        ([], "/predict?" + "x" * (1 << 20)),
    ],
)
def test_a_whole_head_past_the_limits_is_refused(daemon: Daemon, headers: Fields, target: str) -> None:
    assert_refused(daemon, request(target=target, headers=headers), 431, "headers_too_large")


def test_a_head_within_the_limits_passes(daemon: Daemon) -> None:
    headers = [("X-Long", "x" * 60_000), *[("X-Many", "x")] * 90]
    assert exchange(daemon.port, request(headers=headers, body=bytes(100_000))).status == 200


def test_a_length_that_is_too_low_leaves_garbage_that_runs_nothing(daemon: Daemon) -> None:
    with RawConnection(daemon.port) as connection:
        connection.send(request(headers=[("Content-Length", "2")], body=b"hi, and more of it"))
        assert connection.answer().status == 200
        assert b" 200 " not in connection.read_to_end()
    assert daemon.ledger.lines() == ["ran"]


def test_a_length_that_is_too_high_runs_nothing(daemon: Daemon) -> None:
    with RawConnection(daemon.port) as connection:
        connection.send(request(headers=[("Content-Length", "20")], body=b"hi"))
        connection.half_close()
        assert connection.read_to_end() == b""
    assert daemon.ledger.lines() == []
