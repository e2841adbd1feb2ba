"""Which thread runs the predictor's code."""

from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.daemon import Daemon, eventually
from tests.ledger import PRELUDE

SYNC = (
    PRELUDE
    + """
import json, signal, threading

def where():
    # The kernel's main thread, whatever the interpreter of a forked process believes.
    return threading.current_thread() is threading.main_thread() and threading.get_native_id() == os.getpid()

IMPORTED = where()

class PythonPredictor:
    def __init__(self):
        self.built = where()
        signal.signal(signal.SIGUSR1, lambda *_: None)
        self.inside = self.most = 0

    def predict(self):
        self.inside += 1
        self.most = max(self.most, self.inside)
        time.sleep(0.02)
        self.inside -= 1
        return {"import": IMPORTED, "init": self.built, "predict": where(), "most": self.most}

    def post_predict(self):
        record(where())
"""
)

THREADED = """
import threading

class PythonPredictor:
    concurrency = 2

    def __init__(self, config):
        self.meeting = threading.Barrier(config["meet"])

    def predict(self):
        self.meeting.wait(20)  # broken unless that many predictions run at once
        return threading.get_ident()
"""

ASYNC = """
import asyncio, threading

LOOP = asyncio.get_running_loop()
THREAD = threading.get_ident()

class PythonPredictor:
    def __init__(self):
        self.same = asyncio.get_running_loop() is LOOP and threading.get_ident() == THREAD
        self.task = asyncio.create_task(self.work())
        self.meeting = asyncio.Barrier(32)

    async def work(self):
        return "worked"

    async def predict(self, query_params):
        if "meet" in query_params:
            await asyncio.wait_for(self.meeting.wait(), 20)
        return {
            "init": self.same,
            "predict": asyncio.get_running_loop() is LOOP and threading.get_ident() == THREAD,
            "task": await self.task,
        }
"""


def predict_at_once(daemon: Daemon, count: int, **arguments: object) -> list[httpx.Response]:
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda _: daemon.predict({}, **arguments), range(count)))


def test_all_of_it_is_on_the_main_thread_one_at_a_time() -> None:
    with Daemon(SYNC) as daemon:
        for response in predict_at_once(daemon, 4):
            assert response.json() == {"import": True, "init": True, "predict": True, "most": 1}
        eventually(lambda: daemon.ledger.lines() == ["True"] * 4)


def test_more_concurrency_is_as_many_threads() -> None:
    with Daemon(THREADED, "--concurrency", "4", "--config", "meet=4") as daemon:
        answers = predict_at_once(daemon, 4)
        assert [answer.status_code for answer in answers] == [200] * 4, answers[0].text
        assert len({answer.json() for answer in answers}) == 4


def test_concurrency_as_a_class_attribute() -> None:
    with Daemon(THREADED, "--config", "meet=2") as daemon:
        assert len({answer.json() for answer in predict_at_once(daemon, 2)}) == 2


def test_async_runs_on_the_loops_thread() -> None:
    with Daemon(ASYNC) as daemon:
        assert daemon.predict({}).json() == {"init": True, "predict": True, "task": "worked"}


def test_async_works_on_32_at_once() -> None:
    with Daemon(ASYNC) as daemon:
        answers = predict_at_once(daemon, 32, params={"meet": "1"})
        assert {answer.status_code for answer in answers} == {200}, answers[0].text
