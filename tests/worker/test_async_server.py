"""What an async predictor's tasks may do, and clients that leave, without harm to whoever comes next."""

import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.daemon import Daemon, eventually, in_background
from tests.ledger import PRELUDE
from tests.raw_http import RawConnection, request

SOURCE = (
    PRELUDE
    + """
import asyncio

from starlette.background import BackgroundTask
from starlette.responses import StreamingResponse

class PythonPredictor:
    async def predict(self, payload):
        return await getattr(self, payload)()

    async def ok(self):
        return "ok"

    async def refuse_to_end(self):
        record("started")
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            record("cancelled")
        return "too late"

    async def await_cancelled(self):
        task = asyncio.ensure_future(asyncio.sleep(30))
        task.cancel()
        await task

    async def cancel_itself(self):
        asyncio.current_task().cancel()
        await asyncio.sleep(30)

    async def stream_with_background(self):
        async def pieces():
            for _ in range(2):
                yield bytes(65536)

        return StreamingResponse(pieces(), background=BackgroundTask(self.after))

    async def after(self):
        record("begun")
        while not os.path.exists("go"):
            await asyncio.sleep(0.01)
        record("ended")
"""
)
JSON = ("Content-Type", "application/json")


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with Daemon(SOURCE, "--concurrency", "1") as daemon:
        yield daemon


@pytest.fixture(autouse=True)
def _new_ledger(daemon: Daemon) -> None:
    daemon.ledger.clear()


def test_cancellation_that_was_swallowed_does_not_outlive_its_request(daemon: Daemon) -> None:
    pids = daemon.worker_pids()
    with RawConnection(daemon.port) as leaving:
        leaving.send(request(headers=[JSON], body=b'"refuse_to_end"'))
        eventually(lambda: daemon.ledger.lines() == ["started"])
    eventually(lambda: daemon.ledger.lines() == ["started", "cancelled"])
    answer = daemon.predict("await_cancelled")
    assert (answer.status_code, answer.json()["code"]) == (500, "predictor_error")
    assert daemon.predict("ok").text == "ok"
    assert daemon.worker_pids() == pids


def test_background_task_outlives_a_client_that_left_before_the_end_was_read(daemon: Daemon) -> None:
    pids = daemon.worker_pids()
    with socket.socket() as client:
        client.settimeout(30)
        client.setsockopt(
            socket.SOL_SOCKET, socket.SO_RCVBUF, 4096
        )  # what it does not read waits in the worker's socket
        client.connect(("127.0.0.1", daemon.port))
        client.sendall(request(headers=[JSON], body=b'"stream_with_background"'))
        eventually(lambda: daemon.ledger.lines() == ["begun"])
        assert daemon.status()["requests"]["in_flight"] == 1
    eventually(lambda: daemon.status()["requests"]["in_flight"] == 0)
    daemon.open_gate("go")
    eventually(lambda: daemon.ledger.lines() == ["begun", "ended"])
    assert daemon.predict("ok").text == "ok"
    assert daemon.worker_pids() == pids


def test_request_whose_task_ends_itself_is_told_at_once() -> None:
    with Daemon(SOURCE, "--concurrency", "2", "--request-timeout", "60") as daemon:
        assert daemon.predict("cancel_itself").json()["code"] == "worker_died"
        assert daemon.predict("ok").text == "ok"


def test_heads_that_never_come_again_do_not_fill_the_memory() -> None:
    def ask(port: int, client: int) -> None:
        with RawConnection(port) as connection:
            for number in range(150):
                own = ("X-Request-Id", f"{client}-{number}")
                connection.send(request(headers=[JSON, own, ("Cookie", 1000 * "a")], body=b'"ok"'))
                assert connection.answer().status == 200

    with Daemon(SOURCE, "--concurrency", "64") as daemon:
        (pid,) = daemon.worker_pids()
        before = resident_bytes(pid)
        with in_background(*(partial(ask, daemon.port, client) for client in range(64))):
            pass
        assert resident_bytes(pid) - before < 12 << 20


def resident_bytes(pid: int) -> int:
    """What of a process is in memory."""
    return 4096 * int(Path(f"/proc/{pid}/statm").read_text().split()[1])
