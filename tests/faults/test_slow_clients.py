"""Clients that take their time, with the door's limits made small."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon import Daemon, eventually
from tests.faults.recovery import SLACK, wait_whole
from tests.faults.small_limits import LIMITS, environment
from tests.ledger import PRELUDE
from tests.raw_http import RawConnection, exchange, request

SOURCE = (
    PRELUDE
    + """
class PythonPredictor:
    def predict(self, payload, query_params, headers):
        record(headers.get("x-request-id", "-"))
        return self.endless() if "stream" in query_params else bytes(int(query_params.get("bytes", 0))) or payload

    def endless(self):
        try:
            while True:
                yield b"." * 65536
        finally:
            record("closed")
"""
)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(SOURCE, environment=environment(tmp_path_factory.mktemp("limits"))) as daemon:
        yield daemon


def seconds_to_end(connection: RawConnection, dribble: bytes = b"", every_s: float = 0.1) -> tuple[float, bytes]:
    """How long the door keeps this connection while these bytes dribble in, and what it sends."""
    started = time.monotonic()
    connection.socket.settimeout(every_s)
    received = b""
    at = 0
    while time.monotonic() - started < 10:
        try:
            data = connection.socket.recv(65536)
        except TimeoutError:
            connection.send(dribble[at : at + 1])
            at += 1
        except ConnectionResetError:
            break
        else:
            received += data
            if not data:
                break
    return time.monotonic() - started, received


def assert_timely(seconds: float, limit: str) -> None:
    assert LIMITS[limit] - 0.1 <= seconds <= LIMITS[limit] + 1.0 * SLACK


def test_a_header_must_end_in_time_however_it_dribbles(daemon: Daemon) -> None:
    with RawConnection(daemon.port) as connection:
        connection.send(b"POST /predict HTTP/1.1\r\nHost: localhost\r\n")
        seconds, received = seconds_to_end(connection, b"X-Slow: " + b"x" * 1000)
    assert_timely(seconds, "HEAD_TIMEOUT_S")
    assert received.startswith(b"HTTP/1.1 408 ")
    assert b'"request_incomplete"' in received
    assert b"\r\nconnection: close\r\n" in received


def test_a_body_must_not_stop(daemon: Daemon) -> None:
    daemon.ledger.clear()
    with RawConnection(daemon.port) as connection:
        connection.send(request(headers=[("Content-Length", "1000"), ("X-Request-Id", "slow-body")], body=b"x"))
        seconds, received = seconds_to_end(connection)
    assert_timely(seconds, "BODY_GAP_S")
    assert received.startswith(b"HTTP/1.1 408 ")
    assert b'"request_id":"slow-body"' in received
    assert daemon.ledger.lines() == []


def test_a_worker_gets_a_slow_body_only_when_it_is_whole(daemon: Daemon) -> None:
    daemon.ledger.clear()
    pieces = 8
    with RawConnection(daemon.port) as connection:
        connection.send(request(headers=[("Content-Length", str(pieces))]))
        for _ in range(pieces - 1):
            connection.send(b"x")
            time.sleep(LIMITS["BODY_GAP_S"] / 4)
        assert daemon.ledger.lines() == []
        assert exchange(daemon.port, request(body=b"quick")).body == b"quick"
        connection.send(b"x")
        assert connection.answer().body == b"x" * pieces


def test_who_connects_and_says_nothing_is_let_go(daemon: Daemon) -> None:
    with RawConnection(daemon.port) as connection:
        seconds, received = seconds_to_end(connection)
    assert_timely(seconds, "IDLE_TIMEOUT_S")
    assert received == b""


def test_a_kept_connection_is_let_go_when_it_idles(daemon: Daemon) -> None:
    with RawConnection(daemon.port) as connection:
        for _ in range(3):
            connection.send(request(body=b"x"))
            assert connection.answer().status == 200
            time.sleep(LIMITS["IDLE_TIMEOUT_S"] / 3)
        seconds, received = seconds_to_end(connection)
    assert seconds <= LIMITS["IDLE_TIMEOUT_S"] + 1.0 * SLACK
    assert received == b""


def test_many_slow_clients_are_evicted_and_harm_nobody(daemon: Daemon) -> None:
    wait_whole(daemon)
    openings = [b"", b"POST /pre", request(headers=[("Content-Length", "100")]), request("GET", "/status")[:-2]]
    crowd = [RawConnection(daemon.port) for _ in range(200)]
    for number, connection in enumerate(crowd):
        connection.send(openings[number % len(openings)])
    started = time.monotonic()
    for _ in range(20):
        assert exchange(daemon.port, request(body=b"x")).status == 200
    assert (time.monotonic() - started) / 20 < 0.1
    for connection in crowd:
        connection.socket.settimeout(5)
        connection.read_to_end()
        connection.socket.close()
    assert time.monotonic() - started < max(LIMITS.values()) + 1.0 * SLACK
    wait_whole(daemon)


@pytest.mark.parametrize("query", ["stream=1", f"bytes={8 << 20}"])
def test_a_reader_that_takes_nothing_is_cut_off(daemon: Daemon, query: str) -> None:
    daemon.ledger.clear()
    with RawConnection(daemon.port) as connection:
        connection.send(request(target=f"/predict?{query}"))
        eventually(daemon.ledger.lines)
        eventually(lambda: not is_connected(daemon, connection), LIMITS["READER_TIMEOUT_S"] + 1.0 * SLACK)
        wait_whole(daemon)  # the worker is free
        if query.startswith("stream"):
            assert daemon.ledger.lines()[-1] == "closed"


def test_a_reader_that_is_slow_is_not_cut_off(daemon: Daemon) -> None:
    size = 12 << 20  # more than the kernel holds for both ends
    with RawConnection(daemon.port) as connection:
        connection.send(request(target=f"/predict?bytes={size}"))
        read, started = 0, time.monotonic()
        while read < size:
            read += len(connection.socket.recv(min(1 << 19, size - read)))
            time.sleep(LIMITS["READER_TIMEOUT_S"] / 10)
        assert time.monotonic() - started > 2 * LIMITS["READER_TIMEOUT_S"]


def is_connected(daemon: Daemon, connection: RawConnection) -> bool:
    """Whether the daemon still holds its end, by the kernel's account."""
    ends = [f"0100007F:{port:04X}" for port in (daemon.port, connection.socket.getsockname()[1])]
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(row[1:4] == [*ends, "01"] for row in rows)


# --- C9


def test_a_client_that_waits_for_100_gets_it_and_then_408(daemon: Daemon) -> None:
    with RawConnection(daemon.port) as connection:
        connection.send(request(headers=[("Content-Length", "10"), ("Expect", "100-continue")]))
        _, received = seconds_to_end(connection)
    assert received.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 408 ")


def test_a_body_that_is_too_large_is_not_asked_for(daemon: Daemon) -> None:
    with RawConnection(daemon.port) as connection:
        connection.send(request(headers=[("Content-Length", str(1 << 40)), ("Expect", "100-continue")]))
        assert connection.read_to_end().startswith(b"HTTP/1.1 413 ")
