"""Bodies and Content-Types, and the payloads or problems that they become."""

import json
import os
import random
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict
from starlette.datastructures import FormData, UploadFile

from predictord.problem import Code, Problem
from predictord.worker.payload import PayloadDecoder, PayloadRejected

JSON = "application/json"
URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=B"


def problem_of(content_type: str | None, body: bytes, decoder: PayloadDecoder | None = None) -> Problem:
    with pytest.raises(PayloadRejected) as caught:
        (decoder or PayloadDecoder())(content_type, body)
    return caught.value.problem


def depth_of(value: Any) -> int:
    depth = 0
    while isinstance(value, list):
        depth, value = depth + 1, value[0] if value else None
    return depth


def part(name: bytes, value: bytes, filename: bytes | None = None, headers: bytes = b"") -> bytes:
    file = b'; filename="%b"' % filename if filename is not None else b""
    return b'--B\r\nContent-Disposition: form-data; name="%b"%b\r\n%b\r\n%b\r\n' % (name, file, headers, value)


@pytest.mark.parametrize(
    ("content_type", "body", "payload"),
    [
        (JSON, b'{"a": [1, 2.5, null, "\\u00e9"]}', {"a": [1, 2.5, None, "é"]}),
        (JSON, b'{"a": 1, "a": 2}', {"a": 2}),
        ("application/json; charset=utf-8", b"[1]", [1]),
        ("Application/JSON", b"[1]", [1]),
        ("application/vnd.ask+json", b"[1]", [1]),
        ("text/plain", "é".encode(), "é"),
        ("text/html; charset=latin-1", b"\xe9", "é"),
        ('text/plain; charset="UTF-16"', "é".encode("utf-16"), "é"),
        ("text/plain", b"", ""),
        ("image/png", b"\x89PNG", b"\x89PNG"),
        (None, b"\x00", b"\x00"),
        ("", b"", b""),
    ],
)
def test_content_type_decides(content_type: str | None, body: bytes, payload: Any) -> None:
    decode = PayloadDecoder()
    for given_body in (body, bytearray(body), memoryview(body)):
        decoded = decode(content_type, given_body)
        assert decoded == payload
        assert type(decoded) is type(payload)


@pytest.mark.parametrize(
    "number", [2**63 - 1, -(2**63), 2**64 - 1, 2**64, -(2**63) - 1, 2**70, 10**300, int("12345678901234567890" * 10)]
)
@pytest.mark.parametrize("padding", [0, 3000])
def test_integers_stay_exact(number: int, padding: int) -> None:
    body = b"[%b%d]" % (b"[]," * padding, number)
    assert PayloadDecoder()(JSON, body)[-1] == number


@pytest.mark.parametrize(
    ("body", "place", "reason"),
    [
        (b"", "empty", "JSON was expected"),
        (b" \n", "empty", "JSON was expected"),
        (b"{", "line 1, column 2 (byte 1)", "unexpected end"),
        (b"[1,\n2,x]", "line 2, column 3 (byte 6)", "unexpected character"),
        ('{"é":\n y}'.encode(), "line 2, column 2 (byte 8)", "unexpected character"),
        (b'["ok",\n"\xff"]', "line 2, column 2 (byte 8)", "not UTF-8"),
        (b'"\xed\xa0\x80"', "line 1, column 2 (byte 1)", "not UTF-8"),
        (b"[NaN]", "line 1, column 2 (byte 1)", "unexpected character"),
        (b"[-Infinity]", "line 1, column 3 (byte 2)", ""),
        (b'{"a":1e400}', "line 1, column 6 (byte 5)", "infinity"),
        (b'"\\ud800"', "line 1, column 2 (byte 1)", "surrogate"),
        (b"\xef\xbb\xbf{}", "line 1, column 1 (byte 0)", "byte order mark"),
        ("{}".encode("utf-16"), "line 1, column 1 (byte 0)", "UTF-16"),
        ("{}".encode("utf-16-be"), "line 1, column 1 (byte 0)", "UTF-16"),
        (b"1 2", "line 1, column 3 (byte 2)", "after document"),
        (b"[" * 100_000, "line 1, column", "deeper than 1,000"),
        (b"[" * 1001 + b"]" * 1001, "line 1, column", "deeper than 1,000"),
        (b'{"a":' * 100_000, "line 1, column", "deeper than 1,000"),
        (b" " * 70_000 + b"[" * 1001 + b"]" * 1001, "line 1, column 7", "deeper than 1,000"),
        (b"1" * 10_000_000, "line 1, column 1 (byte 0)", "infinity"),
        # bodies that would close the lists that a deep document is wrapped in
        (b"1],[2" + b",[]" * 1500, "line 1, column 2 (byte 1)", "after document"),
        (b"]" * 24 + b"[" * 1500, "line 1, column 1 (byte 0)", "unexpected character"),
        (b" " * 5000 + b"[]," * 1500, "line 1, column 5003 (byte 5002)", "after document"),
    ],
)
def test_bad_json_is_400_and_names_the_position(body: bytes, place: str, reason: str) -> None:
    problem = problem_of(JSON, body)
    assert problem.code is Code.INVALID_PAYLOAD
    assert place in problem.detail
    assert reason in problem.detail


@pytest.mark.parametrize("spaces", [0, 70_000])
def test_a_thousand_levels_are_fine(spaces: int) -> None:
    assert depth_of(PayloadDecoder()(JSON, b" " * spaces + b"[" * 1000 + b"]" * 1000)) == 1000


@pytest.mark.parametrize("spaces", [0, 70_000])
def test_the_depth_limit_is_not_the_interpreters(spaces: int) -> None:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10_000)  # as a predictor may, and past it lies the end of the C stack
    try:
        problem = problem_of(JSON, b" " * spaces + b"[" * 1001 + b"]" * 1001)
    finally:
        sys.setrecursionlimit(limit)
    assert "deeper than 1,000" in problem.detail


@given(st.binary(max_size=60) | st.text(alphabet='[]{}:,"\\u0123456789.eE+-tfn \n\x00é', max_size=60).map(str.encode))
@settings(max_examples=300, deadline=None)
def test_json_is_what_the_standard_library_reads_or_400(body: bytes) -> None:
    try:
        payload = PayloadDecoder()(JSON, body)
    except PayloadRejected as rejected:
        assert rejected.problem.code is Code.INVALID_PAYLOAD
    else:
        assert payload == json.loads(body)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/plain", b"\xe9"),
        ("text/plain; charset=klingon", b"x"),
        ("text/plain; charset=hex", b"00"),
        ("text/plain; charset=punycode", b"a-" * 1000),
        ("text/plain; charset=\x00", b"x"),
        (MULTIPART + "; charset=idna", part(b"a", b"1") + b"--B--\r\n"),
    ],
)
def test_wrong_charset_is_400(content_type: str, body: bytes) -> None:
    assert problem_of(content_type, body).code is Code.INVALID_PAYLOAD


def test_urlencoded_form() -> None:
    form = PayloadDecoder()(URLENCODED, b"a=1&a=2&b=%C3%A9+x&c=")
    assert isinstance(form, FormData)
    assert form.multi_items() == [("a", "1"), ("a", "2"), ("b", "é x"), ("c", "")]
    assert PayloadDecoder()(URLENCODED, b"").multi_items() == []


def test_multipart_form_stays_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.TemporaryFile", None)  # what a spooled file would roll over to
    content = random.Random(0).randbytes(3 << 20)
    body = part(b"text", b"v" * (2 << 20)) + part(b"file", content, b"../../x", b"Content-Type: image/png\r\n")
    form = PayloadDecoder()(MULTIPART, body + b"--B--\r\n")
    assert form["text"] == "v" * (2 << 20)
    file = form["file"]
    assert isinstance(file, UploadFile)
    assert (file.filename, file.size, file.content_type) == ("../../x", len(content), "image/png")
    assert file.file.read() == content
    file.file.close()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("content_type", "body", "reason"),
    [
        ("multipart/form-data", part(b"a", b"1") + b"--B--\r\n", "boundary"),
        ("multipart/form-data; boundary=", part(b"a", b"1") + b"--B--\r\n", ""),
        ("multipart/form-data; boundary=" + "b" * 10_000, b"x", ""),
        ("multipart/form-data; boundary=\u20ac", part(b"a", b"1") + b"--B--\r\n", ""),
        (MULTIPART, b"", "closing boundary"),
        (MULTIPART, part(b"a", b"1"), "closing boundary"),
        (MULTIPART, part(b"a", b"1", b"f"), "closing boundary"),
        (MULTIPART, b"--B\r\n\r\n1\r\n--B--\r\n", "name"),
        (MULTIPART, part(b"a", b"1") * 100_000 + b"--B--\r\n", "Too many fields"),
        (MULTIPART, part(b"a", b"1", b"f") * 1001 + b"--B--\r\n", "Too many files"),
        (MULTIPART, part(b"a", b"1", headers=b"X: y\r\n" * 100_000) + b"--B--\r\n", ""),
        (URLENCODED, b"a=b&" * 1_000_000, "Too many fields"),
        (URLENCODED, b'{"text": "hi"}', "Content-Type: application/json"),
        (URLENCODED, b' [{"text": "hi"}]', "Content-Type: application/json"),
    ],
)
def test_bad_form_is_400(content_type: str, body: bytes, reason: str) -> None:
    problem = problem_of(content_type, body)
    assert problem.code is Code.INVALID_PAYLOAD
    assert reason in problem.detail


@given(
    st.lists(st.sampled_from([b"--B", b"--", b"\r\n", b"\r", b"B", b'Content-Disposition: form-data; name="a"', b":"]))
)
@settings(max_examples=300, deadline=None)
def test_odd_multipart_is_a_form_or_400(pieces: list[bytes]) -> None:
    try:
        assert isinstance(PayloadDecoder()(MULTIPART, b"".join(pieces)), FormData)
    except PayloadRejected as rejected:
        assert rejected.problem.code is Code.INVALID_PAYLOAD


# --- annotated payloads


class Ask(BaseModel):
    text: str
    scale: int = 1
    tags: list[str] = []
    names: list[str] | None = None


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)

    day: date


class Arbitrary(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    file: UploadFile


class Opaque:
    pass


def test_bytes_and_str_annotations_ignore_the_content_type() -> None:
    for content_type in (JSON, None, "image/png", MULTIPART):
        assert PayloadDecoder(bytes)(content_type, memoryview(b'{"a"')) == b'{"a"'
        assert PayloadDecoder(str)(content_type, memoryview(b'{"a"')) == '{"a"'
    assert PayloadDecoder(str)("application/json; charset=latin-1", b"\xe9") == "é"
    assert problem_of(JSON, b"\xff", PayloadDecoder(str)).code is Code.INVALID_PAYLOAD


@pytest.mark.parametrize("annotation", [Any, object, bytes, str])
def test_annotations_that_say_nothing_have_no_schema(annotation: Any) -> None:
    decoder = PayloadDecoder(annotation)
    assert (decoder.schema, decoder.note) == (None, None)


@pytest.mark.parametrize(
    ("annotation", "content_type", "body", "payload"),
    [
        (Ask, JSON, b'{"text": "hi", "scale": "3"}', Ask(text="hi", scale=3)),
        (Ask, URLENCODED, b"text=hi&scale=3&tags=a&names=n", Ask(text="hi", scale=3, tags=["a"], names=["n"])),
        (Ask, URLENCODED, b"text=hi&text=ho&tags=a&tags=b", Ask(text="ho", tags=["a", "b"])),
        (Ask, MULTIPART, part(b"text", b"hi") + b"--B--\r\n", Ask(text="hi")),
        (Strict, JSON, b'{"day": "2026-01-02"}', Strict(day=date(2026, 1, 2))),
        (dict[str, int], JSON, b'{"a": 18446744073709551616}', {"a": 2**64}),
        (list, JSON, b"[1]", [1]),
        (int, "text/plain", b"3", 3),
        (Ask | None, JSON, b"null", None),
    ],
)
def test_typed_payload(annotation: Any, content_type: str, body: bytes, payload: Any) -> None:
    decoder = PayloadDecoder(annotation)
    assert decoder(content_type, memoryview(body)) == payload
    assert decoder.note is None
    assert decoder.schema is not None


def test_typed_payload_as_deep_as_untyped() -> None:
    assert depth_of(PayloadDecoder(list)(JSON, b"[" * 1000 + b"]" * 1000)) == 1000


def test_failed_validation_is_422_with_field_errors() -> None:
    problem = problem_of(JSON, b'{"scale": "x", "tags": [1]}', PayloadDecoder(Ask))
    assert problem.code is Code.VALIDATION_FAILED
    assert problem.errors is not None
    assert [error["loc"] for error in problem.errors] == [["text"], ["scale"], ["tags", 0]]
    assert all(error.keys() == {"loc", "msg", "type"} for error in problem.errors)
    assert problem.detail.startswith("text: Field required (and 2 more")
    json.dumps(problem.errors)


def test_errors_are_bounded() -> None:
    problem = problem_of(JSON, b"[%b0]" % (b'"x",' * 5000), PayloadDecoder(list[int]))
    assert problem.errors is not None
    assert len(problem.errors) == 100
    assert "4999 more" in problem.detail


@pytest.mark.parametrize("body", [b"{", b'{"text": NaN}', b"", b"[" * 2000])
def test_unparsable_body_of_a_typed_payload_is_400(body: bytes) -> None:
    assert problem_of(JSON, body, PayloadDecoder(Ask)).code is Code.INVALID_PAYLOAD


def test_validation_of_an_unparsed_body_hints_at_the_content_type() -> None:
    problem = problem_of(None, b'{"text": "hi"}', PayloadDecoder(Ask))
    assert problem.code is Code.VALIDATION_FAILED
    assert "Content-Type" in problem.detail


def test_schema_is_pydantics() -> None:
    assert json.loads(PayloadDecoder(Ask).schema or b"") == Ask.model_json_schema()


def test_type_without_validator_is_ignored_with_a_note() -> None:
    decoder = PayloadDecoder(Opaque)
    assert decoder(JSON, b"[1]") == [1]
    assert decoder.schema is None
    assert decoder.note is not None
    assert "Opaque is ignored" in decoder.note


def test_type_without_json_schema_is_still_validated() -> None:
    decoder = PayloadDecoder(Arbitrary)
    payload = decoder(MULTIPART, part(b"file", b"content", b"name") + b"--B--\r\n")
    assert payload.file.file.read() == b"content"
    payload.file.file.close()
    assert decoder.schema is None
    assert "no JSON schema" in (decoder.note or "")
