"""Predictions that do not end: 504 with the stack, the worker killed from outside, service whole again."""

import json
import os
import signal
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.daemon import Daemon, eventually, in_background
from tests.faults.recovery import SLACK, assert_replaced, load_time_s, wait_whole, worker
from tests.faults.traffic import Answered, Traffic, ask, assert_once
from tests.ledger import PRELUDE
from tests.raw_http import RawConnection, request

LIMIT_S = 1.0
"""D, the deadline of a prediction."""

TROUBLES = (
    PRELUDE
    + """
import asyncio, ctypes, signal

def sleep(): time.sleep(1e4)

def hold_the_gil():
    library, mutex = ctypes.PyDLL(None), (ctypes.c_char * 64)()
    library.pthread_mutex_lock(mutex)
    library.pthread_mutex_lock(mutex)

def ignore_signals():
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)
    hold_the_gil()

def spin():
    while True: pass

def nothing(): pass
"""
)

SYNC = (
    TROUBLES
    + """
class PythonPredictor:
    def predict(self, payload, headers):
        record(headers["x-request-id"], "1", os.getpid())
        if "s" in payload:
            time.sleep(payload["s"])
        globals()[payload.get("act", "nothing")]()
        return {"pid": os.getpid()}
"""
)


@pytest.fixture(scope="module")
def module_daemon() -> Iterator[Daemon]:
    with Daemon(SYNC, "--workers-per-device", "2", "--request-timeout", f"{LIMIT_S}s") as daemon:
        yield daemon


@pytest.fixture
def daemon(module_daemon: Daemon) -> Daemon:
    wait_whole(module_daemon)
    module_daemon.ledger.clear()
    return module_daemon


def pid_of(daemon: Daemon, answer: Answered) -> int:
    """The worker process that executed a request."""
    (pid,) = [int(line.split()[2]) for line in daemon.ledger.lines() if line.startswith(answer.id)]
    return pid


def assert_timed_out(answer: Answered) -> None:
    """504 within the limit and half a second."""
    assert (answer.status, answer.document["code"]) == (504, "predict_timeout"), answer
    assert LIMIT_S <= answer.seconds < LIMIT_S + 0.5 * SLACK
    assert "--request-timeout" in answer.document["detail"]
    assert str(answer.document["worker"]) == answer.worker


def assert_points_at(daemon: Daemon, answer: Answered, function: str, source_line: str) -> None:
    """The traceback has the predictor's frame: file, line, function, source line."""
    rows = daemon.predictor.read_text().splitlines()
    (number,) = [number for number, row in enumerate(rows, 1) if row.strip() == source_line]
    frame = f'  File "{daemon.predictor}", line {number}, in {function}\n    {source_line}'
    assert frame in answer.document["traceback"]
    assert "predictord/worker" not in answer.document["traceback"]


def percentile_99(answers: list[Answered]) -> float:
    return sorted(answer.seconds for answer in answers)[int(len(answers) * 0.99)]


# --- H1, H3: sync

HANGS = {
    "sleep": ("sleep", "def sleep(): time.sleep(1e4)"),
    "spin": ("spin", "while True: pass"),
    "hold_the_gil": ("predict", 'globals()[payload.get("act", "nothing")]()'),
    "ignore_signals": ("ignore_signals", "hold_the_gil()"),
}


@pytest.mark.parametrize(("act", "function", "line"), [(act, *frame) for act, frame in HANGS.items()], ids=HANGS)
def test_hang_is_answered_with_its_stack_and_ended(daemon: Daemon, act: str, function: str, line: str) -> None:
    with Traffic(daemon, clients=1) as before:
        eventually(lambda: len(before.answers) >= 200)
    with Traffic(daemon, clients=1) as beside:
        answer = ask(daemon, {"act": act})
        pid = pid_of(daemon, answer)
        eventually(lambda: pid not in daemon.worker_pids(), SLACK)
        assert_replaced(daemon, int(answer.worker or -1), pid)
    assert_timed_out(answer)
    assert_points_at(daemon, answer, function, line)
    beside.assert_all_answered()
    assert percentile_99(beside.answers) < max(2 * percentile_99(before.answers), 0.02) * SLACK
    assert_once(daemon, [answer, *before.answers, *beside.answers])
    assert answer.worker in {ask(daemon, {}).worker for _ in range(2)}


def test_answer_that_comes_late_is_the_only_one(daemon: Daemon) -> None:
    """While the stack is taken the prediction may end after all."""
    pids = daemon.worker_pids()
    with in_background(lambda: late_answer(daemon, 0.005), lambda: late_answer(daemon, 0.02)) as answers:
        pass
    assert 200 in answers
    wait_whole(daemon)
    assert answers.count(504) == len(set(pids) - set(daemon.worker_pids()))


def late_answer(daemon: Daemon, late_s: float) -> int:
    """The status of the one answer on a connection that asks something else thereafter."""
    with RawConnection(daemon.port) as connection:
        body = json.dumps({"s": LIMIT_S + late_s}).encode()
        headers = [("Content-Type", "application/json"), ("X-Request-Id", f"late-{late_s}")]
        connection.send(request(headers=headers, body=body))
        status = connection.answer().status
        time.sleep(0.3)  # for as long as a stack may take to come
        connection.send(request("GET", "/healthz"))
        assert connection.answer("GET").body == b"ok\n"
        return status


def test_worker_that_dies_while_its_stack_is_taken_is_just_replaced(daemon: Daemon) -> None:
    with in_background(lambda: ask(daemon, {"act": "sleep"})) as answers:
        eventually(daemon.ledger.lines)
        due = time.monotonic() + LIMIT_S
        pid = int(daemon.ledger.lines()[0].split()[2])
        os.kill(pid, signal.SIGSTOP)  # so that no stack comes
        eventually(lambda: time.monotonic() > due + 0.1)
        os.kill(pid, signal.SIGKILL)
    assert answers[0].status in (502, 504)
    wait_whole(daemon)


# --- H5: all of them


def test_all_workers_hang_and_the_queue_lives_on(daemon: Daemon) -> None:
    def hang() -> Answered:
        return ask(daemon, {"act": "sleep"})

    with in_background(hang, hang) as hung:
        eventually(lambda: daemon.status()["requests"]["in_flight"] == 2)
        with in_background(*[lambda: ask(daemon, {})] * 4) as queued:
            eventually(lambda: daemon.status()["queue"]["depth"] == 4)
        fresh = ask(daemon, {})
    for answer in hung:
        assert_timed_out(answer)
        assert "def sleep" in answer.document["traceback"]
    assert [answer.status for answer in [*queued, fresh]] == [200] * 5
    assert max(answer.seconds for answer in queued) < LIMIT_S + 3 * load_time_s(daemon) + 3
    assert_once(daemon, [*hung, *queued, fresh])


def test_threads_of_one_worker_that_hang_together_each_have_their_stack() -> None:
    with Daemon(SYNC, "--concurrency", "4", "--request-timeout", f"{LIMIT_S}s") as daemon:
        with in_background(*[lambda: ask(daemon, {"act": "sleep"})] * 4) as answers:
            pass
        for answer in answers:
            assert_timed_out(answer)
            assert_points_at(daemon, answer, "sleep", "def sleep(): time.sleep(1e4)")
        wait_whole(daemon)


def test_company_of_a_hung_thread_may_finish() -> None:
    with Daemon(SYNC, "--concurrency", "2", "--request-timeout", f"{LIMIT_S}s") as daemon:
        with in_background(lambda: ask(daemon, {"act": "sleep"})) as hung:
            eventually(lambda: daemon.status()["requests"]["in_flight"] == 1)
            begun = time.monotonic()
            eventually(lambda: time.monotonic() > begun + LIMIT_S - 0.4)
            beside = ask(daemon, {"s": 0.8})
        assert_timed_out(hung[0])
        assert (beside.status, beside.document["pid"]) == (200, pid_of(daemon, hung[0]))


# --- H2: async

ASYNC = (
    TROUBLES
    + """
async def never(): await asyncio.Event().wait()

async def disobey():
    while True:
        try:
            await asyncio.sleep(1e4)
        except asyncio.CancelledError:
            pass

async def block(): time.sleep(1e4)

class PythonPredictor:
    async def predict(self, payload, headers):
        record(headers["x-request-id"], "1", os.getpid())
        if "act" in payload:
            await globals()[payload["act"]]()
        await asyncio.sleep(payload.get("s", 0))
        return {"pid": os.getpid()}
"""
)


@pytest.fixture(scope="module")
def module_async_daemon() -> Iterator[Daemon]:
    with Daemon(ASYNC, "--request-timeout", f"{LIMIT_S}s") as daemon:
        yield daemon


@pytest.fixture
def async_daemon(module_async_daemon: Daemon) -> Daemon:
    wait_whole(module_async_daemon)
    module_async_daemon.ledger.clear()
    return module_async_daemon


def test_async_hang_is_cancelled_and_the_worker_kept(async_daemon: Daemon) -> None:
    pids = async_daemon.worker_pids()
    with in_background(lambda: ask(async_daemon, {"act": "never"})) as answers:
        eventually(lambda: async_daemon.status()["requests"]["in_flight"] == 1)
        beside = [ask(async_daemon, {"s": 0.9}) for _ in range(2)]
    assert_timed_out(answers[0])
    assert_points_at(async_daemon, answers[0], "never", "async def never(): await asyncio.Event().wait()")
    assert [answer.status for answer in beside] == [200, 200]
    assert async_daemon.worker_pids() == pids


@pytest.mark.parametrize(
    ("act", "line"),
    [("block", "async def block(): time.sleep(1e4)"), ("disobey", "")],
)
def test_async_hang_that_can_not_be_cancelled_ends_the_worker(async_daemon: Daemon, act: str, line: str) -> None:
    pid = worker(async_daemon, 0)["pid"]
    answer = ask(async_daemon, {"act": act})
    assert_timed_out(answer)
    if line:
        assert_points_at(async_daemon, answer, act, line)
    assert_replaced(async_daemon, 0, pid)
    assert ask(async_daemon, {}).status == 200


# --- H6: streams

STREAM = (
    PRELUDE
    + """
class PythonPredictor:
    def predict(self, payload):
        for pause_s in payload:
            time.sleep(pause_s)
            yield "item "
"""
)


@pytest.fixture(scope="module")
def streamer() -> Iterator[Daemon]:
    with Daemon(STREAM, "--request-timeout", f"{LIMIT_S}s") as daemon:
        yield daemon


def test_limit_of_a_stream_is_from_item_to_item(streamer: Daemon) -> None:
    assert streamer.predict([0.6] * 4).text == "item " * 4


@pytest.mark.parametrize("accept", ["*/*", "text/event-stream"])
def test_stalled_stream_is_cut(streamer: Daemon, accept: str) -> None:
    wait_whole(streamer)
    pid, start, received = worker(streamer, 0)["pid"], len(streamer.log), b""
    last_at = time.monotonic()
    with (
        pytest.raises(httpx.RemoteProtocolError),
        streamer.client.stream("POST", "/predict", json=[0, 0, 1e4], headers={"accept": accept}) as response,
    ):
        for piece in response.iter_raw():
            received += piece
            last_at = time.monotonic() if b"error" not in piece else last_at
    assert LIMIT_S * 0.9 < time.monotonic() - last_at < LIMIT_S + 0.5 * SLACK
    assert received.count(b"item ") == 2
    if accept == "text/event-stream":
        assert b"event: error\ndata: " in received
        assert b"predict_timeout" in received
    streamer.wait_for_line(r"worker 0.*took longer than 1 s", start=start)
    assert_replaced(streamer, 0, pid)


# --- H7: no limit


def test_without_a_limit_nothing_is_killed_but_at_the_end_of_a_drain() -> None:
    with Daemon(SYNC, "--request-timeout", "0", "--drain-timeout", "1s") as daemon:
        assert ask(daemon, {"s": 1.2 * LIMIT_S}).status == 200
        with in_background(lambda: ask(daemon, {"act": "sleep"})) as answers:
            eventually(lambda: daemon.status()["requests"]["in_flight"] == 1)
            started = time.monotonic()
            assert daemon.stop() == 0
            assert 0.9 < time.monotonic() - started < (1 + 2) * SLACK
        assert (answers[0].status, answers[0].document["code"]) == (502, "worker_died")
