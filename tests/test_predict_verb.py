import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartParser

from predictord.predict_verb import make_request
from predictord.wire import RequestHead


def request(
    data: str | None = None,
    form: tuple[str, ...] = (),
    content_type: str | None = None,
    headers: tuple[str, ...] = (),
    query: tuple[str, ...] = (),
) -> tuple[RequestHead, dict[str, str], bytes]:
    head, body = make_request(data, form, content_type, headers, query)
    assert head.body_bytes == len(body)
    fields = {name.decode(): value.decode("latin-1") for name, value in head.headers}
    assert fields["content-length"] == str(len(body))
    return head, fields, body


@pytest.mark.parametrize(
    ("name", "content_type", "expected"),
    [
        ("@ask.json", None, "application/json"),
        ("@cat.jpg", None, "image/jpeg"),
        ("@notes.txt", None, "text/plain"),
        ("@blob", None, "application/octet-stream"),
        ("@ask.json", "text/x-own", "text/x-own"),
        ('{"a": 1}', None, "application/json"),
        ("[]", "text/plain", "text/plain"),
    ],
)
def test_the_content_type_is_the_users_or_follows_from_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content_type: str | None, expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if name.startswith("@"):
        (tmp_path / name[1:]).write_bytes(b"\x00\xff")
    _, fields, body = request(name, content_type=content_type)
    assert fields["content-type"] == expected
    assert body == (b"\x00\xff" if name.startswith("@") else name.encode())


def test_without_data_there_is_no_body_and_no_content_type() -> None:
    head, fields, body = request()
    assert (head.method, head.path, body) == ("POST", "/predict", b"")
    assert "content-type" not in fields


def test_headers_win_and_query_is_encoded() -> None:
    head, fields, _ = request("1", headers=("X-Own:  a b ", "Accept: text/event-stream"), query=("q=a b&c", "q=é"))
    assert (fields["x-own"], fields["accept"]) == ("a b", "text/event-stream")
    assert head.query == b"q=a+b%26c&q=%C3%A9"


def test_a_form_reads_back(tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(b"\x89PNG\r\n--")
    _, fields, body = request(form=("text=a=b é", "text=again", f"image=@{tmp_path}/cat.png"))
    form = asyncio.run(_parse_form(fields["content-type"], body))
    assert form.getlist("text") == ["a=b é", "again"]
    image = form["image"]
    assert isinstance(image, UploadFile)
    assert (image.filename, image.content_type, image.file.read()) == ("cat.png", "image/png", b"\x89PNG\r\n--")
    image.file.close()


def test_a_forms_names_cannot_add_fields() -> None:
    _, _, body = request(form=('a"\r\nx: y=1',))
    assert b'name="a%22%0D%0Ax: y"\r\n\r\n1\r\n' in body


async def _parse_form(content_type: str, body: bytes) -> FormData:
    async def stream() -> AsyncIterator[bytes]:
        yield body

    return await MultiPartParser(Headers({"content-type": content_type}), stream()).parse()  # type: ignore[arg-type]
