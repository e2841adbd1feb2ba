"""What `payload` is: the request's Content-Type decides, or the annotation."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.contract.openapi import request_schema
from tests.daemon import Daemon
from tests.raw_http import exchange, request

POSITION = re.compile(r"(line|column|char|character|position|byte|offset|index) \d+")

UNTYPED = """
from starlette.datastructures import FormData, UploadFile

def plain(value):
    if isinstance(value, UploadFile):
        return {"file": value.filename, "type": value.content_type, "text": value.file.read().decode()}
    if isinstance(value, FormData):
        return [[name, plain(field)] for name, field in value.multi_items()]
    return value.decode("latin-1") if isinstance(value, bytes) else value

class PythonPredictor:
    def predict(self, payload, query_params):
        if "deep" in query_params:
            return [type(payload).__name__]
        return {"type": type(payload).__name__, "value": plain(payload)}
"""


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with Daemon(UNTYPED) as daemon:
        yield daemon


def send(daemon: Daemon, content_type: str, body: bytes | str, **arguments: Any) -> Any:
    response = daemon.predict(content=body, headers={"content-type": content_type}, **arguments)
    assert response.status_code == 200, response.text
    return response.json()


def refusal(daemon: Daemon, content_type: str, body: bytes | str) -> str:
    """The detail of the 400 that this body gets."""
    response = daemon.predict(content=body, headers={"content-type": content_type})
    assert (response.status_code, response.json()["code"]) == (400, "invalid_payload"), response.text
    return str(response.json()["detail"])


# --- JSON


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/json; charset=utf-8",
        "Application/JSON",
        "application/vnd.api+json",
        "image/x+json",
    ],
)
def test_json_types_are_parsed(daemon: Daemon, content_type: str) -> None:
    assert send(daemon, content_type, '{"text": "h\u00e9", "n": [1, 2.5, null, true]}') == {
        "type": "dict",
        "value": {"text": "hé", "n": [1, 2.5, None, True]},
    }


@pytest.mark.parametrize("value", [[], {}, "text", 1, -2.5, True, None, 2**63, -(2**63)])
def test_any_json_document_is_a_payload(daemon: Daemon, value: Any) -> None:
    answer = send(daemon, "application/json", json.dumps(value))
    assert answer == {"type": type(value).__name__, "value": value}


def test_integers_keep_all_their_digits(daemon: Daemon) -> None:
    assert send(daemon, "application/json", str(2**70)) == {"type": "int", "value": 2**70}


def test_last_of_duplicate_keys_wins(daemon: Daemon) -> None:
    assert send(daemon, "application/json", '{"a": 1, "a": 2}')["value"] == {"a": 2}


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": }',
        b'{"a": 1',
        b"[1, 2,]",
        b"{'a': 1}",
        b"[1] [2]",
        b'{"a": NaN}',
        b"[Infinity]",
        b'{"a": 1e400}',
        b'"\\ud800"',
        b'{"a": "\xff"}',
        b"\xff\xfe[\x001\x00]\x00",
    ],
)
def test_bad_json_is_refused_with_its_position(daemon: Daemon, body: bytes) -> None:
    assert POSITION.search(refusal(daemon, "application/json", body))


def test_position_is_where_the_fault_is(daemon: Daemon) -> None:
    assert "line 2" in refusal(daemon, "application/json", '{"a": 1,\n "b": oops}')


def test_empty_json_body_is_refused(daemon: Daemon) -> None:
    assert refusal(daemon, "application/json", b"")


def test_json_is_parsed_to_a_depth_of_1000(daemon: Daemon) -> None:
    assert send(daemon, "application/json", "[" * 1000 + "]" * 1000, params={"deep": "1"}) == ["list"]


@pytest.mark.parametrize("depth", [1001, 100_000])
def test_deeper_json_is_refused(daemon: Daemon, depth: int) -> None:
    assert refusal(daemon, "application/json", "[" * depth + "]" * depth)


# --- forms


def test_multipart_is_form_data_with_files(daemon: Daemon) -> None:
    response = daemon.predict(data={"name": "é", "n": ["1", "2"]}, files={"image": ("a.txt", b"hello", "text/x-test")})
    assert response.json() == {
        "type": "FormData",
        "value": [
            ["name", "é"],
            ["n", "1"],
            ["n", "2"],
            ["image", {"file": "a.txt", "type": "text/x-test", "text": "hello"}],
        ],
    }


def test_urlencoded_is_form_data(daemon: Daemon) -> None:
    answer = send(daemon, "application/x-www-form-urlencoded", "a=1&a=2&b=%C3%A9+x&empty=")
    assert answer == {"type": "FormData", "value": [["a", "1"], ["a", "2"], ["b", "é x"], ["empty", ""]]}


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"--x\r\n\r\n--x--\r\n"),
        ("multipart/form-data; boundary=x", b"no boundary anywhere"),
    ],
)
def test_broken_multipart_is_refused(daemon: Daemon, content_type: str, body: bytes) -> None:
    refusal(daemon, content_type, body)


@pytest.mark.parametrize("body", ['{"text": "hi"}', " [1, 2]\n"])
def test_form_that_starts_like_json_gets_the_hint(daemon: Daemon, body: str) -> None:
    assert "application/json" in refusal(daemon, "application/x-www-form-urlencoded", body)


# --- text and bytes


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/plain", "naïve".encode()),
        ("text/csv; charset=utf-8", "naïve".encode()),
        ("text/plain; charset=iso-8859-1", "naïve".encode("latin-1")),
        ('TEXT/HTML; Charset="UTF-16"', "naïve".encode("utf-16")),
    ],
)
def test_text_is_decoded_by_its_charset(daemon: Daemon, content_type: str, body: bytes) -> None:
    assert send(daemon, content_type, body) == {"type": "str", "value": "naïve"}


@pytest.mark.parametrize(
    ("content_type", "body"),
    [("text/plain", b"na\xefve"), ("text/plain; charset=ascii", b"\xe9"), ("text/plain; charset=klingon", b"qapla")],
)
def test_undecodable_text_is_refused(daemon: Daemon, content_type: str, body: bytes) -> None:
    refusal(daemon, content_type, body)


@pytest.mark.parametrize("content_type", ["application/octet-stream", "image/png", "application/jsonish", "nonsense"])
def test_other_types_are_bytes(daemon: Daemon, content_type: str) -> None:
    assert send(daemon, content_type, b'{"\xff\x00"') == {"type": "bytes", "value": '{"\xff\x00"'}


@pytest.mark.parametrize("body", [b"[1]", b""])
def test_no_content_type_is_bytes(daemon: Daemon, body: bytes) -> None:
    answer = exchange(daemon.port, request(body=body))
    assert json.loads(answer.body) == {"type": "bytes", "value": body.decode()}


def test_body_is_parsed_only_when_asked_for() -> None:
    with Daemon("class Predictor:\n    def predict(self, query_params): return 'not read'") as daemon:
        response = daemon.predict(content=b"{", headers={"content-type": "application/json"})
    assert (response.status_code, response.text) == (200, "not read")


# --- typed payloads

TYPED = """
from pydantic import BaseModel

class Ask(BaseModel):
    text: str
    n: int = 1

class PythonPredictor:
    def predict(self, payload: Ask):
        return [type(payload).__name__, payload.text, payload.n]
"""


@pytest.fixture(scope="module")
def typed() -> Iterator[Daemon]:
    with Daemon(TYPED) as daemon:
        yield daemon


def test_model_is_built(typed: Daemon) -> None:
    assert typed.predict({"text": "hi"}).json() == ["Ask", "hi", 1]


def test_model_that_does_not_validate_is_422_with_field_errors(typed: Daemon) -> None:
    response = typed.predict({"n": "many"})
    problem = response.json()
    assert (response.status_code, problem["code"]) == (422, "validation_failed")
    assert response.headers["content-type"] == "application/problem+json"
    assert {tuple(error["loc"])[-1]: error["type"] for error in problem["errors"]} == {
        "text": "missing",
        "n": "int_parsing",
    }
    assert all(error["msg"] for error in problem["errors"])


def test_unparseable_model_is_400(typed: Daemon) -> None:
    assert POSITION.search(refusal(typed, "application/json", "{oops"))


def test_schema_is_in_openapi(typed: Daemon) -> None:
    schema = request_schema(typed.client.get("/openapi.json").json(), "/predict")
    assert schema["required"] == ["text"]
    assert schema["properties"]["n"]["type"] == "integer"


def test_any_type_that_pydantic_validates_will_do() -> None:
    source = """
    from __future__ import annotations
    from dataclasses import dataclass

    @dataclass
    class Point:
        x: float
        y: float = 0.0

    class PythonPredictor:
        def predict(self, payload: list[Point]):
            return [[type(point).__name__, point.x, point.y] for point in payload]
    """
    with Daemon(source) as daemon:
        assert daemon.predict([{"x": 1}, {"x": 2, "y": 3}]).json() == [["Point", 1.0, 0.0], ["Point", 2.0, 3.0]]
        response = daemon.predict([{"x": 1}, {}])
        assert (response.status_code, response.json()["errors"][0]["loc"]) == (422, [1, "x"])


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "application/x-www-form-urlencoded", "a/b"])
def test_bytes_means_the_raw_body(raw: Daemon, content_type: str) -> None:
    response = raw.predict(content=b"{\xff", headers={"content-type": content_type})
    assert (response.status_code, response.content) == (200, b"{\xff")


@pytest.fixture(scope="module")
def raw() -> Iterator[Daemon]:
    with Daemon("class Predictor:\n    def predict(self, payload: bytes): return payload") as daemon:
        yield daemon


def test_str_means_the_text_of_the_body() -> None:
    with Daemon("class Predictor:\n    def predict(self, payload: str): return payload") as daemon:
        for content_type in ("application/json", "application/x-www-form-urlencoded", "image/png"):
            response = daemon.predict(content='{"é'.encode(), headers={"content-type": content_type})
            assert (response.status_code, response.text) == (200, '{"é')
        assert exchange(daemon.port, request(body=b"[1]")).body == b"[1]"
        refusal(daemon, "application/json", b"\xff")


def test_type_without_a_schema_is_ignored(opaque: Daemon) -> None:
    assert opaque.predict({"a": [1]}).json() == {"a": [1]}


def test_check_names_the_ignored_type(opaque: Daemon) -> None:
    outcome = run_check(opaque)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert "Opaque" in outcome.stdout + outcome.stderr


@pytest.fixture(scope="module")
def opaque() -> Iterator[Daemon]:
    source = """
    class Opaque:
        pass

    class PythonPredictor:
        def predict(self, payload: Opaque):
            return payload
    """
    with Daemon(source) as daemon:
        yield daemon


def run_check(daemon: Daemon) -> subprocess.CompletedProcess[str]:
    """`predictord check` of the daemon's own predictor."""
    command = [sys.executable, "-m", "predictord", "check", str(daemon.predictor)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
