"""What a worker prints: read from its pipe, cut into lines, made harmless, and kept to a rate.

The pipe is always read, even when nothing of it is shown, so that printing never blocks
the worker; each turn of the event loop reads a bounded piece, so that a worker that
prints without end does not block the supervisor either.
"""

import asyncio
import os
import re
import time
from collections import deque
from collections.abc import Callable

from predictord.supervisor.log_line import escape

MAX_LINE_BYTES = 8192
TAIL_LINES = 50
BURST_LINES = 2000
LINES_PER_S = 500

_READ_BYTES = 16_384
_DRAIN_READS = 64
"""A pipe holds 1 MiB at most; a grandchild that goes on writing must not hold up the supervisor."""
_TELL_S = 1.0

_LINE_ENDS = re.compile(rb"[\r\n]+")
# Colours, erasing, and the moves of progress bars; whatever else begins with ESC is escaped and so seen.
_ANSI_STYLE = re.compile(r"\x1b\[[0-9;:]*[mKA-G]")


class LineSplitter:
    """Cuts a stream of bytes into lines at every LF, CR or CRLF; blank lines are left out.

    Of a line longer than `MAX_LINE_BYTES` the rest is dropped as it comes, and the line says so.
    """

    def __init__(self) -> None:
        self._begun = bytearray()
        self._left_out_bytes = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes."""
        first, *others = _LINE_ENDS.split(data)
        self._extend(first)
        if not others:
            return []
        lines = [self.flush(), *(line if len(line) <= MAX_LINE_BYTES else _shortened(line) for line in others[:-1])]
        self._extend(others[-1])
        return lines if lines[0] else lines[1:]

    def flush(self) -> bytes:
        """The line that is begun, as if it ended here; empty if there is none."""
        line = _with_note(bytes(self._begun), self._left_out_bytes)
        self._begun.clear()
        self._left_out_bytes = 0
        return line

    def _extend(self, piece: bytes) -> None:
        room = MAX_LINE_BYTES - len(self._begun)
        self._begun += piece[:room]
        self._left_out_bytes += max(0, len(piece) - room)


class LineRate:
    """A token bucket: how many of the lines at hand may be shown."""

    def __init__(self, now: float) -> None:
        self._tokens = float(BURST_LINES)
        self._at = now

    def take(self, lines: int, now: float) -> int:
        """How many of `lines` to show; the rest is to be dropped."""
        self._tokens = min(BURST_LINES, self._tokens + (now - self._at) * LINES_PER_S)
        self._at = now
        allowed = min(lines, int(self._tokens))
        self._tokens -= allowed
        return allowed


class WorkerOutput:
    """Reads one worker's output pipe and calls `emit` with each line; owns the descriptor.

    `bytes_seen` counts everything read, as a sign of life while a worker loads.
    """

    def __init__(self, descriptor: int, emit: Callable[[str], None]) -> None:
        os.set_blocking(descriptor, False)
        self.bytes_seen = 0
        self._descriptor = descriptor
        self._emit = emit
        self._splitter = LineSplitter()
        self._rate = LineRate(time.monotonic())
        self._tail: deque[bytes] = deque(maxlen=TAIL_LINES)
        self._dropped_lines = 0
        self._telling: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def tail(self) -> list[str]:
        """The last `TAIL_LINES` lines, those not shown included."""
        return [text for line in self._tail if (text := _readable(line))]

    def start(self) -> None:
        """Read in the running event loop from now on."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._descriptor, self._read)

    def drain(self) -> None:
        """Read what the pipe still holds and end the last line; for when the worker is dead. Does not block."""
        for _ in range(_DRAIN_READS):
            if not self._read():
                break
        self._take([line] if (line := self._splitter.flush()) else [])
        self._tell_dropped()

    def close(self) -> None:
        """Stop reading and close the descriptor; a second call does nothing."""
        if self._descriptor < 0:
            return
        self._stop_reading()
        if self._telling:
            self._telling.cancel()
        os.close(self._descriptor)
        self._descriptor = -1

    def _read(self) -> bool:
        """Read a piece; false if there is none at the moment."""
        try:
            data = os.read(self._descriptor, _READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:  # EIO: the other end of a terminal is gone
            data = b""
        if not data:  # at its end a pipe stays readable, and would keep the loop spinning
            self._stop_reading()
            return False
        self.bytes_seen += len(data)
        self._take(self._splitter.feed(data))
        return True

    def _take(self, lines: list[bytes]) -> None:
        self._tail.extend(lines[-TAIL_LINES:])
        allowed = self._rate.take(len(lines), time.monotonic())
        for line in lines[:allowed]:
            if text := _readable(line):
                self._emit(text)
        self._dropped_lines += len(lines) - allowed
        if self._dropped_lines and not self._telling and self._loop:
            self._telling = self._loop.call_later(_TELL_S, self._tell_dropped)

    def _tell_dropped(self) -> None:
        if self._telling:
            self._telling.cancel()
            self._telling = None
        if self._dropped_lines:
            self._emit(f"… {self._dropped_lines:,} lines not shown: more than {LINES_PER_S} lines a second")
            self._dropped_lines = 0

    def _stop_reading(self) -> None:
        if self._loop:
            self._loop.remove_reader(self._descriptor)


def _shortened(line: bytes) -> bytes:
    return _with_note(line[:MAX_LINE_BYTES], len(line) - MAX_LINE_BYTES)


def _with_note(line: bytes, left_out_bytes: int) -> bytes:
    return line + f" … ({left_out_bytes:,} more bytes)".encode() if left_out_bytes else line


def _readable(line: bytes) -> str:
    return escape(_ANSI_STYLE.sub("", line.decode("utf-8", "replace"))).rstrip()
