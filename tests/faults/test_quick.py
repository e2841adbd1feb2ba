"""A predictor so quick that requests wait at the worker itself: each still stands or falls alone."""

import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Self

import pytest

from tests.daemon import Daemon, eventually, in_background
from tests.faults.recovery import wait_whole
from tests.ledger import PRELUDE
from tests.raw_http import Answer, RawConnection, request

CLIENTS = 48

ACTOR = (
    PRELUDE
    + """
import signal

VERSION = 1

def kill(): os.kill(os.getpid(), signal.SIGKILL)
def nap():
    time.sleep(0.3)
    record("napped")
def stream():
    def pieces():
        yield "start"
        wait_for_file("go")
        yield "end"
    return pieces()

class PythonPredictor:
    def predict(self, payload):
        record(payload["id"], VERSION, os.getpid())
        act = globals().get(payload["act"], dict)
        return act() or {"id": payload["id"], "version": VERSION}
"""
)


class Crowd:
    """Kept connections that all ask at once, over and over."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._stack = ExitStack()
        self._asked = 0

    def __enter__(self) -> Self:
        self._connections = [self._stack.enter_context(RawConnection(self._daemon.port)) for _ in range(CLIENTS)]
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def ask(self, acts: dict[int, str] | None = None) -> dict[str, Answer]:
        """One request of each connection, `acts` of those at these positions; the answers by id."""
        ids = []
        for position, connection in enumerate(self._connections):
            self._asked += 1
            ids.append(f"r{self._asked}")
            body = json.dumps({"id": ids[-1], "act": (acts or {}).get(position, "")}).encode()
            connection.send(request(headers=[("Content-Type", "application/json")], body=body))
        return {id: connection.answer() for id, connection in zip(ids, self._connections, strict=True)}

    def prove(self) -> None:
        """Let predictions be quick for a while."""
        for _ in range(4):
            assert {answer.status for answer in self.ask().values()} == {200}


@contextmanager
def crowded(workers: int, source: str = ACTOR, *flags: str) -> Iterator[tuple[Daemon, Crowd]]:
    with Daemon(source, "--workers-per-device", str(workers), *flags) as daemon, Crowd(daemon) as crowd:
        wait_whole(daemon)
        crowd.prove()
        yield daemon, crowd


def assert_each_ran_once(daemon: Daemon, answers: dict[str, Answer]) -> None:
    ran = daemon.ledger.ids()
    assert {id: count for id, count in ran.items() if count > 1} == {}
    assert [id for id, answer in answers.items() if answer.status == 200 and not ran[id]] == []


@pytest.mark.parametrize("workers", [1, 2])
def test_a_request_that_kills_its_worker_takes_no_other_along(workers: int) -> None:
    rng = random.Random(workers)
    with crowded(workers) as (daemon, crowd):
        for _ in range(5):
            crowd.prove()
            poison = rng.randrange(CLIENTS)
            answers = crowd.ask({poison: "kill"})
            statuses = Counter(answer.status for answer in answers.values())
            assert statuses == {200: CLIENTS - 1, 502: 1}
            assert list(answers.values())[poison].status == 502
            assert_each_ran_once(daemon, answers)
            wait_whole(daemon)


def test_a_worker_killed_from_outside_costs_one_request_at_most() -> None:
    with crowded(2) as (daemon, crowd):
        for round in range(5):
            crowd.prove()
            pid = daemon.worker_pids()[round % 2]

            def kill(pid: int = pid) -> None:
                time.sleep(0.002)
                os.kill(pid, signal.SIGKILL)

            with in_background(kill):
                answers: dict[str, Answer] = {}
                for _ in range(5):
                    answers |= crowd.ask()
            statuses = Counter(answer.status for answer in answers.values())
            assert statuses[502] <= 1
            assert statuses[200] + statuses[502] == len(answers)
            assert_each_ran_once(daemon, answers)
            wait_whole(daemon)


def test_nobody_waits_for_a_slow_one_while_another_worker_is_free() -> None:
    with crowded(2) as (daemon, crowd):
        for position in (0, 10, 20, 30, 40):
            crowd.prove()
            daemon.ledger.clear()
            answers = crowd.ask({position: "nap"})
            assert {answer.status for answer in answers.values()} == {200}
            assert daemon.ledger.lines()[-1] == "napped"
            assert_each_ran_once(daemon, answers)


@pytest.mark.parametrize("flags", [("--concurrency", "1"), ("--concurrency", "2")], ids=" ".join)
@pytest.mark.parametrize("kind", ["def", "async def"])
def test_other_kinds_of_workers_are_not_held_up_by_a_slow_one(kind: str, flags: tuple[str, str]) -> None:
    with crowded(1, ACTOR.replace("def predict", f"{kind} predict"), *flags) as (daemon, crowd):
        for position in (0, 20, 40):
            daemon.ledger.clear()
            answers = crowd.ask({position: "nap"})
            assert {answer.status for answer in answers.values()} == {200}
            assert_each_ran_once(daemon, answers)
            crowd.prove()


def test_nobody_waits_for_a_stream_while_another_worker_is_free() -> None:
    with crowded(2) as (daemon, crowd):
        daemon.ledger.clear()

        def let_it_end() -> None:
            eventually(lambda: len(daemon.ledger.lines()) == CLIENTS)
            daemon.open_gate("go")

        with in_background(let_it_end):
            answers = crowd.ask({20: "stream"})
        assert list(answers.values())[20].body == b"startend"
        assert {answer.status for answer in answers.values()} == {200}
        assert_each_ran_once(daemon, answers)


@pytest.mark.parametrize("kind", ["swap", "replace"])
def test_nobody_sees_an_older_version_again(kind: str) -> None:
    with crowded(1) as (daemon, crowd):
        newest = 1
        for version in range(2, 6):
            crowd.prove()
            source = ACTOR.replace("VERSION = 1", f"VERSION = {version}")
            if kind == "replace":
                source = source.replace(
                    "    def predict(", f"    def __init__(self): print({version})\n\n    def predict("
                )
            daemon.write(source)
            end = time.monotonic() + 20
            while newest < version:
                assert time.monotonic() < end
                answers = crowd.ask()
                versions = {document(answer)["version"] for answer in answers.values()}
                assert min(versions) >= newest
                assert_each_ran_once(daemon, answers)
                newest = max(versions)
            assert {document(answer)["version"] for answer in crowd.ask().values()} == {version}
        assert eventually(lambda: daemon.status()["reload"])["kind"] == kind


def document(answer: Answer) -> Any:
    assert answer.status == 200, answer
    return json.loads(answer.body)
