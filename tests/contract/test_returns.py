"""What `predict` may return, and the answer that it becomes.

The predictor evaluates the request's text, so that each row is the expression it returns.
"""

import importlib.util
import json
from collections.abc import Iterator
from typing import Any

import h11
import httpx
import pytest

from tests.daemon import Daemon, eventually
from tests.ledger import PRELUDE
from tests.raw_http import RawConnection, request

SOURCE = (
    PRELUDE
    + """
import datetime, enum, math, pathlib, uuid
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel
from starlette.background import BackgroundTask
from starlette.responses import (
    FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse,
)

class Colour(enum.Enum):
    RED = "red"

class Level(enum.IntEnum):
    HIGH = 3

@dataclass
class Point:
    x: int
    tags: set

class Model(BaseModel):
    when: datetime.date
    path: pathlib.Path = pathlib.Path("/a/b")

class Thing:
    pass

class OurResponse(Response):
    media_type = "application/x-ours"

def cookies():
    response = Response("two")
    response.set_cookie("a", "1")
    response.set_cookie("b", "2")
    return response

def circle():
    loop = []
    loop.append(loop)
    return loop

def well(depth):
    bottom = []
    for _ in range(depth):
        bottom = [bottom]
    return bottom

async def drops():
    for drop in ("a", "b", "c"):
        yield drop

class PythonPredictor:
    def predict(self, payload):
        return eval(payload)
"""
)


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with Daemon(SOURCE) as daemon:
        yield daemon


def returned(daemon: Daemon, expression: str, **arguments: Any) -> httpx.Response:
    """The answer when `predict` returns the value of the expression."""
    headers = {"content-type": "text/plain"} | arguments.pop("headers", {})
    return daemon.predict(content=expression, headers=headers, **arguments)


def assert_unserializable(response: httpx.Response, *words: str) -> None:
    problem = response.json()
    assert (response.status_code, problem["code"]) == (500, "unserializable_prediction"), response.text
    for word in words:
        assert word in problem["detail"]


# --- text and bytes


@pytest.mark.parametrize("expression", ["'h\\u00e9llo'", "''"])
def test_str_is_plain_text(daemon: Daemon, expression: str) -> None:
    response = returned(daemon, expression)
    assert (response.status_code, response.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    assert response.content.decode() == eval(expression)


@pytest.mark.parametrize(
    ("expression", "content"),
    [
        ("b'\\x00\\xff'", b"\x00\xff"),
        ("b''", b""),
        ("bytearray(b'abc')", b"abc"),
        ("memoryview(b'abc')", b"abc"),
        ("memoryview(b'abcdef')[::2]", b"ace"),
        ("memoryview(np.arange(2, dtype='<u2'))", b"\x00\x00\x01\x00"),
    ],
)
def test_bytes_are_an_octet_stream(daemon: Daemon, expression: str, content: bytes) -> None:
    response = returned(daemon, expression)
    assert (response.status_code, response.headers["content-type"]) == (200, "application/octet-stream")
    assert response.content == content


# --- JSON


@pytest.mark.parametrize(
    ("expression", "document"),
    [
        ("None", None),
        ("True", True),
        ("3", 3),
        ("2.5", 2.5),
        ("[1, 'a', None, {'b': [True]}]", [1, "a", None, {"b": [True]}]),
        ("(1, (2,))", [1, [2]]),
        ("{}", {}),
        ("2**70", 2**70),
        (
            "{'big': [-2**200], 'array': np.arange(2), 'nan': math.nan}",
            {"big": [-(2**200)], "array": [0, 1], "nan": None},
        ),
        ("[math.nan, math.inf, -math.inf]", [None, None, None]),
        ("math.nan", None),
        ("np.arange(6).reshape(2, 3)", [[0, 1, 2], [3, 4, 5]]),
        ("np.arange(6).reshape(2, 3).T", [[0, 3], [1, 4], [2, 5]]),
        ("{'a': np.array([1.5, np.nan], dtype=np.float32)}", {"a": [1.5, None]}),
        ("np.array([1.5], dtype=np.float16)", [1.5]),
        ("np.array([1, 2], dtype='>i4')", [1, 2]),
        ("np.array([True, False])", [True, False]),
        ("np.array(['a', 'bc'])", ["a", "bc"]),
        ("np.array(3)", 3),
        ("np.zeros((2, 0))", [[], []]),
        ("[np.float32(1.5), np.float64(2.5), np.float16(0.5)]", [1.5, 2.5, 0.5]),
        ("[np.int64(-1), np.uint8(200), np.bool_(True)]", [-1, 200, True]),
        ("np.float32('nan')", None),
        ("np.int64(7)", 7),
        ("Point(1, {2})", {"x": 1, "tags": [2]}),
        ("Model(when='2024-02-29')", {"when": "2024-02-29", "path": "/a/b"}),
        ("[Model(when='2024-02-29')]", [{"when": "2024-02-29", "path": "/a/b"}]),
        ("datetime.datetime(2024, 1, 2, 3, 4, 5)", "2024-01-02T03:04:05"),
        ("[datetime.date(2024, 1, 2), datetime.time(3, 4)]", ["2024-01-02", "03:04:00"]),
        ("uuid.UUID(int=1)", "00000000-0000-0000-0000-000000000001"),
        ("[Colour.RED, Level.HIGH]", ["red", 3]),
        ("{'p': pathlib.Path('/tmp/x')}", {"p": "/tmp/x"}),
        ("{5}", [5]),
        ("{'s': frozenset({'a'})}", {"s": ["a"]}),
        ("{1: 'a', 1.5: 'b', True: 'c', None: 'd'}", {"1": "c", "1.5": "b", "null": "d"}),
        ("{False: 0}", {"false": 0}),
        ("{np.int64(3): 'i', np.float32(1.5): 'f', np.str_('s'): 's'}", {"3": "i", "1.5": "f", "s": "s"}),
        ("{2**70: 1}", {str(2**70): 1}),
    ],
)
def test_what_json_can_carry(daemon: Daemon, expression: str, document: Any) -> None:
    response = returned(daemon, expression)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.json() == document


def test_sets_are_lists(daemon: Daemon) -> None:
    assert sorted(returned(daemon, "{1, 2, 3}").json()) == [1, 2, 3]


def test_aware_datetime_keeps_its_zone(daemon: Daemon) -> None:
    text = returned(daemon, "datetime.datetime(2024, 1, 2, tzinfo=datetime.timezone.utc)").json()
    assert text in ("2024-01-02T00:00:00+00:00", "2024-01-02T00:00:00Z")


def test_integers_of_any_size(daemon: Daemon) -> None:
    assert returned(daemon, "[10**5000]").text == "[1" + "0" * 5000 + "]"


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_torch_tensors() -> None:
    source = "import torch\nclass Predictor:\n    def predict(self, payload): return eval(payload)"
    with Daemon(source, ready_within_s=90) as daemon:
        expression = (
            "{'m': torch.arange(4).reshape(2, 2).t(), 'grad': torch.ones(1, requires_grad=True),"
            " 'scalar': torch.tensor(2.5), 'nan': torch.tensor([float('nan')]),"
            " 'half': torch.ones(1, dtype=torch.bfloat16), 'keyed': {1: torch.ones(1)}}"
        )
        assert returned(daemon, expression).json() == {
            "m": [[0, 2], [1, 3]],
            "grad": [1.0],
            "scalar": 2.5,
            "nan": [None],
            "half": [1.0],
            "keyed": {"1": [1.0]},
        }
        assert returned(daemon, "torch.ones(2)").json() == [1.0, 1.0]


# --- something else


@pytest.mark.parametrize(
    ("expression", "path", "kind"),
    [
        ("{'scores': [0, 1, 2, Thing()]}", "$.scores[3]", "Thing"),
        ("Thing()", "$", "Thing"),
        ("{'data': b'abc'}", "$.data", "bytes"),
        ("[{'a': {'b': (1, 1j)}}]", "$[0].a.b[1]", "complex"),
        ("[1, (x for x in 'ab')]", "$[1]", "generator"),
        ("iter([1, 2])", "$", "iterator"),
        ("map(str, [1])", "$", "map"),
        ("zip([1])", "$", "zip"),
        ("range(3)", "$", "range"),
        ("[np.array([1j])]", "$[0]", ""),
        ("Point(Thing(), set())", "$.x", "Thing"),
        ("{'text': ['\\ud800']}", "$.text[0]", ""),
        ("[Thing]", "$[0]", "type"),
    ],
)
def test_something_else_is_refused_with_its_path(daemon: Daemon, expression: str, path: str, kind: str) -> None:
    assert_unserializable(returned(daemon, expression), path, kind)


@pytest.mark.parametrize("expression", ["'\\ud800'", "{(1, 2): 3}", "{'\\ud800': 1}", "{Thing(): 1}", "{b'a': 1}"])
def test_bad_text_and_keys_are_refused(daemon: Daemon, expression: str) -> None:
    assert_unserializable(returned(daemon, expression), "$")


@pytest.mark.parametrize("expression", ["circle()", "{'a': circle()}", "well(1_000_000)"])
def test_endless_and_bottomless_values_are_refused(daemon: Daemon, expression: str) -> None:
    pids = daemon.worker_pids()
    assert_unserializable(returned(daemon, expression), "$")
    assert daemon.worker_pids() == pids


# --- starlette responses


def test_response_is_as_it_is(daemon: Daemon) -> None:
    response = returned(daemon, "JSONResponse({'a': 1}, 201, headers={'x-mine': 'yes'})")
    assert (response.status_code, response.json(), response.headers["x-mine"]) == (201, {"a": 1}, "yes")


def test_response_subclass_of_their_own(daemon: Daemon) -> None:
    response = returned(daemon, "OurResponse(b'ours')")
    assert (response.content, response.headers["content-type"]) == (b"ours", "application/x-ours")


def test_html_response(daemon: Daemon) -> None:
    assert returned(daemon, "HTMLResponse('<b>')").headers["content-type"] == "text/html; charset=utf-8"


def test_redirect(daemon: Daemon) -> None:
    response = returned(daemon, "RedirectResponse('/elsewhere')")
    assert (response.status_code, response.headers["location"]) == (307, "/elsewhere")


def test_response_without_a_body(daemon: Daemon) -> None:
    response = returned(daemon, "Response(status_code=204)")
    assert (response.status_code, response.content) == (204, b"")


def test_repeated_headers_stay_apart(daemon: Daemon) -> None:
    cookies = returned(daemon, "cookies()").headers.get_list("set-cookie")
    assert [cookie.partition(";")[0] for cookie in cookies] == ["a=1", "b=2"]


def test_streaming_response(daemon: Daemon) -> None:
    response = returned(daemon, "StreamingResponse(drops(), 202, media_type='text/x-drops')")
    assert (response.status_code, response.text) == (202, "abc")
    assert response.headers["content-type"].startswith("text/x-drops")


def test_streaming_response_of_a_sync_generator(daemon: Daemon) -> None:
    assert returned(daemon, "StreamingResponse(str(n) for n in range(3))").text == "012"


def test_file_response(daemon: Daemon) -> None:
    (daemon.folder / "page.txt").write_text("0123456789")
    response = returned(daemon, "FileResponse('page.txt')")
    assert (response.status_code, response.text, response.headers["content-length"]) == (200, "0123456789", "10")


def test_connection_lives_on_after_a_file(daemon: Daemon) -> None:
    """A client that has the whole length may ask again before the worker has said that it is done."""
    (daemon.folder / "page.txt").write_text("0123456789")
    text = [("Content-Type", "text/plain")]
    with RawConnection(daemon.port) as connection:
        for _ in range(150):
            connection.send(request(headers=text, body=b"FileResponse('page.txt')"))
            assert connection.answer().body == b"0123456789"


def test_background_task_runs_after_the_answer(daemon: Daemon) -> None:
    daemon.ledger.clear()
    expression = "Response('ok', background=BackgroundTask(lambda: (wait_for_file('go'), record('background'))))"
    assert returned(daemon, expression).text == "ok"
    assert daemon.ledger.lines() == []
    daemon.open_gate("go")
    eventually(lambda: daemon.ledger.lines() == ["background"])


# --- responses that would break HTTP


@pytest.mark.parametrize(
    "expression",
    [
        "Response('x', headers={'x-mine': 'a\\r\\nx-injected: 1'})",
        "Response('x', headers={'x-mine\\r\\nx-injected': '1'})",
        "Response('x', headers={'x-mine': 'a\\x00b'})",
        "Response('x', status_code=99)",
        "Response('x', status_code=1000)",
    ],
)
def test_response_that_breaks_http_is_refused(daemon: Daemon, expression: str) -> None:
    pids = daemon.worker_pids()
    response = returned(daemon, expression)
    assert (response.status_code, response.headers["content-type"]) == (500, "application/problem+json")
    assert "x-injected" not in response.headers
    assert daemon.worker_pids() == pids


@pytest.mark.parametrize("length", [0, 3, 100])
def test_content_length_that_lies_poisons_nobody(daemon: Daemon, length: int) -> None:
    lie = f"Response('0123456789', headers={{'content-length': '{length}'}})".encode()
    ask = [request(headers=[("Content-Type", "text/plain")], body=body) for body in (lie, b"'next'")]
    with RawConnection(daemon.port, timeout_s=10) as connection:
        connection.send(ask[0])
        try:
            first = connection.answer()
        except h11.RemoteProtocolError:
            return  # cut: the client knows that it has no whole answer
        assert first.status == 500 or first.body == b"0123456789"
        connection.send(ask[1])
        assert connection.answer().body == b"next"


def test_json_is_what_a_strict_parser_takes(daemon: Daemon) -> None:
    text = returned(daemon, "{'a': [math.nan, np.float64('inf')], 'b': 2**70}").text

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    json.loads(text, parse_constant=refuse)
