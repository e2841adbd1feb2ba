"""The console: everything `serve` prints, rendered and written by one thread.

Whoever has something to say logs it to the logger `predictord`:

    log.info("worker 0 ready in 1.2 s", extra={"event": "worker_ready", "worker": 0, "seconds": 1.2})

Logging only puts the record on a bounded queue, so that the event loop never waits for a
slow terminal or a pipe that nobody reads; what does not fit is counted and told. A dead
stream is no error: the service goes on and says nothing.
"""

import copy
import logging
import math
import os
import queue
import select
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Protocol, TextIO, cast

from predictord.supervisor.log_file import LogFile
from predictord.supervisor.log_line import render_json, render_plain
from predictord.supervisor.log_tail import LogTail

LOGGER = "predictord"
QUEUED_RECORDS = 4096
CLOSE_LIMIT_S = 1.0
"""How long closing waits for a stream that takes nothing."""

_REFRESH_S = 0.1
_TELL_S = 1.0
_WRITABLE_WAIT_MS = 100

_Records = queue.Queue[logging.LogRecord | None]
"""`None` wakes the writer without having anything to say."""


class LoadingDisplay:
    """What is loading at this moment, shown below the log on a terminal and nowhere else. Never blocks."""

    def __init__(self, records: _Records) -> None:
        self._records = records
        self._since: dict[str, float] = {}

    def start(self, label: str) -> None:
        """Show `label`, such as `worker 0 (GPU 1)`, with its seconds from now on."""
        self._since[label] = time.monotonic()
        self._wake()

    def done(self, label: str) -> None:
        """Show it no longer; one that is not shown is no error."""
        if self._since.pop(label, None) is not None:
            self._wake()

    def stop(self) -> None:
        """Show nothing any more."""
        self._since.clear()
        self._wake()

    def rows(self) -> list[tuple[str, float]]:
        """Label and seconds of each; safe on any thread."""
        now = time.monotonic()
        return [(label, now - since) for label, since in list(self._since.items())]

    def _wake(self) -> None:
        with suppress(queue.Full):  # then the writer is awake
            self._records.put_nowait(None)


@contextmanager
def open_console(
    log_format: str, stream: TextIO | LogFile | None, tail: LogTail | None = None
) -> Iterator[LoadingDisplay]:
    """Show on `stream` what is logged inside the block, and remember the end of it in `tail`.

    `log_format` is `pretty`, `plain`, `json`, or `auto`: pretty on a terminal, else plain.
    `stream` must have a file descriptor; `None` (standard output was closed) shows
    nothing. Warnings of foreign loggers, such as asyncio's, are shown too. Leaving
    waits for what is queued, up to `CLOSE_LIMIT_S` for a stream that takes nothing.
    """
    if log_format == "auto":
        log_format = "pretty" if stream is not None and stream.isatty() else "plain"
    inbox = _Inbox(tail)
    sink = stream if isinstance(stream, LogFile) else _Sink(stream)
    loading = LoadingDisplay(inbox.records)
    writer = _Writer(inbox, sink, _view(log_format, sink, loading))
    ours, root = logging.getLogger(LOGGER), logging.getLogger()
    level_before = ours.level
    ours.setLevel(logging.INFO)
    root.addHandler(inbox)
    writer.start()
    try:
        yield loading
    finally:
        root.removeHandler(inbox)
        ours.setLevel(level_before)
        loading.stop()
        writer.stop()


class _View(Protocol):
    """How records look. While `is_live`, `refresh` is called every `_REFRESH_S`."""

    is_live: bool

    def show(self, record: logging.LogRecord) -> None: ...
    def refresh(self) -> None: ...


def _view(log_format: str, sink: "_Sink | LogFile", loading: LoadingDisplay) -> _View:
    if log_format != "pretty":
        return _LinesView(sink, is_json=log_format == "json")
    from predictord.supervisor.terminal import TerminalView

    return TerminalView(cast(IO[str], sink), loading.rows)


class _LinesView:
    """Plain and JSON."""

    is_live = False

    def __init__(self, sink: "_Sink | LogFile", *, is_json: bool) -> None:
        self._sink = sink
        self._render = render_json if is_json else render_plain

    def show(self, record: logging.LogRecord) -> None:
        self._sink.write(self._render(record) + "\n")

    def refresh(self) -> None:
        """Nothing here moves."""


class _Inbox(logging.Handler):
    """Queues records and counts those that find no room. `dropped` only grows, so that its reader needs no lock."""

    def __init__(self, tail: LogTail | None) -> None:
        super().__init__()
        self.records: _Records = queue.Queue(maxsize=QUEUED_RECORDS)
        self.dropped = 0
        self._tail = tail

    def emit(self, record: logging.LogRecord) -> None:
        try:
            settled = _settled(record)
            if self._tail is not None:
                self._tail.append(settled)
            self.records.put_nowait(settled)
        except queue.Full:
            self.dropped += 1
        except Exception:
            self.handleError(record)


def _settled(record: logging.LogRecord) -> logging.LogRecord:
    """A copy that refers to nothing which may change before the writer's turn."""
    settled = copy.copy(record)
    settled.msg, settled.args = record.getMessage(), None
    if record.exc_info and not getattr(record, "traceback", None):
        settled.traceback = "".join(traceback.format_exception(*record.exc_info))
    settled.exc_info = None
    return settled


class _Sink:
    """The file that the views write to: never stuck for longer than until `give_up_at`.

    It passes Python's own buffer by, since a thread stuck there would break the flush at
    exit, and has its own descriptor, since someone may close the stream.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self.encoding = (stream.encoding if stream else None) or "utf-8"
        self.give_up_at = math.inf
        self._descriptor = -1
        self._poll = select.poll()
        if stream:
            self._descriptor = os.dup(stream.fileno())
            self._poll.register(self._descriptor, select.POLLOUT)

    def write(self, text: str) -> int:
        rest = memoryview(text.encode(self.encoding, "backslashreplace"))
        while rest and self._descriptor >= 0 and time.monotonic() < self.give_up_at:
            if not self._poll.poll(_WRITABLE_WAIT_MS):
                continue
            try:  # a pipe that polls as writable takes PIPE_BUF bytes without blocking, pipe(7)
                rest = rest[os.write(self._descriptor, rest[: select.PIPE_BUF]) :]
            except BlockingIOError:
                time.sleep(_WRITABLE_WAIT_MS / 1000)
            except OSError:  # nobody reads any more (EPIPE), or the terminal is gone (EIO)
                self.close()
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return self._descriptor >= 0 and os.isatty(self._descriptor)

    def close(self) -> None:
        """Swallow everything from now on."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class _Writer:
    """The one thread that renders and writes.

    It is a daemon thread because a terminal stopped by Ctrl-S can hold it inside write(2)
    for ever, and the process must be able to end.
    """

    def __init__(self, inbox: _Inbox, sink: _Sink | LogFile, view: _View) -> None:
        self._inbox = inbox
        self._sink = sink
        self._view = view
        self._told, self._told_at, self._refreshed_at = 0, -math.inf, -math.inf
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="console", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._sink.give_up_at = time.monotonic() + CLOSE_LIMIT_S
        self._stopping.set()
        with suppress(queue.Full):  # then the writer is awake
            self._inbox.records.put_nowait(None)
        self._thread.join(2 * CLOSE_LIMIT_S)

    def _run(self) -> None:
        while not (self._stopping.is_set() and self._inbox.records.empty()):
            try:
                record = self._inbox.records.get(timeout=self._patience_s())
            except queue.Empty:
                record = None
            try:
                self._turn(record)
            except Exception as error:  # a field whose __str__ raises must not silence all that follows
                self._say(f"a log line could not be shown: {error!r}", "log_broken")
        self._view.refresh()
        self._tell_dropped()
        self._sink.close()

    def _turn(self, record: logging.LogRecord | None) -> None:
        now = time.monotonic()
        if record is None or now - self._refreshed_at >= _REFRESH_S:
            self._refreshed_at = now
            self._view.refresh()
        if record is not None:
            self._view.show(record)
        if now - self._told_at >= _TELL_S:
            self._tell_dropped()

    def _patience_s(self) -> float | None:
        if self._view.is_live:
            return _REFRESH_S
        return _TELL_S if self._inbox.dropped > self._told else None

    def _tell_dropped(self) -> None:
        lost = self._inbox.dropped - self._told
        if not lost:
            return
        self._told += lost
        self._told_at = time.monotonic()
        self._say(
            f"{lost:,} log lines were dropped, since this output was not read in time", "log_dropped", dropped=lost
        )

    def _say(self, message: str, event: str, **fields: int) -> None:
        record = logging.LogRecord(LOGGER, logging.WARNING, "", 0, message, None, None)
        vars(record).update(fields, event=event)
        self._view.show(record)
