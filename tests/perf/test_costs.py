"""What one echo request costs each process, counted: a change that adds to the hot path is seen on any machine.

When a count has fallen, lower its limit here; when it must grow, raise it in the commit that says what for.
"""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.daemon import Daemon, eventually
from tests.raw_http import RawConnection, request

PYTHON_CALLS = {"supervisor": 66, "worker": 38}
"""The most calls of Python functions that a request may cost."""

SYSTEM_CALLS = {"supervisor": 6, "worker": 2}
"""The most system calls that it may cost."""

REQUESTS = 300
TIMERS = 0.5
"""What is let pass on top, a request: clocks that tick and threads that wake whether there are requests or not."""

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
    with Daemon(ECHO, environment=probe) as daemon:
        yield daemon


def processes(daemon: Daemon) -> dict[str, int]:
    return {"supervisor": daemon.pid, "worker": daemon.worker_pids()[0]}


@contextmanager
def warm_connection(daemon: Daemon) -> Iterator[RawConnection]:
    """A connection that has served some requests already."""
    with RawConnection(daemon.port) as connection:
        ask(connection, 20)
        yield connection


def ask(connection: RawConnection, count: int = REQUESTS) -> None:
    """Make so many requests, each when the one before is answered."""
    for _ in range(count):
        connection.send(REQUEST)
        assert connection.answer().status == 200


def assert_within(limits: dict[str, int], counted: dict[str, int]) -> None:
    costs = {name: round(count / REQUESTS, 2) for name, count in counted.items()}
    print(f"a request costs {costs} of {limits}")
    assert {name: cost for name, cost in costs.items() if cost > limits[name] + TIMERS} == {}


def test_python_calls_of_a_request(daemon: Daemon, counts: Path) -> None:
    pids = processes(daemon)
    with warm_connection(daemon) as connection:
        for pid in pids.values():
            os.kill(pid, signal.SIGUSR1)
            eventually((counts / f"{pid}.counting").exists)
        ask(connection)
        for pid in pids.values():
            os.kill(pid, signal.SIGUSR2)
            eventually((counts / f"{pid}.calls").exists)
    assert_within(PYTHON_CALLS, {name: int((counts / f"{pid}.calls").read_text()) for name, pid in pids.items()})


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace; scripts/test installs it")
def test_system_calls_of_a_request(daemon: Daemon, tmp_path: Path) -> None:
    pids = processes(daemon)
    with warm_connection(daemon) as connection, ExitStack() as tracing:
        for name, pid in pids.items():
            tracing.enter_context(counting_system_calls(pid, tmp_path / name))
        ask(connection)
    assert_within(SYSTEM_CALLS, {name: total(tmp_path / name) for name in pids})


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


def total(table: Path) -> int:
    """The calls in strace's table; tracing itself restarts some, which don't count."""
    rows = re.findall(r"^ *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:\d+ +)?(\w+)$", table.read_text(), re.MULTILINE)
    return sum(int(calls) for calls, name in rows if name not in ("restart_syscall", "total"))
