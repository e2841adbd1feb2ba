"""How long a save takes to be live, under requests that must not fail."""

import statistics
import time

import orjson

from benchmarks.connection import Connection
from benchmarks.server import Server, ServerFailed

_LIMIT_S = 30
_BETWEEN_SAVES_S = 1.0
"""Nobody saves more often, and saves that come faster are taken together."""


def time_reloads(server: Server, key: str, before: str, count: int) -> float:
    """Milliseconds from a save to the first answer of the new code, the median of so many saves.

    Each save gives what is now `{before}{number}` in the predictor's file the next number, which
    the answers then have as `key`. Raises ServerFailed if a request fails meanwhile.
    """
    with Connection(server.port) as connection:
        return statistics.median(
            _time_save(server, connection, key, f"{before}{number}", f"{before}{number + 1}") for number in range(count)
        )


def _time_save(server: Server, connection: Connection, key: str, old: str, new: str) -> float:
    time.sleep(_BETWEEN_SAVES_S)
    wanted = int(new.rpartition(" ")[2])
    draft = server.predictor.with_suffix(".draft")
    draft.write_text(server.predictor.read_text().replace(old, new))
    saved = time.perf_counter()
    draft.replace(server.predictor)
    while time.perf_counter() < saved + _LIMIT_S:
        status, body = connection.ask(server.request)
        if status != 200:
            raise ServerFailed(f"answered with {status} while it reloaded: {bytes(body)!r}")
        if orjson.loads(body)[key] == wanted:
            return (time.perf_counter() - saved) * 1e3
        time.sleep(0.001)
    raise ServerFailed(f"a save was not live after {_LIMIT_S} s: {server.log_end()}")
