"""The end of the log, kept in memory for `predictord logs`, whatever becomes of standard output."""

import asyncio
import logging
import threading
from collections import deque
from contextlib import suppress
from typing import Any

from predictord.supervisor.log_line import render_json, render_plain

MOST_RECORDS = 2000
MOST_CHARACTERS = 4 << 20
"""What a tail may hold of messages and tracebacks."""
PATIENCE_S = 20.0
"""How long a request waits for news; whoever wants more asks again, and who has left is soon forgotten."""


class LogTail:
    """The last records, numbered from 1; `append` is for any thread, the rest for the loop's."""

    def __init__(self) -> None:
        self._records: deque[logging.LogRecord] = deque()
        self._characters = 0
        self._lock = threading.Lock()
        self._last = 0
        self._waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()

    def append(self, record: logging.LogRecord) -> None:
        """Remember a record that no longer changes, and forget the oldest beyond the limits."""
        with self._lock:
            self._records.append(record)
            self._last += 1
            self._characters += _size(record)
            while len(self._records) > MOST_RECORDS or (self._characters > MOST_CHARACTERS and len(self._records) > 1):
                self._characters -= _size(self._records.popleft())
            waiting = list(self._waiting)
        for loop, news in waiting:
            with suppress(RuntimeError):  # its loop has ended
                loop.call_soon_threadsafe(news.set)

    async def by_verb(self, request: dict[str, Any]) -> dict[str, Any]:
        """The `logs` verb: `count` last entries, or those `after` a number, once there are any.

        Replies the entries as text (with `json` as JSON), the number of the last, and how many
        of those asked for were already forgotten.
        """
        after = request.get("after")
        if after is not None:
            await self._wait_for_more_than(after)
        with self._lock:
            records, last = list(self._records), self._last
        first = last - len(records)
        start = max(first, last - request.get("count", MOST_RECORDS) if after is None else after)
        render = render_json if request.get("json") else render_plain
        return {
            "entries": [render(record) for record in records[start - first :]],
            "last": last,
            "missed": 0 if after is None else start - after,
        }

    async def _wait_for_more_than(self, number: int) -> None:
        waiter = asyncio.get_running_loop(), asyncio.Event()
        with self._lock:
            if self._last > number:
                return
            self._waiting.add(waiter)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await waiter[1].wait()
        except TimeoutError:
            return
        finally:
            with self._lock:
                self._waiting.discard(waiter)


def _size(record: logging.LogRecord) -> int:
    return len(record.msg) + len(getattr(record, "traceback", None) or "")
