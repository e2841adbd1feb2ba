"""How long a daemon takes to be whole again, in multiples of what one load takes on this machine."""

import re
from typing import Any

from tests.daemon import Daemon, eventually

SLACK = 3.0
"""Fixed limits are asserted with this factor: test machines are slow and shared."""

_READY = re.compile(r"ready in (\d+\.\d+) s")


def load_time_s(daemon: Daemon) -> float:
    """T0: the longest time from spawn to ready so far."""
    return max(float(match[1]) for match in _READY.finditer(daemon.log_text()))


def wait_whole(daemon: Daemon, deadline_s: float = 20) -> dict[str, Any]:
    """The status once every worker is ready and nothing is in hand."""

    def whole() -> dict[str, Any] | None:
        status = daemon.status()
        states = {worker["state"] for worker in status["workers"]}
        return status if states == {"ready"} and not status["requests"]["in_flight"] else None

    status = eventually(whole, deadline_s)
    assert status is not None
    return status


def worker(daemon: Daemon, place: int) -> dict[str, Any]:
    """What `/status` says of the worker in this place."""
    entry: dict[str, Any] = daemon.status()["workers"][place]
    return entry


def assert_replaced(daemon: Daemon, place: int, pid: int) -> None:
    """Another process is ready in this place within 2 * T0 + 2 s."""

    def replaced() -> bool:
        entry = worker(daemon, place)
        return bool(entry["state"] == "ready" and entry["pid"] != pid)

    eventually(replaced, 2 * load_time_s(daemon) + 2)
