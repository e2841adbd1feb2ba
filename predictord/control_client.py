"""What the verbs say to a living daemon, over its Unix socket; all of it blocks."""

import socket
import time
from typing import Any, Literal

import msgspec

from predictord.errors import PredictordError
from predictord.runtime import Daemon, RuntimeFolder, socket_address

_CONNECT_LIMIT_S = 5.0
"""A daemon registers a moment before it listens, and many clients at once may fill its backlog."""
_REPLY_LIMIT_S = 5.0
_STOP_GRACE_S = 10.0
"""Beyond the drain timeout: workers are told to end, waited for and killed."""
_PAUSE_S = 0.02


class Reload(msgspec.Struct):
    """How a reload went."""

    kind: Literal["swap", "replace", "none", "failed"]
    generation: int
    duration_s: float
    reason: str
    error: str | None = None
    """Why it failed: a line, and then the predictor's traceback where there is one."""

    @property
    def line(self) -> str:
        """All of it but the error, for people."""
        return f"{self.kind}: generation {self.generation} · {self.reason} · {self.duration_s:.1f} s"


def stop_daemon(folder: RuntimeFolder, daemon: Daemon) -> None:
    """Ask the daemon to drain and stop, and wait until it is gone; PredictordError if it does not go."""
    reply = ask(folder, daemon, {"verb": "stop"}, _REPLY_LIMIT_S)
    drain_timeout_s = reply["drain_timeout_s"]
    limit_s = drain_timeout_s + _STOP_GRACE_S if drain_timeout_s else None
    if not folder.wait_for_end(daemon.pid, limit_s):
        raise PredictordError(
            f"{daemon.label} still runs {limit_s:.0f} s after it was asked to stop; `kill -9 {daemon.pid}` ends it"
        )


def reload_daemon(folder: RuntimeFolder, daemon: Daemon, *, fresh: bool) -> Reload:
    """Have the daemon reload, and wait until that is done, however long the model takes to load."""
    reply = ask(folder, daemon, {"verb": "reload", "fresh": fresh}, None)
    return msgspec.convert(reply, Reload)


def ask(folder: RuntimeFolder, daemon: Daemon, request: dict[str, Any], limit_s: float | None) -> dict[str, Any]:
    """The daemon's reply to one request.

    `limit_s` is for the wait between two pieces of it; with `None` only the reply or
    the daemon's end ends the wait. Raises PredictordError if none comes or it is a refusal.
    """
    try:
        with _connect(folder, daemon) as connection:
            connection.settimeout(_REPLY_LIMIT_S)
            connection.sendall(msgspec.json.encode(request) + b"\n")
            connection.settimeout(limit_s)
            with connection.makefile("rb") as replies:
                reply = replies.readline()
    except TimeoutError as error:
        raise PredictordError(f"{daemon.label} does not answer; `kill {daemon.pid}` stops it") from error
    except OSError as error:
        raise PredictordError(f"cannot talk to {daemon.label}: {error.strerror}") from error
    if not reply:
        raise PredictordError(f"{daemon.label} ended before it answered")
    document = msgspec.json.decode(reply, type=dict[str, Any])
    if "refused" in document:
        raise PredictordError(f"{daemon.label} refused: {document['refused']}")
    return document


def _connect(folder: RuntimeFolder, daemon: Daemon) -> socket.socket:
    deadline = time.monotonic() + _CONNECT_LIMIT_S
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(_REPLY_LIMIT_S)
            with socket_address(folder.socket_path(daemon.pid)) as address:
                connection.connect(address)
        except (FileNotFoundError, ConnectionRefusedError, BlockingIOError):
            connection.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE_S)
        except BaseException:
            connection.close()
            raise
        else:
            return connection
