"""The queue's bounds: by count, by time and by bytes."""

import time
from collections.abc import Iterator
from statistics import median
from uuid import uuid4

import pytest

from tests.daemon import Daemon, eventually, in_background
from tests.faults.recovery import SLACK, wait_whole
from tests.ledger import PRELUDE
from tests.raw_http import Answer, RawConnection, exchange, request

SOURCE = (
    PRELUDE
    + """
class PythonPredictor:
    def predict(self, query_params, headers):
        record(headers["x-request-id"])
        wait_for_file(query_params["gate"])
"""
)

MAX_QUEUE = 6
MAX_BODY = 1 << 20
QUEUE_TIMEOUT_S = 0.8


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with Daemon(SOURCE, "--max-queue", str(MAX_QUEUE), "--max-body-size", str(MAX_BODY)) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def impatient() -> Iterator[Daemon]:
    flags = ("--queue-timeout", f"{QUEUE_TIMEOUT_S}s", "--max-body-size", str(MAX_BODY))
    with Daemon(SOURCE, *flags) as daemon:
        yield daemon


def ask(gate: str, request_id: str = "x", body: bytes = b"") -> bytes:
    return request(target=f"/predict?gate={gate}", headers=[("X-Request-Id", request_id)], body=body)


def wait_for_depth(daemon: Daemon, depth: int) -> None:
    eventually(lambda: daemon.status()["queue"]["depth"] == depth)


def occupy(daemon: Daemon, gate: str) -> RawConnection:
    """Give the only worker something to do until the gate opens."""
    holder = uuid4().hex
    connection = RawConnection(daemon.port)
    connection.send(ask(gate, holder))
    eventually(lambda: holder in daemon.ledger.ids())
    return connection


def assert_refused(answer: Answer, code: str) -> None:
    assert (answer.status, answer.header("retry-after")) == (503, "1")
    assert f'"code":"{code}"'.encode() in answer.body


# --- Q1


def test_a_burst_fills_the_queue_and_the_rest_is_told_at_once(daemon: Daemon) -> None:
    gate = uuid4().hex
    queued = [uuid4().hex for _ in range(MAX_QUEUE)]
    refused = [uuid4().hex for _ in range(10 * MAX_QUEUE)]
    with occupy(daemon, gate) as holder:
        with in_background(*(lambda id=id: exchange(daemon.port, ask(gate, id)) for id in queued)) as answers:
            wait_for_depth(daemon, MAX_QUEUE)
            took = []
            for id in refused:
                started = time.monotonic()
                assert_refused(exchange(daemon.port, ask(gate, id)), "queue_full")
                took.append(time.monotonic() - started)
            assert daemon.status()["queue"] == {"depth": MAX_QUEUE, "limit": MAX_QUEUE}
            daemon.open_gate(gate)
        assert holder.answer().status == 200
    assert median(took) < 0.05 * SLACK
    assert [answer.status for answer in answers] == [200] * MAX_QUEUE
    executed = daemon.ledger.ids()
    assert [executed[id] for id in queued] == [1] * MAX_QUEUE
    assert not executed.keys() & set(refused)


def test_the_queue_is_first_in_first_out(daemon: Daemon) -> None:
    gate = uuid4().hex
    ids = [uuid4().hex for _ in range(MAX_QUEUE)]
    with occupy(daemon, gate):
        connections = []
        for number, id in enumerate(ids):
            connections.append(RawConnection(daemon.port))
            connections[-1].send(ask(gate, id))
            wait_for_depth(daemon, number + 1)
        daemon.open_gate(gate)
        for connection in connections:
            with connection:
                assert connection.answer().status == 200
    assert daemon.ledger.lines()[-MAX_QUEUE:] == ids


# --- Q2


def test_who_waits_too_long_is_told_so_on_time(impatient: Daemon) -> None:
    gate, late = uuid4().hex, uuid4().hex
    with occupy(impatient, gate) as holder:
        for _ in range(2):
            # Twice what all bodies may hold together: the first ones' memory must have been given back.
            started = time.monotonic()
            calls = [lambda: exchange(impatient.port, ask(gate, late, bytes(MAX_BODY)))] * 4
            with in_background(*calls) as answers:
                pass
            assert QUEUE_TIMEOUT_S <= time.monotonic() - started <= QUEUE_TIMEOUT_S + 0.5 * SLACK
            for answer in answers:
                assert_refused(answer, "queue_timeout")
        impatient.open_gate(gate)
        assert holder.answer().status == 200
    wait_whole(impatient)
    assert late not in impatient.ledger.ids()


# --- Q3


def fill_with_bodies(daemon: Daemon, gate: str) -> list[RawConnection]:
    """As many waiting bodies as fit, which is four; the worker holds an empty one."""
    crowd = []
    for depth in range(1, 5):
        crowd.append(RawConnection(daemon.port))
        crowd[-1].send(ask(gate, body=bytes(MAX_BODY)))
        wait_for_depth(daemon, depth)
    return crowd


@pytest.mark.parametrize("end", ["answered", "left"])
def test_waiting_bodies_are_bounded_by_their_bytes(daemon: Daemon, end: str) -> None:
    for _ in range(2):
        gate, refused = uuid4().hex, uuid4().hex
        with occupy(daemon, gate) as holder:
            crowd = fill_with_bodies(daemon, gate)
            assert_refused(exchange(daemon.port, ask(gate, refused, bytes(MAX_BODY))), "queue_full")
            assert_refused(exchange(daemon.port, ask(gate, refused, b"x")), "queue_full")
            daemon.wait_for_line("prediction failed: the bodies of waiting requests fill the memory")
            if end == "left":
                for connection in crowd:
                    connection.socket.close()
                wait_for_depth(daemon, 0)
            daemon.open_gate(gate)
            assert holder.answer().status == 200
            for connection in crowd if end == "answered" else []:
                with connection:
                    assert connection.answer().status == 200
        wait_whole(daemon)
        assert refused not in daemon.ledger.ids()


def test_a_body_that_never_becomes_whole_gives_its_bytes_back(daemon: Daemon) -> None:
    gate = uuid4().hex
    for _ in range(8):
        with RawConnection(daemon.port) as connection:
            connection.send(ask(gate, body=bytes(MAX_BODY))[:-1])
    with occupy(daemon, gate):
        for connection in fill_with_bodies(daemon, gate):
            connection.socket.close()
        daemon.open_gate(gate)
    wait_whole(daemon)
