"""How a log record looks as text: one line each, whatever control characters its parts hold."""

import json
import logging
import math
import re
import time
from datetime import UTC, datetime
from typing import Any

WORKER_OUTPUT = "worker_output"
"""The event of a line that a worker printed; shown with the worker's tag."""

LINE_CHARACTERS = 16_384
TEXT_CHARACTERS = 4 * LINE_CHARACTERS
"""The longest line, and the longest text of several lines (a traceback); the rest is cut, and said to be."""

# C0 and C1, what Unicode counts as a line end or turns text around with, and what UTF-8 can't carry.
_UNSHOWABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_STANDARD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def escape(text: str) -> str:
    """The text as one harmless line: control characters as `\\x1b`, tabs as spaces, cut at `LINE_CHARACTERS`."""
    text = _cut(text, LINE_CHARACTERS)
    if text.isascii() and text.isprintable():
        return text
    return _UNSHOWABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text.expandtabs())


def clock(record: logging.LogRecord) -> str:
    """Its local time, `HH:MM:SS`."""
    return time.strftime("%H:%M:%S", time.localtime(record.created))


def tag(record: logging.LogRecord) -> str:
    """What stands before a line that a worker printed; empty for what predictord itself says."""
    is_output = getattr(record, "event", None) == WORKER_OUTPUT
    return f"worker {getattr(record, 'worker', '?')} | " if is_output else ""


def traceback_lines(record: logging.LogRecord) -> list[str]:
    """The lines of its extra `traceback`, escaped and indented."""
    text = _cut(str(getattr(record, "traceback", None) or ""), TEXT_CHARACTERS).rstrip("\n")
    return ["    " + escape(line) for line in text.split("\n")] if text else []


def render_plain(record: logging.LogRecord) -> str:
    """`HH:MM:SS message`, and below it, indented, the lines of a traceback."""
    return "\n".join([f"{clock(record)} {tag(record)}{escape(record.getMessage())}", *traceback_lines(record)])


def render_json(record: logging.LogRecord) -> str:
    """One object: time (RFC 3339), level, event, message, and the fields given as `extra`."""
    fields = {key: value for key, value in vars(record).items() if key not in _STANDARD_FIELDS}
    document = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "event": fields.pop("event", "log"),
        "message": record.getMessage(),
    }
    return json.dumps(_as_json(document | fields))


def _as_json(value: Any) -> Any:
    """The value with only what every JSON parser takes: no NaN, no lone surrogate, no foreign type."""
    if isinstance(value, dict):
        return {_as_json(str(key)): _as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, int):
        return value
    return _cut(str(value), TEXT_CHARACTERS).encode("utf-8", "backslashreplace").decode()


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]} … ({len(text) - limit:,} more characters)"
