"""Clients that leave, stop reading, half-close or reset."""

import os
import socket
import time
from collections.abc import Iterator
from uuid import uuid4

import h11
import pytest

from tests.daemon import Daemon, eventually, in_background
from tests.faults.recovery import SLACK, wait_whole
from tests.ledger import PRELUDE
from tests.raw_http import Answer, RawConnection, exchange, request

SYNC = (
    PRELUDE
    + """
class PythonPredictor:
    def predict(self, query_params, headers):
        id = headers["x-request-id"]
        record(id, "started")
        if "gate" in query_params:
            wait_for_file(query_params["gate"])
        time.sleep(float(query_params.get("seconds", 0)))
        if "bytes" in query_params:
            return bytes(int(query_params["bytes"]))
        if "stream" in query_params:
            return self.stream(id, int(query_params["stream"]))
        record(id, "ended")
        return id

    def stream(self, id, size):
        sent = 0
        try:
            while True:
                sent += size
                record("sent", sent)
                yield b"." * size
                if size < 1000:
                    time.sleep(0.02)
        finally:
            record(id, "closed")
"""
)

ASYNC = (
    PRELUDE
    + """
import asyncio

class PythonPredictor:
    async def predict(self, query_params, headers):
        id = headers["x-request-id"]
        if "stream" in query_params:
            return self.stream(id)
        record(id, "started")
        try:
            while not os.path.exists(query_params.get("gate", "/")):
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            record(id, "cancelled")
            raise
        return id

    async def stream(self, id):
        try:
            while True:
                yield b"."
                await asyncio.sleep(0.02)
        finally:
            record(id, "closed")
"""
)

CAPACITY = 2


@pytest.fixture(scope="module")
def sync() -> Iterator[Daemon]:
    with Daemon(SYNC, "--concurrency", str(CAPACITY)) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def asynchronous() -> Iterator[Daemon]:
    with Daemon(ASYNC, "--concurrency", str(CAPACITY)) as daemon:
        yield daemon


def ask(request_id: str, query: str = "") -> bytes:
    """The bytes of a prediction's request."""
    return request(target=f"/predict?{query}", headers=[("X-Request-Id", request_id)])


def sent(daemon: Daemon, request_id: str, query: str = "") -> RawConnection:
    """A connection on which this has been asked."""
    connection = RawConnection(daemon.port)
    connection.send(ask(request_id, query))
    return connection


def wait_for_record(daemon: Daemon, line: str, deadline_s: float = 10) -> None:
    eventually(lambda: line in daemon.ledger.lines(), deadline_s)


def wait_for_depth(daemon: Daemon, depth: int, deadline_s: float = 10) -> None:
    eventually(lambda: daemon.status()["queue"]["depth"] == depth, deadline_s)


def assert_capacity(daemon: Daemon) -> None:
    """Exactly `CAPACITY` requests run at once, and one more waits: no slot was lost, none freed twice."""
    wait_whole(daemon)
    gate = uuid4().hex
    ids = [uuid4().hex for _ in range(CAPACITY + 1)]
    with in_background(*(lambda id=id: exchange(daemon.port, ask(id, f"gate={gate}")) for id in ids)) as answers:
        eventually(lambda: sum(f"{id} started" in daemon.ledger.lines() for id in ids) == CAPACITY)
        wait_for_depth(daemon, 1)
        daemon.open_gate(gate)
    assert [(answer.status, answer.body.decode()) for answer in answers] == [(200, id) for id in ids]
    wait_whole(daemon)


def open_files(daemon: Daemon) -> int:
    return len(os.listdir(f"/proc/{daemon.pid}/fd"))


# --- C1


@pytest.mark.parametrize("end", ["close", "reset", "half-close"])
def test_who_leaves_the_queue_never_reaches_a_worker(sync: Daemon, end: str) -> None:
    gate, left = uuid4().hex, uuid4().hex
    holders = [sent(sync, uuid4().hex, f"gate={gate}") for _ in range(CAPACITY)]
    wait_for_depth(sync, 0)
    connection = sent(sync, left)
    wait_for_depth(sync, 1)
    if end == "half-close":
        connection.half_close()
    if end == "reset":
        connection.reset()
    else:
        connection.socket.close()
    wait_for_depth(sync, 0, 0.5 * SLACK)
    sync.open_gate(gate)
    for holder in holders:
        with holder:
            assert holder.answer().status == 200
    assert left not in sync.ledger.ids()


# --- C2


def test_leaving_cancels_an_async_prediction(asynchronous: Daemon) -> None:
    connection = sent(asynchronous, "gone", "gate=never")
    wait_for_record(asynchronous, "gone started")
    connection.socket.close()
    wait_for_record(asynchronous, "gone cancelled", 0.5 * SLACK)


def test_a_sync_prediction_runs_to_its_end_and_its_answer_is_dropped(sync: Daemon) -> None:
    gate = uuid4().hex
    connection = sent(sync, "unheard", f"gate={gate}")
    wait_for_record(sync, "unheard started")
    connection.socket.close()
    eventually(lambda: sync.status()["requests"]["in_flight"] == 1)
    sync.open_gate(gate)
    wait_for_record(sync, "unheard ended")
    assert sync.ledger.ids()["unheard"] == 2  # started and ended, once each
    assert_capacity(sync)


@pytest.mark.parametrize("kind", ["sync", "asynchronous"])
def test_leaving_100_times_costs_no_slot(kind: str, request: pytest.FixtureRequest) -> None:
    daemon: Daemon = request.getfixturevalue(kind)
    query = "seconds=0.003" if kind == "sync" else "gate=never"
    for number in range(100):
        connection = sent(daemon, f"leaver-{number}", query)
        if number % 3:
            wait_for_record(daemon, f"leaver-{number} started")
        connection.socket.close()
    assert_capacity(daemon)
    assert max(daemon.ledger.ids()[f"leaver-{number}"] for number in range(100)) <= 2


# --- C3


@pytest.mark.parametrize("kind", ["sync", "asynchronous"])
@pytest.mark.parametrize("end", ["close", "reset"])
def test_leaving_a_stream_closes_its_generator(kind: str, end: str, request: pytest.FixtureRequest) -> None:
    daemon: Daemon = request.getfixturevalue(kind)
    streamer = uuid4().hex
    connection = sent(daemon, streamer, "stream=1")
    read = b""
    while read.count(b"1\r\n.\r\n") < 2:
        read += connection.socket.recv(65536)
    if end == "reset":
        connection.reset()
    else:
        connection.socket.close()
    wait_for_record(daemon, f"{streamer} closed", 1.0 * SLACK)
    assert_capacity(daemon)


# --- C4


def bytes_sent(daemon: Daemon) -> int:
    return max((int(line.split()[1]) for line in daemon.ledger.lines() if line.startswith("sent ")), default=0)


def wait_until_it_stalls(daemon: Daemon) -> int:
    """How many bytes the stream's generator has given away when it comes to a stop."""
    before = -1
    while (now := bytes_sent(daemon)) != before:
        before = now
        time.sleep(0.3)
    return now


def slow_reader(daemon: Daemon, query: str) -> RawConnection:
    """A client whose kernel holds next to nothing for it."""
    connection = RawConnection(daemon.port)
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.send(ask(uuid4().hex, query))
    return connection


def test_a_slow_reader_blocks_the_generator(sync: Daemon) -> None:
    sync.ledger.clear()
    connection = slow_reader(sync, "stream=65536")
    eventually(lambda: bytes_sent(sync) > 0)
    unread = wait_until_it_stalls(sync)
    assert unread <= (1 << 20) + 65536  # one piece is in the generator's hands
    for _ in range(3):
        connection.socket.recv(1)
        time.sleep(0.1)
    assert bytes_sent(sync) == unread
    connection.socket.close()
    eventually(lambda: any(line.endswith(" closed") for line in sync.ledger.lines()))
    assert_capacity(sync)


def test_a_stream_goes_on_when_its_reader_does(sync: Daemon) -> None:
    sync.ledger.clear()
    connection = sent(sync, uuid4().hex, "stream=65536")
    eventually(lambda: bytes_sent(sync) > 0)
    stalled = wait_until_it_stalls(sync)
    read = 0
    while read < 2 * stalled:
        read += len(connection.socket.recv(1 << 20))
    assert bytes_sent(sync) > stalled
    connection.socket.close()
    wait_whole(sync)


def test_whoever_does_not_read_an_answer_holds_no_worker(sync: Daemon) -> None:
    sync.ledger.clear()
    readers = [slow_reader(sync, f"bytes={8 << 20}") for _ in range(CAPACITY + 1)]
    eventually(lambda: len(sync.ledger.lines()) == CAPACITY + 1)
    assert_capacity(sync)
    for reader in readers:
        reader.socket.close()


def test_whoever_reads_no_answers_gets_no_more_of_them(sync: Daemon) -> None:
    size = 12 << 20  # more than the kernel holds for both ends
    sync.ledger.clear()
    with sent(sync, "first", f"bytes={size}") as connection:
        eventually(sync.ledger.lines)
        wait_whole(sync)
        connection.send(ask("second"))
        for _ in range(3):  # by their answers, the second would have been read too
            assert exchange(sync.port, ask("witness")).status == 200
        assert sync.ledger.ids()["second"] == 0
        assert len(connection.answer().body) == size
        assert connection.answer().body == b"second"


# --- C6


def test_half_close_is_no_reason_to_leave(sync: Daemon) -> None:
    gate = uuid4().hex
    with sent(sync, "patient", f"gate={gate}") as connection:
        connection.half_close()
        wait_for_record(sync, "patient started")
        time.sleep(0.7)  # longer than the door takes to find out that the client still reads
        sync.open_gate(gate)
        answer = connection.answer()
        assert (answer.status, answer.body) == (200, b"patient")
        assert connection.read_to_end() == b""


def test_half_close_before_the_request_is_whole_ends_the_connection(sync: Daemon) -> None:
    with RawConnection(sync.port) as connection:
        connection.send(request(headers=[("Content-Length", "10"), ("X-Request-Id", "partial")], body=b"12345"))
        connection.half_close()
        assert connection.read_to_end() == b""
    assert "partial" not in sync.ledger.ids()


def test_closing_after_a_half_close_is_noticed(asynchronous: Daemon) -> None:
    connection = sent(asynchronous, "both", "gate=never")
    wait_for_record(asynchronous, "both started")
    connection.half_close()
    connection.socket.close()
    wait_for_record(asynchronous, "both cancelled", 1.0 * SLACK)


# --- C7


def test_resets_leave_nothing_behind(sync: Daemon) -> None:
    wait_whole(sync)
    before, log_lines = open_files(sync), len(sync.log)
    for number in range(300):
        connection = RawConnection(sync.port)
        match number % 5:
            case 0:
                connection.send(ask(uuid4().hex)[:20])
            case 1:
                connection.send(request(headers=[("Content-Length", "1000")], body=b"x" * 10))
            case 2:
                connection.send(ask(uuid4().hex))
            case 3:
                connection.send(ask(uuid4().hex, "bytes=300000"))
                connection.socket.recv(100)
            case 4:
                connection.send(request("GET", "/status"))
        connection.reset()
    eventually(lambda: open_files(sync) <= before)
    assert sync.log[log_lines:] == []
    assert_capacity(sync)


# --- C8


def first_answer_alone(daemon: Daemon, data: list[bytes]) -> Answer:
    """The first of the answers to these pieces; nothing may follow it."""
    with RawConnection(daemon.port) as connection:
        for piece in data:
            connection.send(piece)
        answer = connection.answer()
        with pytest.raises(h11.RemoteProtocolError):
            connection.answer()
        return answer


@pytest.mark.parametrize("together", [True, False])
def test_of_pipelined_requests_the_first_is_answered(sync: Daemon, together: bool) -> None:
    asked = [ask(f"pipe-{together}-{number}", "seconds=0.05") for number in range(50)]
    answer = first_answer_alone(sync, [b"".join(asked)] if together else asked)
    assert (answer.status, answer.body.decode()) == (200, f"pipe-{together}-0")
    assert not [line for line in sync.ledger.lines() if line.startswith(f"pipe-{together}") and "-0 " not in line]


def test_what_is_sent_behind_a_request_costs_it_no_byte_of_its_answer(sync: Daemon) -> None:
    size = 8 << 20
    with sent(sync, "long", f"bytes={size}&seconds=0.3") as connection:
        for _ in range(3):
            time.sleep(0.05)  # each comes by itself, so that some are unread when the answer ends
            connection.send(ask("behind") * 2000)
        time.sleep(0.5)
        assert len(connection.answer().body) == size
        assert connection.read_to_end() == b""
    assert sync.ledger.ids()["behind"] == 0


def test_a_body_that_comes_after_the_answer_is_no_request(sync: Daemon) -> None:
    with RawConnection(sync.port) as connection:
        hidden = ask("hidden")
        connection.send(request("GET", "/healthz", headers=[("Content-Length", str(len(hidden)))]))
        assert connection.answer("GET").status == 200
        connection.send(hidden)
        assert connection.read_to_end() == b""
    assert "hidden" not in sync.ledger.ids()
