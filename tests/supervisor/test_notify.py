"""What a service manager is told, over a socket of the kind that systemd listens on."""

import os
import signal
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from predictord.supervisor.notify import Announcements, watchdog_interval_s
from tests.daemon import Daemon, eventually, in_background
from tests.ledger import PRELUDE

GATED = (
    PRELUDE
    + """
class Predictor:
    def __init__(self):
        wait_for_file("load")

    def predict(self):
        wait_for_file("go")
        return "one"
"""
)
ECHO = "class Predictor:\n    def predict(self):\n        return 'one'\n"
ENVIRONMENT = """
import os

class Predictor:
    def predict(self):
        return [name for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID") if name in os.environ]
"""


class Manager:
    """Stands in for systemd: a bound datagram socket, and what has arrived on it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.statuses: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def next(self, within_s: float = 20) -> list[str]:
        """The next notification's assignments, statuses apart; `[]` if none comes in time."""
        deadline = time.monotonic() + within_s
        while (left := deadline - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                lines = self._socket.recv(4096).decode().split("\n")
            except TimeoutError:
                break
            self.statuses += [line for line in lines if line.startswith("STATUS=")]
            if others := [line for line in lines if not line.startswith("STATUS=")]:
                return others
        return []


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    with Manager(str(tmp_path / "notify")) as manager:
        yield manager


def test_start_reloads_and_stop_are_told_in_order(manager: Manager) -> None:
    with Daemon(GATED, environment={"NOTIFY_SOCKET": manager.address}, wait_ready=False) as daemon:
        daemon.wait_for_line("serving")
        assert manager.next(within_s=0.5) == []
        assert manager.statuses[-1] == "STATUS=starting: 0 of 1 worker ready, generation 1"
        daemon.open_gate("load")
        assert manager.next() == ["READY=1"]
        assert daemon.client.get("/readyz").status_code == 200
        assert manager.statuses[-1] == "STATUS=ready: 1 of 1 worker ready, generation 1"

        for save, status in (
            (GATED.replace("one", "two"), "ready: 1 of 1 worker ready, generation 2"),
            (
                GATED.replace("self", "self, own", 1),
                "ready: 1 of 1 worker ready, generation 2; the last reload failed: ",
            ),
        ):
            asked_us = time.monotonic_ns() // 1000
            daemon.write(save)
            reloading, since = manager.next()
            name, _, at_us = since.partition("=")
            assert (reloading, name) == ("RELOADING=1", "MONOTONIC_USEC")
            assert asked_us <= int(at_us) <= time.monotonic_ns() // 1000
            assert manager.next() == ["READY=1"]
            assert manager.statuses[-1].startswith(f"STATUS={status}")

        with in_background(lambda: daemon.predict("wait")) as answers:
            eventually(lambda: daemon.status()["requests"]["in_flight"] == 1)
            daemon.signal(signal.SIGTERM)
            assert manager.next() == ["STOPPING=1"]
            daemon.open_gate("go")
        assert daemon.wait() == 0
        assert answers[0].text == "two"
        assert manager.next(within_s=0.2) == []


def test_sighup_reloads_and_says_so(manager: Manager) -> None:
    with Daemon(ECHO, environment={"NOTIFY_SOCKET": manager.address}) as daemon:
        assert manager.next() == ["READY=1"]
        daemon.signal(signal.SIGHUP)
        assert manager.next()[0] == "RELOADING=1"
        assert manager.next() == ["READY=1"]
        assert daemon.status()["generation"] == 2


def test_a_predictor_that_does_not_load_is_not_ready_until_a_save_cures_it(manager: Manager) -> None:
    with Daemon("1 / 0", environment={"NOTIFY_SOCKET": manager.address}, wait_ready=False) as daemon:
        daemon.wait_for_line("ZeroDivisionError")
        assert manager.next(within_s=0.5) == []
        assert manager.statuses[-1].startswith("STATUS=failed: 0 of 1 worker ready")
        assert "the predictor did not load: ZeroDivisionError: division by zero" in manager.statuses[-1]
        daemon.write(ECHO)
        assert manager.next() == ["READY=1"]


def test_an_abstract_address_does() -> None:
    with (
        Manager(f"@predictord-test-{uuid.uuid4()}") as manager,
        Daemon(ECHO, environment={"NOTIFY_SOCKET": manager.address}),
    ):
        assert manager.next() == ["READY=1"]


def test_signs_of_life_come_while_the_loop_turns(manager: Manager) -> None:
    environment = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "200000"}
    with Daemon(ECHO, environment=environment) as daemon:
        told = [manager.next() for _ in range(6)]
        assert told.count(["READY=1"]) == 1
        assert told.count(["WATCHDOG=1"]) == 5
        daemon.signal(signal.SIGSTOP)
        while manager.next(within_s=0.5):
            pass  # what was on its way
        daemon.signal(signal.SIGCONT)
        assert manager.next() == ["WATCHDOG=1"]


def test_workers_cannot_speak_for_the_daemon(manager: Manager) -> None:
    environment = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}
    with Daemon(ENVIRONMENT, environment=environment) as daemon:
        assert daemon.predict().json() == []


def test_a_service_manager_that_is_gone_stops_nothing(tmp_path: Path) -> None:
    with Daemon(ECHO, environment={"NOTIFY_SOCKET": f"{tmp_path}/gone"}) as daemon:
        daemon.wait_for_line(
            r"the service manager cannot be told anything: NOTIFY_SOCKET is '.*/gone' \(.*No such file"
        )
        assert daemon.predict().text == "one"


@pytest.mark.parametrize(
    ("events", "told"),
    [
        (["", "a", "a", "s"], [[], ["READY=1"], [], ["STOPPING=1"]]),
        (["a", "ar", "ar", "a"], [["READY=1"], ["RELOADING=1"], [], ["READY=1"]]),
        (["a", "r", "", "a"], [["READY=1"], ["RELOADING=1"], ["READY=1"], []]),
        (["a", "", "a"], [["READY=1"], [], []]),
        (["r", "ar", "a"], [[], [], ["READY=1"]]),
        (["a", "r", "sr", "s"], [["READY=1"], ["RELOADING=1"], ["STOPPING=1"], []]),
        (["", "s", "as"], [[], ["STOPPING=1"], []]),
    ],
)  # fmt: skip
def test_what_is_due_when(events: list[str], told: list[list[str]]) -> None:
    """Each event is what is so: a worker can (a)nswer, (r)eloading, (s)topping."""
    announcements = Announcements()
    due = [announcements.due(can_answer="a" in so, reloading="r" in so, stopping="s" in so) for so in events]
    assert [lines[:1] for lines in due] == told


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_how_often_life_is_shown(environment: dict[str, str], expected: float | None) -> None:
    assert watchdog_interval_s(environment, os.getpid()) == expected
