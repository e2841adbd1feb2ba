"""The storm: many requests, leaving clients, dying workers, and one account of it all.

The clients' log and the predictor's ledger must join. `STORM_REQUESTS` and `STORM_KILLS` make
it longer, and `STORM_SEED` another one.
"""

import json
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple
from uuid import uuid4

import h11

from tests.daemon import Daemon
from tests.faults.recovery import wait_whole
from tests.ledger import PRELUDE
from tests.raw_http import RawConnection, request

REQUESTS = int(os.environ.get("STORM_REQUESTS", "3000"))
KILLS = int(os.environ.get("STORM_KILLS", "10"))
SEED = int(os.environ.get("STORM_SEED", "1"))
CLIENTS, WORKERS, CONCURRENCY = 16, 3, 2
LEAVE_CHANCE = 0.05

SOURCE = (
    PRELUDE
    + """
class PythonPredictor:
    def predict(self, payload, headers):
        record(headers["x-request-id"], os.getpid())
        time.sleep(payload["seconds"])
        return {"echo": payload["echo"]}
"""
)


class Outcome(NamedTuple):
    """What one client saw of one request; status 0 is a connection error, and `None` a client that has left."""

    id: str
    status: int | None
    code: str = ""
    place: str | None = None
    is_right: bool = False
    error: str = ""


class Kill(NamedTuple):
    """One SIGKILL for a worker."""

    place: int
    pid: int


class StormClient:
    """Sends requests one after the other, on one connection or on a new one each time."""

    def __init__(self, port: int, keeps_alive: bool, chance: random.Random) -> None:
        self._port = port
        self._keeps_alive = keeps_alive
        self._chance = chance
        self._connection: RawConnection | None = None

    def run(self, count: int) -> list[Outcome]:
        """Send so many."""
        outcomes = [self._send() for _ in range(count)]
        self._hang_up()
        return outcomes

    def _send(self) -> Outcome:
        id, echo = uuid4().hex, self._chance.randbytes(8).hex()
        body = json.dumps({"echo": echo, "seconds": self._chance.choice([0, 0, 0.002, 0.01])}).encode()
        headers = [("Content-Type", "application/json"), ("X-Request-Id", id)]
        if self._connection is None:
            self._connection = RawConnection(self._port)
        connection = self._connection
        connection.send(request(headers=headers, body=body))
        if self._chance.random() < LEAVE_CHANCE:
            time.sleep(self._chance.choice([0, 0.002]))
            self._hang_up()
            return Outcome(id, None)
        try:
            answer = connection.answer()
        except (h11.RemoteProtocolError, OSError) as error:
            self._hang_up()
            return Outcome(id, 0, error=repr(error))
        if not self._keeps_alive:
            self._hang_up()
        document = json.loads(answer.body)
        is_right = answer.header("x-request-id") == id and document.get("echo", echo) == echo
        place = answer.header("x-predictord-worker")
        return Outcome(id, answer.status, document.get("code", ""), place, is_right)

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.socket.close()
            self._connection = None


def kill_workers(daemon: Daemon, chance: random.Random, is_over: Callable[[], bool]) -> list[Kill]:
    """SIGKILL a ready worker now and then, so that the kills spread over the storm."""
    kills: list[Kill] = []
    while len(kills) < KILLS and not is_over():
        time.sleep(chance.uniform(0.05, 0.25))
        alive = [worker for worker in daemon.status()["workers"] if worker["state"] in ("ready", "busy")]
        if len(alive) > 1:
            victim = chance.choice(alive)
            os.kill(victim["pid"], signal.SIGKILL)
            kills.append(Kill(victim["id"], victim["pid"]))
    return kills


def test_the_account_of_a_storm_is_complete() -> None:
    chance = random.Random(SEED)
    flags = ("--workers-per-device", str(WORKERS), "--concurrency", str(CONCURRENCY))
    with Daemon(SOURCE, *flags) as daemon:
        wait_whole(daemon)
        clients = [StormClient(daemon.port, number % 2 == 0, random.Random(chance.random())) for number in range(16)]
        assert len(clients) == CLIENTS
        over = threading.Event()
        with ThreadPoolExecutor(CLIENTS + 1) as pool:
            killing = pool.submit(kill_workers, daemon, random.Random(SEED), over.is_set)
            running = [pool.submit(client.run, REQUESTS // CLIENTS) for client in clients]
            outcomes = [outcome for future in running for outcome in future.result(600)]
            over.set()
            kills = killing.result(60)
        wait_whole(daemon, 60)
        executed = [line.split() for line in daemon.ledger.lines()]
        assert_complete(outcomes, executed, kills)
        status = daemon.status()
        assert status["queue"]["depth"] == status["requests"]["in_flight"] == 0


def assert_complete(outcomes: list[Outcome], executed: list[list[str]], kills: list[Kill]) -> None:
    """Join what the clients saw with what ran and with who was killed."""
    assert len(outcomes) == REQUESTS // CLIENTS * CLIENTS
    assert len(kills) >= KILLS // 2, "the storm was over before it was one"
    assert [one for one in outcomes if one.status not in (None, 200, 502)] == []

    times = Counter(id for id, _ in executed)
    assert max(times.values()) == 1, "a request ran twice"
    assert times.keys() <= {one.id for one in outcomes}
    answered = [one for one in outcomes if one.status == 200]
    assert [one for one in answered if times[one.id] != 1 or not one.is_right] == []

    lost = [one for one in outcomes if one.status == 502]
    assert {one.code for one in lost} <= {"worker_died"}
    pid_of = dict(executed)
    victims = {str(kill.pid) for kill in kills}
    assert [one for one in lost if one.id in pid_of and pid_of[one.id] not in victims] == []
    killed_at = Counter(str(kill.place) for kill in kills)
    for place, count in Counter(one.place for one in lost).items():
        assert place is not None
        assert count <= killed_at[place] * CONCURRENCY
