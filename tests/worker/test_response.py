"""What `predict` returns, and the answers that it becomes."""

import collections
import dataclasses
import datetime
import decimal
import enum
import json
import math
import pathlib
import subprocess
import sys
import uuid
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.types import Receive, Scope, Send

from predictord.problem import Code
from predictord.worker import json_tree
from predictord.worker.json_tree import UnserializablePrediction, dumps
from predictord.worker.response import encode, encode_http_exception, is_streaming_response, render_headers

JSON_BLOCK = b"content-type: application/json\r\n"
Point = collections.namedtuple("Point", "x y")


class Color(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@dataclasses.dataclass
class Box:
    content: Any
    _private: int = 0


class Model(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    content: Any = None
    secret: str = Field(default="hidden", exclude=True)


class Custom(Response):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...


def refused(value: Any) -> str:
    with pytest.raises(UnserializablePrediction) as caught:
        encode(value)
    assert caught.value.problem.code is Code.UNSERIALIZABLE_PREDICTION
    assert json.loads(caught.value.problem.body("id"))["detail"] == str(caught.value)
    return str(caught.value)


def nested(depth: int, core: Any = 1) -> Any:
    for _ in range(depth):
        core = [core]
    return core


@pytest.mark.parametrize(
    ("value", "content_type", "body"),
    [
        ("é", b"text/plain; charset=utf-8", "é".encode()),
        ("", b"text/plain; charset=utf-8", b""),
        (b"\x00", b"application/octet-stream", b"\x00"),
        (bytearray(b"ab"), b"application/octet-stream", b"ab"),
        (memoryview(b"abcd")[::2], b"application/octet-stream", b"ac"),
        (np.array([1, 2], "<i2").data, b"application/octet-stream", b"\x01\x00\x02\x00"),
        (np.zeros((0, 2)).data, b"application/octet-stream", b""),
        (None, b"application/json", b"null"),
        ({"a": [1, 2.5, True]}, b"application/json", b'{"a":[1,2.5,true]}'),
    ],
)
def test_kind_decides_the_content_type(value: Any, content_type: bytes, body: bytes) -> None:
    encoded = encode(value)
    assert (encoded.status, encoded.header_block) == (200, b"content-type: %b\r\n" % content_type)
    assert bytes(encoded.body) == body
    assert len(encoded.body) == len(body)


@pytest.mark.parametrize(
    ("value", "document"),
    [
        ([math.nan, math.inf, -math.inf], [None, None, None]),
        ([2**64, -(2**70), 2**63], [2**64, -(2**70), 2**63]),
        ({"deep": {"er": [2**70, "x"]}, "b": 1}, {"deep": {"er": [2**70, "x"]}, "b": 1}),
        ([{1, 2} - {2}, frozenset({3})], [[1], [3]]),
        ([(1, 2), Point(1, {2})], [[1, 2], [1, [2]]]),
        ([Color.RED, Level.HIGH], ["red", 3]),
        (Box({"a": Box(2**70)}), {"content": {"a": {"content": 2**70}}}),
        (Model(content={1, 2} - {1}), {"content": [2]}),
        (Model(content=np.arange(3)), {"content": [0, 1, 2]}),
        (Model(content=2**70), {"content": 2**70}),
        ([datetime.date(2026, 1, 2), datetime.datetime(2026, 1, 2, 3)], ["2026-01-02", "2026-01-02T03:00:00"]),
        (datetime.time(3, tzinfo=datetime.UTC), "03:00:00+00:00"),
        ([uuid.UUID(int=1), pathlib.PurePath("a/b")], ["00000000-0000-0000-0000-000000000001", "a/b"]),
        ([], []),
        ({}, {}),
        ([[], {}, 2**70], [[], {}, 2**70]),
    ],
)
def test_json(value: Any, document: Any) -> None:
    encoded = encode(value)
    assert encoded.header_block == JSON_BLOCK
    assert json.loads(bytes(encoded.body)) == document


def test_integers_beyond_what_python_prints() -> None:
    number = -(10**20_000) - 7
    assert encode([number]).body == b"[-1%b7]" % (b"0" * 19_999)


@pytest.mark.parametrize(
    "keys",
    [
        [1, 2**70, -1],
        [True, False, None],
        [1.5, 1e-7, 1e16, -0.0, math.nan, math.inf, -math.inf],
        [Level.HIGH],
        ["a b", "é", '"'],
    ],
)
def test_keys_are_those_of_json_dumps(keys: list[Any]) -> None:
    value = dict.fromkeys(keys, 0)
    assert list(json.loads(bytes(encode(value).body))) == list(json.loads(json.dumps(value)))


def test_numpy_and_enum_keys() -> None:
    value = {np.int64(1): 0, np.float32(0.5): 0, np.bool_(False): 0, np.str_("x"): 0, Color.RED: 0}
    assert encode(value).body == b'{"1":0,"0.5":0,"false":0,"x":0,"red":0}'


@pytest.mark.parametrize(
    ("value", "document"),
    [
        (np.arange(4).reshape(2, 2), [[0, 1], [2, 3]]),
        (np.arange(4).reshape(2, 2).T, [[0, 2], [1, 3]]),
        (np.arange(6)[::2], [0, 2, 4]),
        (np.array([1, 2], ">i4"), [1, 2]),
        (np.array([1.5, math.nan, math.inf]), [1.5, None, None]),
        (np.array([1.5, math.nan], ">f8"), [1.5, None]),
        (np.array([1.5], np.float16), [1.5]),
        (np.array([1.5], np.longdouble), [1.5]),
        (np.array([True, False])[::-1], [False, True]),
        (np.array(3), 3),
        (np.array([]), []),
        (np.array(["a", "é"]), ["a", "é"]),
        (np.array([1, "a", None], object), [1, "a", None]),
        (np.array([(1, 2.5)], [("a", "i4"), ("b", "f4")]), [[1, 2.5]]),
        (np.ma.MaskedArray([1, 2], mask=[False, True]), [1, None]),
        (np.array(["2026-01-02"], "M8[D]")[::-1], ["2026-01-02T00:00:00"]),
        ([np.float32(1.5), np.int8(1), np.bool_(True), np.longdouble(1.5)], [1.5, 1, True, 1.5]),
        ([np.float64(math.nan), np.float32(math.inf)], [None, None]),
        ([np.str_("x"), np.datetime64("NaT"), np.datetime64("2026-01-02")], ["x", None, "2026-01-02T00:00:00"]),
        ({"a": np.arange(2), "b": 2**70}, {"a": [0, 1], "b": 2**70}),
    ],
)
def test_numpy(value: Any, document: Any) -> None:
    assert json.loads(bytes(encode(value).body)) == document


def test_torch() -> None:
    torch: Any = pytest.importorskip("torch")
    values = {
        "grad": (torch.tensor([1.5], requires_grad=True), [1.5]),
        "bfloat16": (torch.tensor([1.5], dtype=torch.bfloat16), [1.5]),
        "scalar": (torch.tensor(2), 2),
        "transposed": (torch.arange(4).reshape(2, 2).T, [[0, 2], [1, 3]]),
        "sparse": (torch.eye(2).to_sparse(), [[1, 0], [0, 1]]),
        "nan": (torch.tensor([math.nan]), [None]),
        "conjugate": (torch.conj(torch.tensor([1j])).imag, [-1]),
    }
    encoded = encode({name: tensor for name, (tensor, _) in values.items()})
    assert json.loads(bytes(encoded.body)) == {name: document for name, (_, document) in values.items()}


@pytest.mark.parametrize(
    ("value", "path", "kind"),
    [
        ({"scores": [1, 2, 3, decimal.Decimal(1)]}, "$.scores[3] ", "decimal.Decimal"),
        (object(), "$ ", "object"),
        (int, "$ ", "type"),
        (Box, "$ ", "type"),
        ({"a b": [object()]}, "$['a b'][0] ", "object"),
        ([b"x"], "$[0] ", "bytes"),
        ({"x": {"y": bytearray()}}, "$.x.y ", "bytearray"),
        (map(str, []), "$ ", "map"),
        ([iter([])], "$[0] ", "list_iterator"),
        ((each for each in "ab"), "$ ", "generator"),
        ([datetime.timedelta(1)], "$[0] ", "datetime.timedelta"),
        (range(3), "$ ", "range"),
        (np.array([1j]), "$[0] ", "complex"),
        (np.clongdouble(1), "$ ", "numpy.clongdouble"),
        (np.array([b"x"]), "$[0] ", "bytes"),
        ({"a": {(1,): 2}}, "$.a ", "key of type tuple"),
        ({b"a": 2}, "$ ", "key of type bytes"),
        ([1, {"s": "\ud800"}], "$[1].s ", "lone surrogate"),
        ({"x": [{"ok": 1, "\ud800": 1}]}, "$.x[0] ", "key with a lone surrogate"),
        (Box([object()]), "$.content[0] ", "object"),
        ([Model(content={"a": object()})], "$[0].content.a ", "object"),
        (Model(content=b"\xff"), "$.content ", "bytes"),
        (nested(1_000_000), "$[0][0]", "nested deeper than 1,000"),
        ("\ud800", "$ ", "lone surrogate"),
    ],
    ids=lambda value: "" if isinstance(value, list) else None,
)
def test_what_json_cannot_carry_is_refused_with_its_path(value: Any, path: str, kind: str) -> None:
    detail = refused(value)
    assert path in detail
    assert kind in detail
    assert len(detail) < 300


def test_circles_are_refused_with_their_path() -> None:
    ring: list[Any] = [1]
    ring.append({"again": ring})
    assert "$[1].again holds itself" in refused(ring)
    box = Box(None)
    box.content = [box]
    assert "$.content[0] holds itself" in refused(box)
    model = Model()
    model.content = [model]
    assert "holds itself" in refused(model)


def test_shared_values_are_no_circle() -> None:
    shared = [2**70]
    assert encode([shared, shared]).body == b"[[%d],[%d]]" % (2**70, 2**70)


@pytest.mark.parametrize("depth", [253, 254, 255, 600, 1000])
def test_deep_answers(depth: int) -> None:
    assert encode(nested(depth)).body == b"[" * depth + b"1" + b"]" * depth


def test_a_foreign_conversion_raises_its_own_error() -> None:
    class Broken(BaseModel):
        def model_dump(self, **_: Any) -> dict[str, Any]:
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        encode([Broken()])


@pytest.mark.parametrize(
    "wrap", [lambda text: text, lambda text: {"image": text}, lambda text: {"results": [{"image": text}]}]
)
def test_huge_text_is_refused_before_orjson_sees_it(wrap: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_tree, "MAX_TEXT_BYTES", 1000)
    with pytest.raises(UnserializablePrediction, match="too much for one JSON document"):
        dumps(wrap("x" * 1001))
    assert dumps(wrap("x" * 1000))


def test_huge_array_is_refused_before_orjson_sees_it() -> None:
    assert "too much" in refused({"zeros": np.broadcast_to(np.float32(0), (1 << 20, 1 << 12))})


def test_huge_bodies_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("predictord.worker.response.MAX_BODY_BYTES", 10)
    for value in ("x" * 11, b"x" * 11, ["x" * 11], Response(b"x" * 11)):
        assert "at most 10" in refused(value)


# --- starlette's responses


@pytest.mark.parametrize(
    ("response", "status", "block", "body"),
    [
        (PlainTextResponse("é", 201), 201, b"content-type: text/plain; charset=utf-8\r\n", "é".encode()),
        (HTMLResponse("x"), 200, b"content-type: text/html; charset=utf-8\r\n", b"x"),
        (JSONResponse({"a": 1}, headers={"X-A": "b"}), 200, b"x-a: b\r\n" + JSON_BLOCK, b'{"a":1}'),
        (RedirectResponse("/x"), 307, b"location: /x\r\n", b""),
        (Response(status_code=204), 204, b"", b""),
        (Response(b"ignored", 304, {"etag": "x"}), 304, b"etag: x\r\n", b""),
        (Response(memoryview(b"x")), 200, b"", b"x"),
        (Response(b"xy", headers={"content-length": "9", "Transfer-Encoding": "chunked"}), 200, b"", b"xy"),
        (Response(headers={"connection": "close", "proxy-authenticate": "x", "keep-alive": "1"}), 200, b"", b""),
    ],
)
def test_response(response: Response, status: int, block: bytes, body: bytes) -> None:
    assert not is_streaming_response(response)
    encoded = encode(response)
    assert (encoded.status, encoded.header_block, bytes(encoded.body)) == (status, block, body)


@pytest.mark.parametrize("status", [99, 100, 101, 199, 600, 1000, "200", None])
def test_response_status_out_of_range_is_refused(status: Any) -> None:
    response = Response()
    response.status_code = status
    assert repr(status) in refused(response)


def test_response_with_a_body_that_is_not_bytes_is_refused() -> None:
    response = Response()
    response.body = "text"  # type: ignore[assignment]
    assert "str" in refused(response)


@pytest.mark.parametrize(
    ("value", "streaming"),
    [
        (StreamingResponse(iter([b"x"])), True),
        (FileResponse("/nowhere"), True),
        (Custom(), True),
        (Response(), False),
        (JSONResponse(1), False),
        ({}, False),
        (None, False),
    ],
)
def test_is_streaming_response(value: Any, streaming: bool) -> None:
    assert is_streaming_response(value) is streaming


def test_set_cookie_twice_stays_two_headers() -> None:
    response = Response()
    response.set_cookie("a", "1")
    response.set_cookie("b", "2")
    assert encode(response).header_block.count(b"set-cookie: ") == 2


@pytest.mark.parametrize(
    "headers",
    [
        [(b"x-a", b"b\r\nset-cookie: evil=1")],
        [(b"x-a", b"b\nc")],
        [(b"x-a", b"b\x00")],
        [(b"x-a", b"\x7f")],
        [(b"x-a\r\nb", b"c")],
        [(b"x a", b"c")],
        [(b"x-a:", b"c")],
        [(b"", b"c")],
        [(b"content-length", b"1\r\nx: y")],
    ],
)
def test_header_injection_is_refused_by_name(headers: Iterable[tuple[bytes, bytes]]) -> None:
    ((name, _),) = headers
    with pytest.raises(UnserializablePrediction) as caught:
        render_headers(headers)
    assert repr(name.decode()) in str(caught.value)


def test_header_values_keep_tabs_and_latin_1() -> None:
    assert render_headers([(b"X-A", b" a\tb\xe9 ")]) == b"x-a: a\tb\xe9\r\n"


# --- raised HTTPException


@pytest.mark.parametrize(
    ("exception", "status", "block", "body"),
    [
        (HTTPException(418), 418, b"content-type: text/plain; charset=utf-8\r\n", b"I'm a Teapot"),
        (
            HTTPException(401, "né", {"WWW-Authenticate": "Basic"}),
            401,
            b"www-authenticate: Basic\r\ncontent-type: text/plain; charset=utf-8\r\n",
            "né".encode(),
        ),
        (HTTPException(400, "{}", {"Content-Type": "application/json"}), 400, JSON_BLOCK, b"{}"),
        (HTTPException(304, "x", {"etag": "y"}), 304, b"etag: y\r\n", b""),
        (HTTPException(204), 204, b"", b""),
    ],
)
def test_http_exception(exception: HTTPException, status: int, block: bytes, body: bytes) -> None:
    assert encode_http_exception(exception) == (status, block, body)


@pytest.mark.parametrize(
    "exception",
    [HTTPException(99, "x"), HTTPException(400, "x", {"a": "b\r\nc: d"}), HTTPException(400, "x", {"a": "€"})],
)
def test_bad_http_exception_is_refused(exception: HTTPException) -> None:
    with pytest.raises(UnserializablePrediction):
        encode_http_exception(exception)


def test_modules_import_nothing_heavy() -> None:
    code = (
        "import sys, predictord.worker.response, predictord.worker.payload, predictord.worker.stream_format as s;"
        "from predictord.worker.payload import PayloadDecoder as P; from predictord.worker.response import encode;"
        "encode({'a': P()('application/json', b'[1]')});"
        "print([m for m in ('starlette', 'pydantic', 'numpy', 'torch', 'anyio') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert shown.stdout.strip() == "[]"
