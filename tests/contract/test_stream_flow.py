"""How streams travel: the first item with the head, small items merged for a slow client, events of many lines."""

import re
import socket
import time
from collections.abc import Iterator

import pytest

from tests.daemon import Daemon, in_background
from tests.ledger import PRELUDE
from tests.raw_http import RawConnection, request

SYNC = (
    PRELUDE
    + """
class PythonPredictor:
    def predict(self, payload, query_params):
        if "count" in query_params:
            yield from ("%09d," % number for number in range(int(query_params["count"])))
            return
        for item in payload:
            yield item
        wait_for_file("go")
"""
)

ASYNC = SYNC.replace("def predict", "async def predict").replace(
    'yield from ("%09d," % number for number in range(int(query_params["count"])))',
    'for number in range(int(query_params["count"])): yield "%09d," % number',
)


@pytest.fixture(scope="module", params=[SYNC, ASYNC], ids=["def", "async def"])
def daemon(request: pytest.FixtureRequest) -> Iterator[Daemon]:
    with Daemon(request.param, "--concurrency", "1") as daemon:
        yield daemon


JSON = ("Content-Type", "application/json")


def test_the_first_item_leaves_with_the_head(daemon: Daemon) -> None:
    with RawConnection(daemon.port) as connection:
        connection.send(request(headers=[JSON], body=b'["first"]'))
        came = connection.socket.recv(65536)
        daemon.open_gate("go")
        assert came.startswith(b"HTTP/1.1 200 ")
        assert came.endswith(b"\r\n\r\n5\r\nfirst\r\n")
        assert connection.socket.recv(65536) == b"0\r\n\r\n"


def test_small_items_are_merged_for_a_client_that_is_slower_than_the_predictor(daemon: Daemon) -> None:
    count = 30_000
    with socket.socket() as client:
        client.settimeout(30)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)  # the kernel holds little of it for the client
        client.connect(("127.0.0.1", daemon.port))
        client.sendall(request(target=f"/predict?count={count}", headers=[JSON], body=b"[]"))
        received = b""
        while not received.endswith(b"\r\n0\r\n\r\n"):
            received += client.recv(2048)
            time.sleep(0.004)
    chunks = re.findall(rb"\r\n([0-9a-f]+)\r\n((?:\d{9},)+)(?=\r\n)", received)
    assert all(int(size, 16) == len(items) for size, items in chunks)
    assert b"".join(items for _, items in chunks) == b"".join(b"%09d," % number for number in range(count))
    assert len(chunks) < count / 4


@pytest.mark.parametrize(
    ("item", "lines"),
    [
        (r"a\nb", ["a", "b"]),
        (r"a\r\nb", ["a", "b"]),
        (r"a\rb", ["a", "b"]),
        (r"a\n", ["a", ""]),
        (r"\n\r", ["", "", ""]),
        (r"a\u2028b\u000bc", ["a\u2028b\x0bc"]),
        ("data: a", ["data: a"]),
        ("", [""]),
    ],
)
def test_each_line_of_an_item_is_a_line_of_data(daemon: Daemon, item: str, lines: list[str]) -> None:
    daemon.open_gate("go")
    headers = [JSON, ("Accept", "text/event-stream")]
    with RawConnection(daemon.port) as connection:
        connection.send(request(headers=headers, body=f'["{item}", "next"]'.encode()))
        body = connection.answer().body
    assert body.decode() == "".join(f"data: {line}\n" for line in lines) + "\ndata: next\n\n"


NEVER_WAITS = """
import asyncio

class PythonPredictor:
    def __init__(self):
        self.begun = 0
        self.order = ""

    async def predict(self, payload):
        if payload == "order":
            yield self.order
            return
        self.begun += 1
        while self.begun < 2:
            await asyncio.sleep(0)
        for _ in range(200):
            self.order += payload
            yield payload
"""


def test_streams_that_never_wait_take_turns() -> None:
    with Daemon(NEVER_WAITS) as daemon:
        with in_background(lambda: daemon.predict("a"), lambda: daemon.predict("b")) as answers:
            pass
        assert [answer.text for answer in answers] == ["a" * 200, "b" * 200]
        order = daemon.predict("order").text
    assert order.count("ab") > 100
