"""What a predictor has started ends with its worker and with the service."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import census
from tests.daemon import Daemon, eventually
from tests.raw_http import RawConnection, request

SOURCE = """
import multiprocessing, os, signal, subprocess, sys, time

SLEEP = ["sleep", "120"]

def sleep():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(120)

def fork():
    pid = os.fork()
    if pid == 0:
        sleep()
        os._exit(0)
    return pid

def multiprocess():
    process = multiprocessing.get_context("fork").Process(target=sleep)
    process.start()
    return process.pid

def popen():
    return subprocess.Popen(SLEEP).pid

def popen_without_environment():
    return subprocess.Popen(["/bin/sleep", "120"], env={}).pid

def popen_in_a_session_of_its_own():
    return subprocess.Popen(SLEEP, start_new_session=True).pid

def forked_twice_in_a_session_of_its_own():
    read, write = os.pipe()
    if os.fork() == 0:
        os.setsid()
        pid = os.fork()
        if pid == 0:
            sleep()
        os.write(write, str(pid).encode())
        os._exit(0)
    os.wait()
    return int(os.read(read, 20))

KINDS = [fork, multiprocess, popen, popen_without_environment, popen_in_a_session_of_its_own,
         forked_twice_in_a_session_of_its_own]

class PythonPredictor:
    def predict(self, payload):
        if payload == "die":
            os._exit(7)
        if payload == "hang":
            time.sleep(120)
        return {"worker": os.getpid(), "children": {kind.__name__: kind() for kind in KINDS}}
"""

LIMIT_S = 2.0
"""The goal; prototypes took 12 ms."""


def start_family(daemon: Daemon) -> dict[str, int]:
    """A grandchild of every kind, in one worker; all live."""
    family: dict[str, int] = daemon.predict("").json()["children"]
    assert len(family) == 6
    assert alive(family) == list(family)
    return family


def alive(family: dict[str, int]) -> list[str]:
    return [kind for kind, pid in family.items() if census.state(pid) not in ("Z", "X", None)]


def assert_gone(family: dict[str, int]) -> None:
    end = time.monotonic() + LIMIT_S
    while (left := alive(family)) and time.monotonic() < end:
        time.sleep(0.01)
    for kind in left:
        os.kill(family[kind], signal.SIGKILL)
    assert left == []


def test_they_end_when_the_service_is_stopped() -> None:
    with Daemon(SOURCE) as daemon:
        family = start_family(daemon)
        assert daemon.stop() == 0
        assert alive(family) == []


def test_they_end_when_the_stop_is_forced() -> None:
    with Daemon(SOURCE) as daemon:
        family = start_family(daemon)
        os.kill(daemon.worker_pids()[0], signal.SIGSTOP)
        daemon.signal(signal.SIGTERM)
        daemon.wait_for_line("stopping")
        daemon.signal(signal.SIGTERM)
        assert daemon.wait() == 143
        assert alive(family) == []


@pytest.fixture(scope="module")
def shared() -> Iterator[Daemon]:
    with Daemon(SOURCE, "--request-timeout", "1s") as daemon:
        yield daemon


@pytest.mark.parametrize("death", ["die", "hang", "killed"])
def test_they_end_with_their_worker(shared: Daemon, death: str) -> None:
    shared.wait_ready()
    (worker,) = shared.worker_pids()
    family = start_family(shared)
    if death == "killed":
        os.kill(worker, signal.SIGKILL)
    else:
        assert shared.predict(death).status_code in (502, 504)
    assert_gone(family)
    eventually(lambda: worker not in shared.worker_pids())
    shared.wait_ready()


def test_they_end_with_a_killed_supervisor() -> None:
    for _ in range(3):
        with Daemon(SOURCE) as daemon:
            family = start_family(daemon)
            daemon.kill()
            assert_gone(family)
            assert daemon.survivors(LIMIT_S) == []


# --- the guardian


def guardians(daemon: Daemon) -> list[int]:
    return [pid for pid in census.marked(daemon.mark) if b"guardian.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_a_killed_guardian_is_replaced_and_knows_what_the_old_one_knew() -> None:
    with Daemon(SOURCE) as daemon:
        family = start_family(daemon)
        (first,) = guardians(daemon)
        os.kill(first, signal.SIGKILL)
        daemon.wait_for_line("guardian process died and is replaced")
        eventually(lambda: len(guardians(daemon)) == 1)
        assert guardians(daemon) != [first]
        assert daemon.predict("").status_code == 200
        daemon.kill()
        assert_gone(family)


def test_workers_end_even_when_the_guardian_dies_with_the_supervisor() -> None:
    with Daemon(SOURCE) as daemon, RawConnection(daemon.port) as connection:
        connection.send(request(headers=[("Content-Type", "application/json")], body=b'"hang"'))
        eventually(lambda: daemon.status()["workers"][0]["state"] == "busy")
        daemon.signal(signal.SIGSTOP)  # it must not make a new one
        for guardian in guardians(daemon):
            os.kill(guardian, signal.SIGKILL)
        daemon.kill()
        assert daemon.survivors(LIMIT_S) == []
