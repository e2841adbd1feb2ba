"""Requests are shared out evenly among workers that are free, and a slow worker slows nobody else."""

import time
from collections.abc import Iterator
from threading import Thread

import pytest

from tests.daemon import Daemon, eventually
from tests.faults.recovery import wait_whole, worker
from tests.faults.traffic import Answered, Traffic, ask, by_worker
from tests.ledger import PRELUDE

SOURCE = (
    PRELUDE
    + """
class PythonPredictor:
    def predict(self, payload):
        if payload.get("hold"):
            wait_for_file("go")
        if os.path.exists(f"slow{os.getpid()}"):
            time.sleep(1)
        time.sleep(payload.get("s", 0))
"""
)


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with Daemon(SOURCE, "--workers-per-device", "3") as daemon:
        wait_whole(daemon)
        yield daemon


def test_requests_one_after_another_go_round(daemon: Daemon) -> None:
    def shares() -> dict[str | None, int]:
        return dict(by_worker(ask(daemon, {}) for _ in range(300)))

    # A ping, which takes a worker's slot for an instant every 5 s, may shift one turn.
    assert {"0": 100, "1": 100, "2": 100} in (shares(), shares())


def test_slow_worker_slows_nobody_else(daemon: Daemon) -> None:
    holding = Thread(target=ask, args=[daemon, {"hold": True}])
    holding.start()
    eventually(lambda: daemon.status()["requests"]["in_flight"] == 1)
    (slow,) = [entry["id"] for entry in daemon.status()["workers"] if entry["state"] == "busy"]
    two_alone = rate(daemon, slow)
    daemon.open_gate("go")
    holding.join(10)

    daemon.open_gate(f"slow{worker(daemon, slow)['pid']}")
    assert rate(daemon, slow) > 0.7 * two_alone


def rate(daemon: Daemon, slow: int) -> float:
    """Answers a second, with 16 clients, of the workers other than the slow one."""
    with Traffic(daemon, clients=16, payload={"s": 0.01}) as traffic:
        started = time.monotonic()
        eventually(lambda: time.monotonic() > started + 2.5)
        ended = time.monotonic()
    assert traffic.errors == []
    quick: list[Answered] = [answer for answer in traffic.answers if answer.worker != str(slow)]
    return sum(answer.ended_at < ended for answer in quick) / (ended - started)
