"""Signals, terminals and exit codes, each by a real process."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h11
import pytest

from tests import census
from tests.daemon import URL, Daemon, eventually, serve_to_exit
from tests.faults.screen import CTRL_C, Screen
from tests.ledger import PRELUDE, Ledger
from tests.nvml_stub import NvmlStub
from tests.raw_http import RawConnection, exchange, request

SOURCE = (
    PRELUDE
    + """
import ctypes

class PythonPredictor:
    def __init__(self, config):
        record("init")
        if "load" in config:
            getattr(self, config["load"])()

    def predict(self, payload):
        return getattr(self, payload)()

    def ping(self):
        return "pong"

    def shout(self):
        print(*(f"{number:0100}" for number in range(5000)), sep="\\n")

    def wait(self):
        record("wait")
        wait_for_file("gate", 100)
        return "through"

    def hold_gil(self):
        record("hold_gil")
        lock, libc = (ctypes.c_char * 64)(), ctypes.PyDLL(None)
        libc.pthread_mutex_lock(lock)
        libc.pthread_mutex_lock(lock)

    def stream(self):
        while True:
            yield "x"
            time.sleep(0.02)
"""
)
STREAMING = SOURCE.replace("return getattr(self, payload)()", "return self.stream()")

IDLE_LIMIT_S = 3.0
"""Three times the goal of 1 s, for a machine that has other work."""


def asking(method: str, **headers: str) -> bytes:
    fields = {"Content-Type": "application/json", **headers}
    return request(headers=fields.items(), body=f'"{method}"'.encode())


@pytest.fixture
def predictor(tmp_path: Path) -> Path:
    path = tmp_path / "predictor.py"
    path.write_text(SOURCE)
    return path


# --- SIGTERM


def test_sigterm_ends_an_idle_daemon_at_once() -> None:
    with Daemon(SOURCE) as daemon:
        asked_at = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - asked_at < IDLE_LIMIT_S
        assert "Traceback" not in daemon.log_text()


def test_sigterm_finishes_what_is_in_hand_and_queued_and_takes_nothing_new() -> None:
    with Daemon(SOURCE) as daemon, RawConnection(daemon.port) as busy, RawConnection(daemon.port) as queued:
        busy.send(asking("wait"))
        eventually(lambda: daemon.ledger.ids()["wait"])
        queued.send(asking("wait"))
        eventually(lambda: daemon.status()["queue"]["depth"] == 1)
        daemon.signal(signal.SIGTERM)
        daemon.wait_for_line("stopping")
        late = daemon.predict("ping")
        assert (late.status_code, late.json()["code"]) == (503, "draining")
        assert "Retry-After" in late.headers
        assert daemon.status()["state"] == "draining"
        assert daemon.client.get("/readyz").status_code == 503
        assert daemon.client.get("/healthz").status_code == 200
        daemon.open_gate("gate")
        answers = [busy.answer(), queued.answer()]
        assert [(answer.status, answer.body) for answer in answers] == [(200, b"through")] * 2
        assert daemon.wait() == 0


def test_at_the_drain_timeout_everything_is_answered_and_ends() -> None:
    with (
        Daemon(SOURCE, "--drain-timeout", "300ms") as daemon,
        RawConnection(daemon.port) as busy,
        RawConnection(daemon.port) as queued,
    ):
        busy.send(asking("wait"))
        eventually(lambda: daemon.ledger.ids()["wait"])
        queued.send(asking("wait"))
        eventually(lambda: daemon.status()["queue"]["depth"] == 1)
        asked_at = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - asked_at < 0.3 + 3 * 2
        first, second = busy.answer(), queued.answer()
        assert (first.status, second.status) == (502, 503)
        assert b"worker_died" in first.body
        assert b"draining" in second.body


@pytest.mark.parametrize(
    "accept",
    ["*/*", "text/event-stream"],
)
def test_a_stream_is_cut_at_the_drain_timeout(accept: str) -> None:
    with Daemon(STREAMING, "--drain-timeout", "300ms") as daemon, RawConnection(daemon.port) as reader:
        reader.send(asking("stream", Accept=accept))
        assert reader.socket.recv(1)
        assert daemon.stop() == 0
        rest = reader.read_to_end()
        assert not rest.endswith(b"\r\n0\r\n\r\n")
        if accept == "text/event-stream":
            assert b"event: error" in rest


def test_a_second_sigterm_ends_it_at_once() -> None:
    with Daemon(SOURCE) as daemon, RawConnection(daemon.port) as busy:
        busy.send(asking("hold_gil"))
        eventually(lambda: daemon.ledger.ids()["hold_gil"])
        daemon.signal(signal.SIGTERM)
        daemon.wait_for_line("stopping")
        asked_at = time.monotonic()
        daemon.signal(signal.SIGTERM)
        assert daemon.wait() == 143
        assert time.monotonic() - asked_at < IDLE_LIMIT_S
        with pytest.raises(h11.RemoteProtocolError):
            busy.answer()


@pytest.mark.parametrize("load", ["wait", "hold_gil"])
def test_sigterm_ends_a_daemon_that_loads(load: str) -> None:
    with Daemon(SOURCE, "--config", f"load={load}", wait_ready=False) as daemon:
        eventually(lambda: daemon.ledger.ids()[load], 20)
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.log_text()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_hundred_signals_in_a_second_end_it(seed: int) -> None:
    chance = random.Random(seed)
    kinds = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE, signal.SIGWINCH]
    with Daemon(SOURCE, wait_ready=False) as daemon:
        daemon.wait_for_line("serving")
        for _ in range(100):
            daemon.signal(chance.choice(kinds))
            time.sleep(0.01)
        assert daemon.wait() in (0, 130, 143)
        assert daemon.survivors() == []
        assert "Traceback" not in daemon.log_text()


def test_sighup_without_a_terminal_ends_nothing() -> None:
    with Daemon(SOURCE) as daemon:
        before = daemon.worker_pids()
        daemon.signal(signal.SIGHUP)
        assert daemon.predict("ping").text == "pong"
        assert daemon.worker_pids() == before


# --- a terminal


@contextmanager
def family() -> Iterator[dict[str, str]]:
    """An environment for processes that must all be gone at the end of the block."""
    mark = uuid.uuid4().hex
    try:
        yield {census.MARK: mark}
        eventually(lambda: not census.marked(mark))
    finally:
        census.kill_marked(mark)


@contextmanager
def on_screen(predictor: Path, *flags: str, **environment: str) -> Iterator[Screen]:
    """A daemon on a terminal; at the end nothing of it is left, and no traceback was shown."""
    with family() as marked:
        command = ("serve", str(predictor), "--port", "0", "--devices", "cpu", *flags)
        with Screen(*command, environment={**environment, **marked}) as screen:
            yield screen
        assert "Traceback" not in screen.text
        assert "KeyboardInterrupt" not in screen.text


def recorded(predictor: Path) -> Counter[str]:
    return Ledger(predictor.parent).ids()


def test_ctrl_c_finishes_what_is_in_hand(predictor: Path) -> None:
    with on_screen(predictor) as screen, RawConnection(screen.port()) as busy:
        screen.wait_for("ready in")
        busy.send(asking("wait"))
        eventually(lambda: recorded(predictor)["wait"])
        screen.press(CTRL_C)
        screen.wait_for("stopping")
        (predictor.parent / "gate").touch()
        assert busy.answer().status == 200
        assert screen.wait() == 130, screen.text


@pytest.mark.parametrize("presses", [2, 3, 30])
def test_a_second_ctrl_c_ends_everything_at_once(predictor: Path, presses: int) -> None:
    with on_screen(predictor) as screen, RawConnection(screen.port()) as busy:
        screen.wait_for("ready in")
        busy.send(asking("hold_gil"))
        eventually(lambda: recorded(predictor)["hold_gil"])
        screen.press(CTRL_C)
        screen.wait_for("stopping")
        asked_at = time.monotonic()
        for _ in range(presses - 1):
            screen.press(CTRL_C)
            time.sleep(0.01)
        assert screen.wait() == 130, screen.text
        assert time.monotonic() - asked_at < IDLE_LIMIT_S


def test_ctrl_c_ends_a_daemon_that_loads(predictor: Path) -> None:
    with on_screen(predictor, "--config", "load=wait") as screen:
        eventually(lambda: recorded(predictor)["wait"], 20)
        screen.press(CTRL_C)
        assert screen.wait() == 130, screen.text


def test_ctrl_c_ends_a_daemon_that_asks_the_driver(predictor: Path, tmp_path: Path) -> None:
    driver = NvmlStub(tmp_path)
    driver.says("rc.init hang")
    environment = {name: driver.environ()[name] for name in ("LD_LIBRARY_PATH", "NVML_STUB")}
    with on_screen(predictor, "--devices", "auto", **environment) as screen:
        eventually(lambda: len(census.marked(screen.environment[census.MARK])) == 2)
        screen.press(CTRL_C)
        assert screen.wait() == 130, screen.text


def test_a_closed_terminal_ends_the_daemon(predictor: Path) -> None:
    with on_screen(predictor) as screen:
        screen.wait_for("ready in")
        screen.close()
        assert screen.wait() == 129, screen.text


# --- who reads what it prints


@pytest.mark.parametrize("leaves", [True, False], ids=["like head -1", "stalled"])
def test_it_serves_on_when_nobody_reads_its_output(predictor: Path, leaves: bool) -> None:
    command = [sys.executable, "-m", "predictord", "serve", str(predictor), "--port", "0", "--devices", "cpu"]
    with family() as marked:
        daemon = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, **marked})
        assert daemon.stdout is not None
        with daemon.stdout as output:
            match = URL.search(output.readline().decode())
            assert match
            if leaves:
                output.close()
            for _ in range(5):
                assert exchange(int(match[1]), asking("shout")).status == 200
            daemon.terminate()
            assert daemon.wait(20) == 0


# --- exit codes of a daemon that does not start


def test_a_port_in_use_is_told_before_anything_loads() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with Daemon(SOURCE, "--port", str(port), wait_ready=False) as daemon:
            assert daemon.wait() == 3
            assert f"port {port} on 127.0.0.1 is in use" in daemon.log_text()
            assert daemon.ledger.lines() == []


def test_the_port_of_another_daemon_is_in_use() -> None:
    with Daemon(SOURCE) as first:
        ended = serve_to_exit(SOURCE, "--port", str(first.port))
        assert (ended.code, f"port {first.port} on" in ended.log) == (3, True)
        assert first.predict("ping").text == "pong"


def test_a_load_that_fails_without_reload() -> None:
    ended = serve_to_exit("class PythonPredictor:\n    def __init__(self):\n        1 / 0\n    def predict(self): ...")
    assert ended.code == 3
    assert "ZeroDivisionError: division by zero" in ended.log
    assert "predictor.py" in ended.log


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--no-such-flag"], "--no-such-flag"),
        (["--port", "70000"], "--port"),
        (["--drain-timeout", "soon"], "--drain-timeout"),
        (["--devices", "gpu"], "--devices"),
        (["--host", "192.0.2.1", "--token-file", "token"], "192.0.2.1"),
    ],
)
def test_a_wrong_flag(flags: list[str], said: str) -> None:
    ended = serve_to_exit(SOURCE, *flags, files={"../token": "secret"})
    assert (ended.code, said in ended.log, "Traceback" in ended.log) == (2, True, False), ended.log


def test_a_predictor_that_does_not_exist(tmp_path: Path) -> None:
    ended = serve_to_exit(tmp_path / "nowhere.py")
    assert (ended.code, "nowhere.py" in ended.log, "Traceback" in ended.log) == (2, True, False), ended.log
