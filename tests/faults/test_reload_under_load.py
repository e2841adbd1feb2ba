"""Saves while 16 clients send without a pause.

`RELOAD_SAVES` and `RELOAD_BROKEN_S` make it longer. Versions are read in the bodies, not told by pids.
"""

import os
import random
import signal
import time
from collections.abc import Iterator

import pytest

from tests.daemon import Daemon, eventually, in_background
from tests.faults.recovery import wait_whole
from tests.faults.saves import answers_of, assert_no_way_back, last_number, save, source, version, wait_reload
from tests.faults.traffic import Traffic

SAVES = int(os.environ.get("RELOAD_SAVES", "12"))
BROKEN_S = float(os.environ.get("RELOAD_BROKEN_S", "8"))
CLIENTS = 16
WORK = "time.sleep(0.01)"
"""In `predict`, so that requests wait in the queue all the time."""
BROKEN = "class PythonPredictor:\n    def predict(self:\n"


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with Daemon(source(1), "--workers-per-device", "2") as daemon:
        wait_whole(daemon)
        yield daemon


class Saving:
    """Saves versions that grow from test to test."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self.version = version(daemon)
        self._load = f"# {self.version}"

    def swap(self) -> str:
        """The next version, that differs in `predict` only."""
        self.version += 1
        return source(self.version, load=self._load, request=WORK)

    def replace(self) -> str:
        """The next version, that differs in `__init__` too."""
        self.version += 1
        self._load = f"self.made_by = {self.version}"
        return source(self.version, load=self._load, request=WORK)

    def settle(self) -> None:
        """The newest version answers."""
        eventually(lambda: version(self._daemon) == self.version, 20)


def wait_able(daemon: Daemon) -> None:
    """Every worker has loaded, whatever it does."""
    eventually(lambda: {one["state"] for one in daemon.status()["workers"]} <= {"ready", "busy"})


def test_nobody_notices_saves(daemon: Daemon) -> None:
    saving = Saving(daemon)
    save(daemon, saving.replace())
    kinds = []
    with Traffic(daemon, CLIENTS) as traffic:
        for number in range(SAVES):
            match number % 4:
                case 0:
                    kinds.append(save(daemon, saving.swap())["kind"])
                case 1:
                    kinds.append(save(daemon, saving.replace())["kind"])
                case 2:
                    kinds.append(save(daemon, BROKEN)["kind"])
                case 3:
                    daemon.write(saving.swap())
                    time.sleep(0.05)
                    kinds.append(save(daemon, saving.replace())["kind"])
            if number % 4 != 2:
                saving.settle()
    traffic.assert_all_answered()
    assert_no_way_back(traffic)
    # The fourth of four is two saves, of which the first may or may not have had its turn.
    expected = ["swap", "replace", "failed", "replace"] * SAVES
    assert [kind for number, kind in enumerate(kinds) if number % 4 < 3] == [
        kind for number, kind in enumerate(expected[:SAVES]) if number % 4 < 3
    ]
    assert answers_of(traffic)[-1].document["version"] == saving.version


def test_only_the_request_of_a_killed_worker_fails(daemon: Daemon) -> None:
    saving, chance = Saving(daemon), random.Random(1)
    wait_whole(daemon)
    kills = 0
    with Traffic(daemon, CLIENTS) as traffic:
        for number in range(SAVES):
            text = BROKEN if number % 4 == 2 else saving.swap() if number % 2 else saving.replace()
            before = last_number(daemon)
            daemon.write(text)
            if number % 3 == 2:
                time.sleep(chance.uniform(0, 0.15))
                os.kill(chance.choice(daemon.worker_pids()), signal.SIGKILL)
                kills += 1
            wait_reload(daemon, before)
            if text is not BROKEN:
                saving.settle()
            wait_able(daemon)
    assert traffic.errors == []
    lost = [one for one in traffic.answers if one.status != 200]
    assert {one.document["code"] for one in lost} <= {"worker_died"}
    assert len(lost) <= kills
    assert_no_way_back(traffic)


def test_a_worker_that_starts_while_code_is_swapped_serves_the_new_code(daemon: Daemon) -> None:
    hold = "if payload == 'hold': record('held'); time.sleep(1)"
    number = version(daemon)
    save(daemon, source(number + 1, load="self.holds = True", request=hold))
    wait_whole(daemon)
    with in_background(lambda: daemon.predict("hold")):
        eventually(lambda: "held" in daemon.ledger.lines())
        (idle,) = [worker["pid"] for worker in daemon.status()["workers"] if worker["state"] == "ready"]
        before = last_number(daemon)
        daemon.write(source(number + 2, load="self.holds = True", request=hold))
        os.kill(idle, signal.SIGKILL)
        wait_reload(daemon, before)
    status = wait_whole(daemon)
    assert {worker["generation"] for worker in status["workers"]} == {status["generation"]}
    assert {version(daemon) for _ in range(10)} == {number + 2}


def test_a_worker_killed_over_a_broken_file_comes_back_with_the_last_good_code(daemon: Daemon) -> None:
    saving = Saving(daemon)
    save(daemon, saving.replace())
    saving.settle()
    with Traffic(daemon, 4) as traffic:
        assert save(daemon, BROKEN)["kind"] == "failed"
        time.sleep(BROKEN_S / 2)
        pids = daemon.worker_pids()
        os.kill(pids[0], signal.SIGKILL)
        eventually(lambda: pids[0] not in daemon.worker_pids())
        wait_able(daemon)
        time.sleep(BROKEN_S / 2)
        status = daemon.status()
    lost = [one.document["code"] for one in traffic.answers if one.status != 200]
    assert (traffic.errors, lost in ([], ["worker_died"])) == ([], True)
    assert {one.document["version"] for one in answers_of(traffic)} == {saving.version}
    assert set(daemon.worker_pids()) <= {one.document["pid"] for one in answers_of(traffic)}
    assert "SyntaxError" in status["reload"]["error"]
    assert status["state"] == "ready"
    assert save(daemon, saving.swap())["kind"] in ("swap", "replace")


def test_of_a_hundred_quick_saves_the_last_one_is_served(daemon: Daemon) -> None:
    saving, chance = Saving(daemon), random.Random(2)
    wait_whole(daemon)
    loads = len(daemon.ledger.lines())
    started = time.monotonic()
    with Traffic(daemon, 4) as traffic:
        for number in range(100):
            daemon.write(saving.replace() if number % 2 else saving.swap())
            time.sleep(chance.uniform(0, 0.04))
        saving.settle()
        passed_s = time.monotonic() - started
    traffic.assert_all_answered()
    assert_no_way_back(traffic)
    wait_whole(daemon)
    assert (len(daemon.ledger.lines()) - loads) / 2 <= passed_s / 0.3 + 2
