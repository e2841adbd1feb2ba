"""Generators become streams: what kind, when the head goes out, and how they end.

The predictor plays a script: `["item", value]`, `["bytes", text]`, `["object", null]`,
`["wait", file]`, `["raise", text]`, `["refuse", text]`, `["forever", value]`.
"""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.daemon import Daemon, eventually
from tests.ledger import PRELUDE

PLAYER = (
    PRELUDE
    + """
import asyncio
from contextlib import aclosing, closing
from starlette.exceptions import HTTPException

PAUSE = object()

def steps(script):
    for verb, value in script:
        if verb == "item":
            yield value
        elif verb == "bytes":
            yield value.encode()
        elif verb == "object":
            yield object()
        elif verb == "wait":
            while not os.path.exists(value):
                yield PAUSE
        elif verb == "raise":
            raise KeyError(value)
        elif verb == "refuse":
            raise HTTPException(418, value)
        while verb == "forever":
            yield PAUSE
            yield value

def play(script):
    try:
        for step in steps(script):
            if step is PAUSE:
                time.sleep(0.01)
            else:
                yield step
    finally:
        record("closed")

async def play_async(script):
    try:
        for step in steps(script):
            if step is PAUSE:
                await asyncio.sleep(0.01)
            else:
                yield step
    finally:
        record("closed")

class PythonPredictor:
"""
)

METHODS = {
    "generator": """
    def predict(self, payload):
        with closing(play(payload)) as items:
            yield from items
""",
    "returned generator": """
    def predict(self, payload):
        return play(payload)
""",
    "async generator": """
    async def predict(self, payload):
        async with aclosing(play_async(payload)) as items:
            async for item in items:
                yield item
""",
    "returned async generator": """
    async def predict(self, payload):
        return play_async(payload)
""",
}


@pytest.fixture(scope="module", params=METHODS)
def module_daemon(request: pytest.FixtureRequest) -> Iterator[Daemon]:
    with Daemon(PLAYER + METHODS[request.param]) as daemon:
        yield daemon


@pytest.fixture
def daemon(module_daemon: Daemon) -> Daemon:
    eventually(lambda: module_daemon.status()["requests"]["in_flight"] == 0)
    module_daemon.ledger.clear()
    (module_daemon.folder / "go").unlink(missing_ok=True)
    return module_daemon


SSE = {"accept": "text/event-stream"}


def items(*values: Any) -> list[list[Any]]:
    return [["item", value] for value in values]


def events(text: str) -> list[dict[str, str]]:
    """The events of an SSE stream, lines of `data` joined as a browser joins them."""
    parsed: list[dict[str, str]] = []
    for block in text.split("\n\n"):
        event: dict[str, str] = {}
        for line in block.splitlines():
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            event[name] = f"{event[name]}\n{value}" if name in event else value
        if event:
            parsed.append(event)
    return parsed


def read_to_the_cut(daemon: Daemon, script: list[list[Any]], **arguments: Any) -> bytes:
    """What arrives before the connection is cut; fails if it ends properly."""
    received = b""
    with (
        pytest.raises(httpx.RemoteProtocolError),
        daemon.client.stream("POST", "/predict", json=script, **arguments) as response,
    ):
        assert response.status_code == 200
        for chunk in response.iter_raw():
            received += chunk
    return received


# --- kinds


@pytest.mark.parametrize(
    ("script", "content_type", "content"),
    [
        (items("a", "é", "c"), "text/plain", "aéc".encode()),
        ([["bytes", "a"], ["bytes", "b"]], "application/octet-stream", b"ab"),
        (items({"a": 1}, [2], None, 3.5), "application/x-ndjson", b'{"a":1}\n[2]\nnull\n3.5\n'),
    ],
    ids=["str", "bytes", "objects"],
)
def test_first_item_decides_the_kind(
    daemon: Daemon, script: list[list[Any]], content_type: str, content: bytes
) -> None:
    response = daemon.predict(script)
    assert (response.status_code, response.headers["content-type"].partition(";")[0]) == (200, content_type)
    assert response.headers["transfer-encoding"] == "chunked"
    received = response.content.replace(b": ", b":") if content_type == "application/x-ndjson" else response.content
    assert received == content


@pytest.mark.parametrize(
    "accept", ["text/event-stream", "application/json, text/event-stream;q=0.9", "Text/Event-Stream"]
)
def test_events_for_who_names_them(daemon: Daemon, accept: str) -> None:
    response = daemon.predict(items("a", "two\nlines", "  c"), headers={"accept": accept})
    assert response.headers["content-type"].partition(";")[0] == "text/event-stream"
    assert [event["data"] for event in events(response.text)] == ["a", "two\nlines", "  c"]


def test_events_of_objects_are_json(daemon: Daemon) -> None:
    response = daemon.predict(items({"text": "a\nb"}, [1]), headers=SSE)
    assert [json.loads(event["data"]) for event in events(response.text)] == [{"text": "a\nb"}, [1]]


@pytest.mark.parametrize("accept", ["*/*", "text/*", "text/plain", "text/event-streams"])
def test_no_events_for_who_does_not(daemon: Daemon, accept: str) -> None:
    response = daemon.predict(items("a"), headers={"accept": accept})
    assert (response.headers["content-type"].partition(";")[0], response.text) == ("text/plain", "a")


@pytest.mark.parametrize("headers", [{}, SSE])
def test_no_item_is_an_empty_200(daemon: Daemon, headers: dict[str, str]) -> None:
    response = daemon.predict([], headers=headers)
    assert (response.status_code, response.content) == (200, b"")


def test_items_leave_as_they_are_made(daemon: Daemon) -> None:
    script = [["item", "first"], ["wait", "go"], ["item", "second"]]
    with daemon.client.stream("POST", "/predict", json=script) as response:
        chunks = response.iter_text()
        assert next(chunks) == "first"
        daemon.open_gate("go")
        assert "".join(chunks) == "second"


# --- errors


@pytest.mark.parametrize("headers", [{}, SSE])
def test_error_before_the_first_item_is_a_plain_error(daemon: Daemon, headers: dict[str, str]) -> None:
    response = daemon.predict([["raise", "early"]], headers=headers)
    problem = response.json()
    assert (response.status_code, problem["code"], problem["detail"]) == (500, "predictor_error", "KeyError: 'early'")


def test_http_exception_before_the_first_item(daemon: Daemon) -> None:
    response = daemon.predict([["refuse", "I'm a teapot"]])
    assert (response.status_code, response.text) == (418, "I'm a teapot")


def test_first_item_that_nothing_carries_is_a_plain_error(daemon: Daemon) -> None:
    response = daemon.predict([["object", None]])
    assert (response.status_code, response.json()["code"]) == (500, "unserializable_prediction")


@pytest.mark.parametrize("fault", [["raise", "late"], ["refuse", "late"]])
def test_later_error_cuts_the_stream(daemon: Daemon, fault: list[str]) -> None:
    pids = daemon.worker_pids()
    assert read_to_the_cut(daemon, [*items("a", "b", "c"), fault]) == b"abc"
    assert daemon.predict(items("again")).text == "again"
    assert daemon.worker_pids() == pids


def test_later_item_that_nothing_carries_cuts_the_stream(daemon: Daemon) -> None:
    assert read_to_the_cut(daemon, [*items({"n": 1}), ["object", None]]).replace(b" ", b"") == b'{"n":1}\n'


def test_later_error_is_an_event_before_the_cut(daemon: Daemon) -> None:
    received = read_to_the_cut(daemon, [*items("a"), ["raise", "late"]], headers=SSE)
    first, last = events(received.decode())
    assert first["data"] == "a"
    assert last["event"] == "error"
    assert "KeyError: 'late'" in last["data"]


# --- ends


def test_generator_is_closed_when_the_client_leaves(daemon: Daemon) -> None:
    pids = daemon.worker_pids()
    with daemon.client.stream("POST", "/predict", json=[["forever", "tick "]]) as response:
        chunks = response.iter_raw()
        assert b"tick" in next(chunks) + next(chunks)
        assert daemon.ledger.lines() == []
    eventually(lambda: daemon.ledger.lines() == ["closed"], 3)  # 1 s, with three times slack
    assert daemon.predict(items("next")).text == "next"
    assert daemon.worker_pids() == pids


def test_generator_is_closed_once_at_its_end(daemon: Daemon) -> None:
    daemon.predict(items("a"))
    eventually(lambda: daemon.ledger.lines() == ["closed"])


# --- the other colour


@pytest.mark.parametrize(
    "method",
    [
        "    def predict(self, payload): return play_async(payload)",
        "    async def predict(self, payload): return play(payload)",
    ],
)
def test_async_generator_from_def_and_the_reverse(method: str) -> None:
    with Daemon(PLAYER + method) as daemon:
        assert daemon.predict(items("a", "b")).text == "ab"
        assert read_to_the_cut(daemon, [*items("a"), ["raise", "late"]]) == b"a"
