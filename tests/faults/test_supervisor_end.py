"""However the supervisor ends, nothing of it is left and the next one starts."""

import os
import random
import resource
import signal
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from tests import census
from tests.daemon import Daemon, eventually
from tests.ledger import PRELUDE
from tests.raw_http import RawConnection, request

SOURCE = (
    PRELUDE
    + """
import ctypes, signal

class PythonPredictor:
    def __init__(self, config):
        if "load" in config:
            getattr(self, config["load"])()

    def predict(self, payload):
        return getattr(self, payload)()

    def sleep(self):
        record("sleep")
        time.sleep(120)

    def hold_gil(self):
        record("hold_gil")
        lock, libc = (ctypes.c_char * 64)(), ctypes.PyDLL(None)
        libc.pthread_mutex_lock(lock)
        libc.pthread_mutex_lock(lock)

    def fork(self):
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            record("fork")
            time.sleep(120)
            os._exit(0)
        self.sleep()

    def getpid(self):
        return os.getpid()

    def stop(self):
        record("stop")
        os.kill(os.getpid(), signal.SIGSTOP)
"""
)

LIMIT_S = 2.0
"""The goal for what a dead supervisor leaves; prototypes took 3 ms."""


@pytest.fixture(scope="module")
def port() -> int:
    """One port for all daemons of this file, below those that the kernel gives to clients, so that each start
    shows that the one before has left it free."""
    ports = random.sample(range(20_000, 30_000), 100)
    return next(port for port in ports if census.is_bindable(port))


Prepare = Callable[[Daemon, ExitStack], None]
"""Brings a daemon into the state in which it is killed; what it opens stays open until then."""


def idle(daemon: Daemon, connections: ExitStack) -> None:
    daemon.wait_ready()


def loading(daemon: Daemon, connections: ExitStack) -> None:
    eventually(daemon.ledger.lines, 20)


def starting(daemon: Daemon, connections: ExitStack) -> None:
    assert daemon.port


def asked_to(method: str) -> Prepare:
    def ask(daemon: Daemon, connections: ExitStack) -> None:
        daemon.wait_ready()
        connection = connections.enter_context(RawConnection(daemon.port))
        body = f'"{method}"'.encode()
        connection.send(request(headers=[("Content-Type", "application/json")], body=body))
        eventually(lambda: method in daemon.ledger.ids(), 20)

    return ask


def draining(daemon: Daemon, connections: ExitStack) -> None:
    asked_to("sleep")(daemon, connections)
    daemon.signal(signal.SIGTERM)
    daemon.wait_for_line("stopping")


@pytest.mark.parametrize(
    ("state", "flags", "trials"),
    [
        pytest.param(idle, [], 4, id="idle"),
        pytest.param(starting, [], 3, id="starting"),
        pytest.param(loading, ["--config", "load=sleep"], 3, id="loading"),
        pytest.param(loading, ["--config", "load=hold_gil"], 2, id="loading with the GIL held"),
        pytest.param(asked_to("sleep"), [], 4, id="predicting"),
        pytest.param(asked_to("hold_gil"), [], 4, id="predicting with the GIL held"),
        pytest.param(asked_to("fork"), [], 3, id="with a forked grandchild"),
        pytest.param(asked_to("stop"), [], 1, id="with a stopped worker"),
        pytest.param(draining, [], 1, id="draining"),
    ],
)
def test_kill_9_leaves_nothing(port: int, state: Prepare, flags: list[str], trials: int) -> None:
    for _ in range(trials):
        with Daemon(SOURCE, "--port", str(port), *flags, wait_ready=False) as daemon, ExitStack() as connections:
            state(daemon, connections)
            daemon.kill()
            assert daemon.survivors(LIMIT_S) == []
            assert census.is_bindable(port)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT])
def test_a_crash_leaves_nothing(port: int, number: signal.Signals) -> None:
    with Daemon(SOURCE, "--port", str(port)) as daemon, ExitStack() as connections:
        asked_to("fork")(daemon, connections)
        daemon.signal(number)
        assert daemon.wait() == -number
        assert daemon.survivors(LIMIT_S) == []


def test_a_body_that_finds_no_memory_ends_only_itself() -> None:
    with Daemon(SOURCE) as daemon:
        pages = int(Path(f"/proc/{daemon.pid}/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + (20 << 20)
        resource.prlimit(daemon.pid, resource.RLIMIT_AS, (limit, limit))
        with suppress(httpx.TransportError):  # where uvloop is what finds none, the connection is cut
            assert daemon.predict(content=bytes(90 << 20)).status_code >= 400
        assert daemon.predict("getpid").status_code == 200
        assert daemon.status()["state"] == "ready"


def test_every_child_is_made_by_the_main_thread() -> None:
    # PR_SET_PDEATHSIG fires at the end of the thread that made the child.
    with Daemon(SOURCE) as daemon:
        (first,) = daemon.worker_pids()
        assert first in _children(daemon.pid, daemon.pid)
        os.kill(first, signal.SIGKILL)
        second = eventually(lambda: next((pid for pid in daemon.worker_pids() if pid != first), None))
        daemon.wait_ready()
        assert second in _children(daemon.pid, daemon.pid)
        threads = map(int, os.listdir(f"/proc/{daemon.pid}/task"))
        assert not any(_children(daemon.pid, thread) for thread in threads if thread != daemon.pid)


def _children(pid: int, thread: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{thread}/children").read_text().split()]
    except OSError:
        return []  # the thread has ended
