"""The `logs` verb: the end of a daemon's log, and what is added to it."""

from collections.abc import Iterator
from typing import Any

from predictord.control_client import ask
from predictord.errors import PredictordError
from predictord.log_files import LogFolder, last_lines
from predictord.runtime import Daemon, RuntimeFolder

_REPLY_LIMIT_S = 30.0
"""A daemon with nothing to say answers after 20 s."""
_END_LIMIT_S = 5.0
"""Between the last answer of a daemon that stops and its end."""


def last_entries(folder: RuntimeFolder, daemon: Daemon, count: int, *, as_json: bool) -> list[str]:
    """The last entries of a living daemon's log; one with a traceback has several lines."""
    entries: list[str] = _ask(folder, daemon, as_json, count=count)["entries"]
    return entries


def follow(folder: RuntimeFolder, daemon: Daemon, count: int, *, as_json: bool) -> Iterator[str]:
    """The last entries, then each as it comes, until the daemon ends."""
    reply = _ask(folder, daemon, as_json, count=count)
    while True:
        if reply["missed"]:
            yield f"… {reply['missed']:,} entries came faster than they were read"
        yield from reply["entries"]
        try:
            reply = _ask(folder, daemon, as_json, after=reply["last"])
        except PredictordError:
            if not folder.wait_for_end(daemon.pid, _END_LIMIT_S):
                raise
            return


def left_behind(logs: LogFolder, predictor: str | None, port: int | None, count: int) -> tuple[str, list[str]] | None:
    """Where the last detached daemon of this predictor, on this port, has logged, and the last lines of that."""
    path = logs.find(predictor, port)
    return None if path is None else (str(path), last_lines(path, count))


def _ask(folder: RuntimeFolder, daemon: Daemon, as_json: bool, **wish: int) -> dict[str, Any]:
    return ask(folder, daemon, {"verb": "logs", "json": as_json, **wish}, _REPLY_LIMIT_S)
