"""Form bodies: starlette's own parsers, driven without an event loop.

The body is wholly in memory already, so nothing here may touch the disk or a thread: with
`spool_max_size = 0` an upload's spooled file never rolls over, and then no `await` inside the
parsers ever suspends.
"""

from collections.abc import AsyncGenerator, Coroutine
from typing import Any

from python_multipart.exceptions import FormParserError
from starlette.datastructures import FormData, Headers
from starlette.formparsers import FormParser, MultiPartException, MultiPartParser

MAX_PARTS = 1000
"""Fields, and as many files, in one form; starlette's own default."""

_CHUNK_BYTES = 1 << 18
"""The parser keeps what it found in a chunk until the chunk ends: bounds that second copy."""


class _MultiPart(MultiPartParser):
    """Refuses a form whose end is missing, which starlette takes for a whole one."""

    spool_max_size = 0
    _ended = False

    def on_end(self) -> None:
        self._ended = True

    async def parse(self) -> FormData:
        self.stream = self._whole(self.stream)
        return await super().parse()

    async def _whole(self, chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        async for chunk in chunks:
            yield chunk
        if not self._ended:  # raised inside the parser, which then closes the files it has made
            raise MultiPartException("it ends before its closing boundary")


def parse_multipart(content_type: str, body: bytes) -> FormData:
    """The fields and files of a multipart form; raises ValueError where it is not one."""
    parser = _MultiPart(
        _headers(content_type), _chunks(body), max_files=MAX_PARTS, max_fields=MAX_PARTS, max_part_size=len(body)
    )
    return _finish(parser.parse())


def parse_urlencoded(content_type: str, body: bytes) -> FormData:
    """The fields of a urlencoded form; raises ValueError where it is not one, JSON above all."""
    if body.lstrip()[:1] in (b"{", b"[", b'"'):
        raise ValueError(
            "the Content-Type is application/x-www-form-urlencoded (curl's default), but the body looks like JSON; "
            "send it with Content-Type: application/json"
        )
    parser = FormParser(_headers(content_type), _chunks(body), max_fields=MAX_PARTS, max_part_size=len(body))
    return _finish(parser.parse())


def _headers(content_type: str) -> Headers:
    return Headers(raw=[(b"content-type", content_type.encode("latin-1", "replace"))])


async def _chunks(body: bytes) -> AsyncGenerator[bytes, None]:
    for start in range(0, len(body), _CHUNK_BYTES):
        yield body[start : start + _CHUNK_BYTES]


def _finish(parsing: Coroutine[Any, Any, FormData]) -> FormData:
    try:
        parsing.send(None)
    except StopIteration as stop:
        form: FormData = stop.value
        return form
    except MultiPartException as error:
        raise ValueError(f"invalid form: {error.message}") from error
    except FormParserError as error:
        raise ValueError(f"invalid form: {error}") from error
    raise RuntimeError("starlette's form parser waited for something, with the whole body at hand")
