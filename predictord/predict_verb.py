"""The `predict` verb: one request made from the command line, answered by the worker's own code in this process."""

import mimetypes
import os
import secrets
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import BinaryIO
from urllib.parse import urlencode

import click

from predictord.errors import ExitCode, PredictorError, SettingsError
from predictord.settings import Settings
from predictord.snapshot import take_snapshot
from predictord.wire import RequestHead, WorkerOptions


def make_request(
    data: str | None,
    form: tuple[str, ...],
    content_type: str | None,
    headers: tuple[str, ...],
    query: tuple[str, ...],
) -> tuple[RequestHead, bytes]:
    """The request that the options of the verb describe, as a worker gets it; SettingsError if they describe none.

    `@FILE` in `data` and `form` is read, `@-` is stdin.
    """
    if data is not None and form:
        raise SettingsError("--data and --form both make the body; give one of them")
    body, natural_type = _make_form(form) if form else _make_data(data)
    fields = {"host": "localhost", "accept": "*/*", "content-length": str(len(body))}
    if content_type or natural_type:
        fields["content-type"] = content_type or natural_type
    fields |= dict(_split_header(header) for header in headers)
    head = RequestHead(
        content_type=fields.get("content-type"),
        method="POST",
        path="/predict",
        query=urlencode([_split(item, "--query") for item in query]).encode(),
        http_version="1.1",
        client=None,
        headers=[(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in fields.items()],
    )
    return head, body


def predict_here(settings: Settings, head: RequestHead, body: bytes) -> ExitCode:
    """Load the predictor, predict once, write the answer; blocks until then.

    The answer's body alone goes to stdout: what the predictor prints goes to stderr.
    """
    from predictord.worker.oneshot import predict_once

    generation = take_snapshot(settings.predictor_path, settings.class_name, settings.config)
    options = WorkerOptions(settings.concurrency, settings.max_batch_size, settings.batch_interval_s)
    sys.stdout.flush()
    with os.fdopen(os.dup(1), "wb") as body_file, _counted_interrupts() as interrupts:
        os.dup2(2, 1)
        os.environ.update(generation.environment)
        answer = _Answer(body_file)
        try:
            timings = predict_once(
                generation, options, head, body, answer.take_head, answer.take_body, answer.take_traceback
            )
        except PredictorError:
            if not interrupts:
                raise
            return ExitCode.INTERRUPTED
        answer.end_line()
    click.echo(", ".join(f"{name} {took_ms:.1f} ms" for name, took_ms in timings.items()), err=True)
    if interrupts:
        return ExitCode.INTERRUPTED
    return ExitCode.NO if answer.status >= 400 else ExitCode.STOPPED


class _Answer:
    """Where the parts of an answer go: the body's pieces to a file, at once, and the rest to stderr."""

    def __init__(self, body_file: BinaryIO) -> None:
        self._body_file = body_file
        self._last = b""
        self.status = 0

    def take_head(self, status: int, header_block: bytes) -> None:
        self.status = status
        click.echo(f"HTTP {status}\n{header_block.decode('latin-1').replace(chr(13), '')}", err=True, nl=False)

    def take_body(self, piece: bytes | bytearray | memoryview) -> None:
        self._body_file.write(piece)
        self._body_file.flush()
        self._last = bytes(piece[-1:]) or self._last

    def take_traceback(self, traceback: str) -> None:
        click.echo(traceback.rstrip(), err=True)

    def end_line(self) -> None:
        """Let what follows begin a line of its own where both streams come out at one place, such as a terminal."""
        is_one_place = os.path.samestat(os.fstat(self._body_file.fileno()), os.fstat(2))
        if is_one_place and self._last not in (b"", b"\n"):
            click.echo(err=True)


@contextmanager
def _counted_interrupts() -> Iterator[list[int]]:
    """Ctrl-C raises as ever, and is remembered: the code that serves takes it for a failure of the predictor."""
    interrupts: list[int] = []

    def interrupt(number: int, _frame: FrameType | None) -> None:
        interrupts.append(number)
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # ignored, in a shell's background job
        yield interrupts
        return
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _make_data(data: str | None) -> tuple[bytes, str]:
    if data is None:
        return b"", ""
    if data.startswith("@"):
        return _read(data[1:], "--data"), "application/json" if data == "@-" else _type_of(data)
    return data.encode("utf-8", "surrogateescape"), "application/json"


def _make_form(fields: tuple[str, ...]) -> tuple[bytes, str]:
    """RFC 7578; names are escaped as browsers do."""
    boundary = secrets.token_hex(16)
    parts = []
    for name, value in (_split(field, "--form") for field in fields):
        head = f'content-disposition: form-data; name="{_quoted(name)}"'
        content = value.encode("utf-8", "surrogateescape")
        if value.startswith("@"):
            content = _read(value[1:], "--form")
            head += f'; filename="{_quoted(Path(value[1:]).name)}"\r\ncontent-type: {_type_of(value)}'
        parts.append(f"--{boundary}\r\n{head}\r\n\r\n".encode("utf-8", "surrogateescape") + content + b"\r\n")
    return b"".join(parts) + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def _quoted(text: str) -> str:
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def _type_of(name: str) -> str:
    # A fresh table: the shared one reads the machine's own, and the same command shall mean the same everywhere.
    return mimetypes.MimeTypes().guess_type(name)[0] or "application/octet-stream"


def _read(name: str, flag: str) -> bytes:
    if name == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise SettingsError(f"{flag} must be a file that can be read, not {name!r}: {error.strerror}") from error


def _split(item: str, flag: str) -> tuple[str, str]:
    name, equals, value = item.partition("=")
    if not name or not equals:
        raise SettingsError(f"{flag} must be NAME=VALUE, not {item!r}")
    return name, value


def _split_header(header: str) -> tuple[str, str]:
    name, colon, value = header.partition(":")
    if not colon or not name.isascii() or not name.strip() or "\n" in value:
        raise SettingsError(f"--header must be 'NAME: VALUE', not {header!r}")
    return name.strip().lower(), value.strip()
