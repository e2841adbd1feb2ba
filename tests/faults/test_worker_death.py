"""A worker dies: what it held is answered 502 and never run again, everything else does not notice."""

import os
import re
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest

from tests.daemon import Daemon, eventually, in_background
from tests.faults.recovery import SLACK, assert_replaced, wait_whole, worker
from tests.faults.traffic import Answered, Traffic, ask, assert_once
from tests.ledger import PRELUDE
from tests.raw_http import RawConnection, request

ACTOR = (
    PRELUDE
    + """
import ctypes, gc, signal, sys

def segv(): ctypes.string_at(0)
def abort(): os.abort()
def bus(): os.kill(os.getpid(), signal.SIGBUS)
def kill(): os.kill(os.getpid(), signal.SIGKILL)
def gobble(): bytearray(1 << 30)
def exit_0(): os._exit(0)
def exit_7(): os._exit(7)
def wait(): wait_for_file("go")
def nap(): time.sleep(0.3)

def sys_exit(): sys.exit()
def interrupt(): raise KeyboardInterrupt
def generator_exit(): raise GeneratorExit
def memory(): raise MemoryError
def recursion(): recursion()

def channel():
    return next(thing for thing in gc.get_objects() if type(thing).__name__ == "Channel")

def close_socket():
    channel().close()
    time.sleep(60)

def close_after():
    import threading
    threading.Timer(0.1, channel()._socket.shutdown, [2]).start()

def garbage():
    channel()._socket.sendall(b"\\xff" * 64)
    time.sleep(60)

def not_a_message():
    channel()._socket.sendall((5).to_bytes(4, sys.byteorder) + bytes(8) + b"hello")
    time.sleep(60)

def answers(*bodies):
    from predictord.wire import AnswerHead, Answers, frame_head
    heads = [AnswerHead(200, b"content-type: application/json\\r\\n", len(body)) for body in bodies]
    return frame_head(Answers(heads, 1.0, 0), sum(map(len, bodies))) + b"".join(bodies)

def two_in_one():
    channel()._socket.sendall(answers(b'{"id":"one"}', b'{"id":"two"}'))
    time.sleep(60)

def two_answers():
    channel()._socket.sendall(answers(b'{"id":"forged"}'))

class PythonPredictor:
    def predict(self, payload, headers):
        record(headers["x-request-id"], "1", os.getpid())
        globals().get(payload.get("act"), int)()
        return {"id": headers["x-request-id"], "pid": os.getpid(), "size": len(payload.get("pad", ""))}
"""
)


@pytest.fixture(scope="module")
def module_daemon() -> Iterator[Daemon]:
    with Daemon(ACTOR, "--workers-per-device", "2", "--request-timeout", "2s") as daemon:
        yield daemon


@pytest.fixture
def daemon(module_daemon: Daemon) -> Daemon:
    wait_whole(module_daemon)
    module_daemon.ledger.clear()
    (module_daemon.folder / "go").unlink(missing_ok=True)
    return module_daemon


def executing(daemon: Daemon, count: int = 1) -> list[int]:
    """The pids of the workers that run the ledger's first `count` requests, once they do."""
    lines = eventually(lambda: daemon.ledger.lines() if len(daemon.ledger.lines()) >= count else None)
    assert lines is not None
    return [int(line.split()[2]) for line in lines]


def assert_died(daemon: Daemon, answer: Answered, cause: str) -> None:
    """502 from a worker of ours, in time, whose words name the cause."""
    assert (answer.status, answer.document["code"]) == (502, "worker_died"), answer
    assert str(answer.document["worker"]) == answer.worker
    assert cause in answer.document["detail"]


# --- K1: idle


def test_death_of_an_idle_worker_is_not_seen(daemon: Daemon) -> None:
    pid, start = worker(daemon, 0)["pid"], len(daemon.log)
    os.kill(pid, signal.SIGKILL)
    answers = [ask(daemon, {}) for _ in range(30)]
    assert_replaced(daemon, 0, pid)
    assert {answer.status for answer in answers} == {200}
    assert_once(daemon, answers)
    told = [line for line in daemon.log[start:] if re.search(r"worker 0 .*SIGKILL", line)]
    assert len(told) == 1, told
    assert "killed:" not in told[0]


@pytest.mark.parametrize("pad", [0, 4 << 20], ids=["small", "large"])
def test_request_that_a_dead_worker_had_not_read_moves(daemon: Daemon, pad: int) -> None:
    stopped = worker(daemon, 0)["pid"]
    os.kill(stopped, signal.SIGSTOP)
    calls = [lambda: ask(daemon, {"pad": "x" * pad})] * 2
    with in_background(*calls) as answers:
        eventually(lambda: len(daemon.ledger.lines()) == 1 and worker(daemon, 0)["state"] == "busy")
        os.kill(stopped, signal.SIGKILL)
    assert [(answer.status, answer.document["size"]) for answer in answers] == [(200, pad)] * 2
    assert stopped not in {answer.document["pid"] for answer in answers}
    assert_once(daemon, answers)


# --- K2, K3, K4, K6: in predict

SUICIDES = {
    "kill": "SIGKILL",
    "segv": "SIGSEGV",
    "abort": "SIGABRT",
    "bus": "SIGBUS",
    "exit_0": "exit code 0",
    "exit_7": "exit code 7",
}


@pytest.mark.parametrize(("act", "cause"), SUICIDES.items(), ids=SUICIDES)
def test_death_in_predict_under_load(daemon: Daemon, act: str, cause: str) -> None:
    with Traffic(daemon) as traffic:
        victim = ask(daemon, {"act": act})
        executed = [line.split() for line in daemon.ledger.lines()]
        assert_replaced(daemon, int(victim.worker or -1), next(int(pid) for id, _, pid in executed if id == victim.id))
        eventually(lambda: {answer.worker for answer in traffic.answers[-50:]} == {"0", "1"})
    assert_died(daemon, victim, cause)
    assert victim.seconds < 1
    traffic.assert_all_answered()
    assert_once(daemon, [victim, *traffic.answers])


def test_out_of_memory_is_not_claimed_without_a_sign(daemon: Daemon) -> None:
    assert "memory" not in ask(daemon, {"act": "kill"}).document["detail"]


@pytest.mark.parametrize(("act", "name"), [("segv", "segv"), ("abort", "abort")])
def test_fatal_signal_leaves_its_stack_in_the_log(daemon: Daemon, act: str, name: str) -> None:
    start = len(daemon.log)
    ask(daemon, {"act": act})
    daemon.wait_for_line(r"Fatal Python error: (Segmentation fault|Aborted)", start=start)
    daemon.wait_for_line(rf"predictor\.py.*line \d+, in {name}", start=start)


def test_killed_from_outside_in_predict(daemon: Daemon) -> None:
    with in_background(lambda: ask(daemon, {"act": "wait"})) as answers:
        (pid,) = executing(daemon)
        with Traffic(daemon) as traffic:
            eventually(lambda: len(traffic.answers) > 20)
            killed_at = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            eventually(lambda: pid not in daemon.worker_pids())
    (victim,) = answers
    assert_died(daemon, victim, "SIGKILL")
    assert victim.ended_at - killed_at < 1
    traffic.assert_all_answered()
    assert_once(daemon, [victim, *traffic.answers])


# --- K5: what is raised is no death


@pytest.mark.parametrize("act", ["sys_exit", "interrupt", "generator_exit", "memory", "recursion"])
def test_exception_leaves_the_worker_alone(daemon: Daemon, act: str) -> None:
    pids = daemon.worker_pids()
    raising = [ask(daemon, {"act": act}) for _ in pids]
    assert [(answer.status, answer.document["code"]) for answer in raising] == [(500, "predictor_error")] * len(pids)
    assert sorted(ask(daemon, {}).document["pid"] for _ in pids) == sorted(pids)


# --- K7: while streaming

STREAMER = (
    PRELUDE
    + """
class PythonPredictor:
    def predict(self, payload):
        for number in range(3):
            yield f"chunk {number}"
        record(payload, "1", os.getpid())
        wait_for_file("never")
"""
)


@pytest.mark.parametrize("accept", ["*/*", "text/event-stream"])
def test_death_cuts_a_stream(streamer: Daemon, accept: str) -> None:
    received, killed_at = b"", 0.0
    with (
        pytest.raises(httpx.RemoteProtocolError),
        streamer.client.stream("POST", "/predict", json=accept, headers={"accept": accept}) as response,
    ):
        for piece in response.iter_raw():
            received += piece
            if b"chunk 2" in received and not killed_at:
                (pid,) = executing(streamer)
                killed_at = time.monotonic()
                os.kill(pid, signal.SIGKILL)
    assert time.monotonic() - killed_at < 1
    assert [number for number in range(4) if f"chunk {number}".encode() in received] == [0, 1, 2]
    if accept == "text/event-stream":
        last = received.decode().rstrip().split("\n\n")[-1]
        assert last.startswith("event: error\ndata: ")
        assert "worker_died" in last


@pytest.fixture
def streamer() -> Iterator[Daemon]:
    with Daemon(STREAMER) as daemon:
        yield daemon


# --- K8: while loading

LOADER = (
    PRELUDE
    + """
class PythonPredictor:
    def __init__(self):
        if os.path.exists("hold"):
            record("loading", "1", os.getpid())
            wait_for_file("go")

    def predict(self, payload):
        return os.getpid()
"""
)


def loading(daemon: Daemon) -> int:
    """The pid of the worker that is in `__init__`."""
    pid = executing(daemon)[0]
    daemon.ledger.clear()
    return pid


def test_death_while_loading() -> None:
    with Daemon(LOADER, "--workers-per-device", "2") as daemon:
        wait_whole(daemon)
        daemon.open_gate("hold")
        first, second = daemon.worker_pids()
        os.kill(first, signal.SIGKILL)
        os.kill(loading(daemon), signal.SIGKILL)
        eventually(lambda: worker(daemon, 0)["state"] != "ready")
        assert {daemon.predict({}).json() for _ in range(10)} == {second}

        loading(daemon)  # the next try of the first place
        os.kill(second, signal.SIGKILL)
        loading(daemon)
        with in_background(lambda: daemon.predict({})) as answers:
            eventually(lambda: daemon.status()["queue"]["depth"] == 1)
            for pid in daemon.worker_pids():
                os.kill(pid, signal.SIGKILL)
        problem = answers[0].json()
        assert (answers[0].status_code, problem["code"]) == (503, "no_worker")
        assert "while loading" in problem["detail"]
        assert "retry-after" in answers[0].headers

        daemon.open_gate("go")
        wait_whole(daemon)
        assert daemon.predict({}).status_code == 200


# --- K9: several at once


def test_all_workers_die_at_once_under_load(daemon: Daemon) -> None:
    pids = daemon.worker_pids()
    with ThreadPoolExecutor(12) as pool:
        futures = [pool.submit(ask, daemon, {"act": "nap"}) for _ in range(12)]
        eventually(lambda: daemon.status()["queue"]["depth"] == 10)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: not zombies(daemon), SLACK)
        answers = [future.result(30) for future in futures]
    assert sorted(answer.status for answer in answers) == [200] * 10 + [502] * 2
    assert_once(daemon, answers)
    wait_whole(daemon)
    assert not set(pids) & set(daemon.worker_pids())


def zombies(daemon: Daemon) -> list[psutil.Process]:
    """Dead children that the supervisor has not reaped."""
    children = psutil.Process(daemon.pid).children()
    return [child for child in children if child.is_running() and child.status() == psutil.STATUS_ZOMBIE]


# --- K10: a worker that does not keep to the protocol


@pytest.mark.parametrize("act", ["close_socket", "garbage", "not_a_message", "two_in_one"])
def test_broken_protocol_ends_the_worker(daemon: Daemon, act: str) -> None:
    victim = ask(daemon, {"act": act})
    pid = executing(daemon)[0]
    assert_died(daemon, victim, "killed")
    assert victim.seconds < 1
    assert_replaced(daemon, int(victim.worker or -1), pid)


def test_socket_closed_while_idle_loses_nothing(daemon: Daemon) -> None:
    """Between the end of its socket and that of its process, no request goes to the worker."""
    pid = ask(daemon, {"act": "close_after"}).document["pid"]
    answers = []
    while pid in daemon.worker_pids():
        answers.append(ask(daemon, {}))
    assert {answer.status for answer in answers} == {200}


def test_no_answer_goes_to_another_request(daemon: Daemon) -> None:
    acts = {100: "close_socket", 300: "garbage", 500: "two_answers", 700: "two_answers", 900: "two_in_one"}

    def send(number: int) -> Answered:
        return ask(daemon, {"act": acts.get(number)}, f"n{number}")

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(send, range(1000)))
    foreign = [answer for answer in answers if answer.status == 200 and answer.document["id"] != answer.id]
    forged = [answer for answer in foreign if answer.document["id"] == "forged"]
    assert foreign == forged
    assert {answer.id for answer in forged} <= {"n500", "n700"}
    assert {answer.id for answer in answers if answer.status != 200} <= {f"n{number}" for number in acts}
    assert_once(daemon, answers)


# --- K11: stopped for a while


def test_stopped_worker_is_left_out_until_it_answers_again(daemon: Daemon) -> None:
    pid, start = worker(daemon, 0)["pid"], len(daemon.log)
    os.kill(pid, signal.SIGSTOP)
    try:
        daemon.wait_for_line("worker 0 .*does not answer", 5 + 5 + SLACK, start)
        assert pid not in {ask(daemon, {}).document["pid"] for _ in range(10)}
    finally:
        os.kill(pid, signal.SIGCONT)
    daemon.wait_for_line("worker 0 .*answers again", start=start)
    assert {ask(daemon, {}).document["pid"] for _ in range(2)} == set(daemon.worker_pids())
    assert pid in daemon.worker_pids()


@pytest.mark.parametrize("stopped_s", [0.5, 3.0], ids=["answers late", "past its limit"])
def test_stopped_in_predict_gets_one_answer(daemon: Daemon, stopped_s: float) -> None:
    with RawConnection(daemon.port) as connection:
        headers = [("Content-Type", "application/json"), ("X-Request-Id", "stopped")]
        connection.send(request(headers=headers, body=b'{"act":"nap"}'))
        (pid,) = executing(daemon)
        os.kill(pid, signal.SIGSTOP)
        time.sleep(stopped_s)
        if stopped_s < 2:
            os.kill(pid, signal.SIGCONT)
        answer = connection.answer()
        assert answer.status == (200 if stopped_s < 2 else 504)
        connection.send(request("GET", "/healthz"))
        assert connection.answer("GET").body == b"ok\n"
    wait_whole(daemon)
    assert daemon.ledger.ids() == {"stopped": 1}


# --- K6: the kernel's own kill; at the end, as others' deaths within seconds of it are taken for the same


@pytest.fixture
def small_memory() -> Iterator[Path]:
    """A control group's list of processes, which may use 200 MiB together."""
    group = limited_group("memory", "memory.limit_in_bytes") or limited_group(".", "memory.max")
    if group is None:
        pytest.skip("needs the right to make a control group with a limit of memory")
    processes = group / "cgroup.procs"
    yield processes
    eventually(lambda: not processes.read_text())
    group.rmdir()


def limited_group(root: str, limit: str) -> Path | None:
    """A new control group, where that is possible."""
    group = Path("/sys/fs/cgroup", root, f"predictord-test-{os.getpid()}")
    try:
        group.mkdir()
        (group / limit).write_text(str(200 << 20))
    except OSError:
        with suppress(OSError):
            group.rmdir()
        return None
    return group


def test_out_of_memory_is_named_and_not_for_long(small_memory: Path) -> None:
    with Daemon(ACTOR, "--workers-per-device", "2") as daemon:
        wait_whole(daemon)
        pids = daemon.worker_pids()
        for pid in pids:
            small_memory.write_text(str(pid))
        assert_died(daemon, ask(daemon, {"act": "gobble"}), "was killed (out of memory?)")
        forgotten = time.monotonic() + 5 + 1
        eventually(lambda: time.monotonic() > forgotten)
        assert set(pids) & set(daemon.worker_pids())  # one has seen it
        for _ in pids:
            assert_died(daemon, ask(daemon, {"act": "kill"}), "was killed by SIGKILL")
