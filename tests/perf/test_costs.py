"""What one echo request costs each process, counted: a change that adds to the hot path is seen on any machine.

When a count has fallen, lower its limit here; when it must grow, raise it in the commit that says what for.
"""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.daemon import Daemon, eventually
from tests.raw_http import RawConnection, request

PYTHON_CALLS = {"supervisor": 28, "worker": 12}
"""The most calls of Python functions that a request may cost."""

SYSTEM_CALLS = {"supervisor": 6, "worker": 3}
"""The most system calls that it may cost."""

CROWD_SYSTEM_CALLS = {"supervisor": 4, "worker": 2.5}
"""The most that it may cost where many ask at once, so that requests go to the worker several at a time."""

REQUESTS = 40
BURSTS = 8
"""What ticks once a second falls into few of the short bursts, and the cheapest one counts."""

SLACK = 0.3
"""A timer that ticked in the cheapest burst, a request."""

ECHO = """
class PythonPredictor:
    def predict(self, payload):
        return {"n": len(payload["text"])}
"""

REQUEST = request(headers=[("Content-Type", "application/json")], body=b'{"text": "hello world"}')


@pytest.fixture(scope="module")
def counts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the processes write what they have counted."""
    return tmp_path_factory.mktemp("counts")


@pytest.fixture(scope="module")
def daemon(counts: Path) -> Iterator[Daemon]:
    probe = {"PYTHONPATH": str(Path(__file__).with_name("probe")), "PROBE_FOLDER": str(counts)}
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})  # with a core to itself a worker looks for requests awake, and that often
    try:
        with Daemon(ECHO, environment=probe) as daemon:
            yield daemon
    finally:
        os.sched_setaffinity(0, cores)


def processes(daemon: Daemon) -> dict[str, int]:
    return {"supervisor": daemon.pid, "worker": daemon.worker_pids()[0]}


@contextmanager
def warm_connection(daemon: Daemon) -> Iterator[RawConnection]:
    """A connection that has served some requests already."""
    with RawConnection(daemon.port) as connection:
        ask(connection)
        yield connection


def ask(connection: RawConnection) -> None:
    """Make a burst of requests, each when the one before is answered."""
    for _ in range(REQUESTS):
        connection.send(REQUEST)
        assert connection.answer().status == 200


def assert_within(limits: Mapping[str, float], bursts: list[dict[str, int]]) -> None:
    costs = {name: min(burst[name] for burst in bursts) / REQUESTS for name in limits}
    print(f"a request costs {costs} of {limits}")
    assert {name: cost for name, cost in costs.items() if cost > limits[name] + SLACK} == {}


def test_python_calls_of_a_request(daemon: Daemon, counts: Path) -> None:
    pids = processes(daemon)
    bursts = []
    with warm_connection(daemon) as connection:
        for _ in range(BURSTS):
            for pid in pids.values():
                os.kill(pid, signal.SIGUSR1)
                eventually((counts / f"{pid}.counting").exists, pause_s=0.005)
            ask(connection)
            for pid in pids.values():
                os.kill(pid, signal.SIGUSR2)
                eventually((counts / f"{pid}.calls").exists, pause_s=0.005)
            bursts.append({name: take_number(counts / f"{pid}.calls") for name, pid in pids.items()})
            for pid in pids.values():
                (counts / f"{pid}.counting").unlink()
    assert_within(PYTHON_CALLS, bursts)


def take_number(file: Path) -> int:
    """The number in the file, which is gone then."""
    number = int(file.read_text())
    file.unlink()
    return number


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace; scripts/test installs it")
def test_system_calls_of_a_request(daemon: Daemon, tmp_path: Path) -> None:
    pids = processes(daemon)
    bursts = []
    with warm_connection(daemon) as connection:
        for _ in range(BURSTS):
            with ExitStack() as tracing:
                for name, pid in pids.items():
                    tracing.enter_context(counting_system_calls(pid, tmp_path / name))
                ask(connection)
            bursts.append({name: total(tmp_path / name) for name in pids})
    assert_within(SYSTEM_CALLS, bursts)


@contextmanager
def counting_system_calls(pid: int, table: Path) -> Iterator[None]:
    """Have strace write its table of a process's system calls during the block."""
    strace = subprocess.Popen(
        ["strace", "-f", "-c", "-o", str(table), "-p", str(pid)], stderr=subprocess.PIPE, text=True
    )
    assert strace.stderr is not None
    with strace, strace.stderr:
        said = strace.stderr.readline()
        if "Operation not permitted" in said:
            pytest.skip(f"this machine does not let processes be traced: {said}")
        assert "attached" in said, said
        yield
        strace.send_signal(signal.SIGINT)
        strace.stderr.read()


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace; scripts/test installs it")
def test_system_calls_of_a_request_among_many(daemon: Daemon, tmp_path: Path) -> None:
    pids = processes(daemon)
    bursts = []
    with ExitStack() as stack:
        crowd = [stack.enter_context(warm_connection(daemon)) for _ in range(REQUESTS)]
        for _ in range(BURSTS):
            with ExitStack() as tracing:
                for name, pid in pids.items():
                    tracing.enter_context(counting_system_calls(pid, tmp_path / name))
                os.kill(pids["worker"], signal.SIGSTOP)  # until all have come
                for connection in crowd:
                    connection.send(REQUEST)
                eventually(lambda: daemon.status()["queue"]["depth"] == REQUESTS - 1)
                os.kill(pids["worker"], signal.SIGCONT)
                for connection in crowd:
                    assert connection.answer().status == 200
            bursts.append({name: total(tmp_path / name) for name in pids})
    assert_within(CROWD_SYSTEM_CALLS, bursts)


def total(table: Path) -> int:
    """The calls in strace's table; tracing itself restarts some, which don't count."""
    rows = re.findall(r"^ *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:\d+ +)?(\w+)$", table.read_text(), re.MULTILINE)
    return sum(int(calls) for calls, name in rows if name not in ("restart_syscall", "total"))
