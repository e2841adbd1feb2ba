"""`post_predict` runs after the answer and before the slot's next request."""

from collections.abc import Iterator

import pytest

from tests.daemon import Daemon, eventually, in_background
from tests.ledger import PRELUDE

SYNC = (
    PRELUDE
    + """
class PythonPredictor:
    def predict(self, payload, query_params):
        record("predict", payload["id"])
        if payload.get("stream"):
            return (str(n) for n in range(3))
        self.last = {"scores": (1, 2)}
        return self.last

    def post_predict(self, response, payload, query_params, headers):
        if payload.get("wait"):
            wait_for_file(payload["wait"])
        same = response is self.last if not payload.get("stream") else response
        record("post", payload["id"], same, query_params.get("q"), headers["x-mine"])
        if payload.get("fail"):
            raise ValueError("post_predict went wrong")
"""
)

ASYNC = (
    PRELUDE
    + """
import asyncio

class PythonPredictor:
    async def predict(self, payload):
        record("predict", payload["id"])
        return payload["id"]

    async def post_predict(self, response):
        await asyncio.sleep(0)
        record("post", response)
"""
)

MINE = {"x-mine": "yes"}


@pytest.fixture(scope="module")
def module_daemon() -> Iterator[Daemon]:
    with Daemon(SYNC) as daemon:
        yield daemon


@pytest.fixture
def daemon(module_daemon: Daemon) -> Daemon:
    module_daemon.ledger.clear()
    return module_daemon


def test_gets_what_predict_returned_and_the_arguments(daemon: Daemon) -> None:
    assert daemon.predict({"id": 1}, params={"q": "x"}, headers=MINE).json() == {"scores": [1, 2]}
    eventually(lambda: daemon.ledger.lines() == ["predict 1", "post 1 True x yes"])


def test_gets_none_for_a_stream(daemon: Daemon) -> None:
    assert daemon.predict({"id": 2, "stream": True}, headers=MINE).text == "012"
    eventually(lambda: daemon.ledger.lines() == ["predict 2", "post 2 None None yes"])


def test_runs_after_the_answer_and_before_the_next_request(daemon: Daemon) -> None:
    assert daemon.predict({"id": 3, "wait": "gate3"}, headers=MINE).status_code == 200
    with in_background(lambda: daemon.predict({"id": 4}, headers=MINE)) as answers:
        eventually(lambda: daemon.status()["queue"]["depth"] == 1)
        assert daemon.ledger.lines() == ["predict 3"]
        daemon.open_gate("gate3")
    assert answers[0].status_code == 200
    eventually(
        lambda: (
            [line.split()[:2] for line in daemon.ledger.lines()]
            == [["predict", "3"], ["post", "3"], ["predict", "4"], ["post", "4"]]
        )
    )


def test_what_it_raises_is_logged(daemon: Daemon) -> None:
    pids, start = daemon.worker_pids(), len(daemon.log)
    assert daemon.predict({"id": 5, "fail": True}, headers=MINE).status_code == 200
    daemon.wait_for_line("ValueError: post_predict went wrong", start=start)
    assert daemon.predict({"id": 6}, headers=MINE).status_code == 200
    assert daemon.worker_pids() == pids


def test_async() -> None:
    with Daemon(ASYNC) as daemon:
        assert daemon.predict({"id": "a"}).text == "a"
        eventually(lambda: daemon.ledger.lines() == ["predict a", "post a"])
