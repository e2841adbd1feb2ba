"""The verbs that talk to a running daemon.

Tests of other runs may have daemons beside ours in the runtime folder, so no verb is sent here that could choose them.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from predictord.control_client import ask
from predictord.runtime import RuntimeFolder, choose
from predictord.supervisor.control_server import ControlServer
from tests import census
from tests.daemon import Daemon, eventually, in_background
from tests.ledger import PRELUDE

ECHO = """
class PythonPredictor:
    def predict(self, payload):
        return payload
"""

WAITS = (
    PRELUDE
    + """
class PythonPredictor:
    def predict(self, payload):
        record("began")
        wait_for_file("gate")
        return payload
"""
)

SLOW_TO_LOAD = (
    PRELUDE
    + """
class PythonPredictor:
    def __init__(self, config):
        wait_for_file("gate")

    def predict(self, payload):
        return payload
"""
)


def verb(*arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "predictord", *arguments], cwd=folder, capture_output=True, text=True, timeout=60
    )


def label(daemon: Daemon) -> str:
    return f"{daemon.predictor} on port {daemon.port} (pid {daemon.pid})"


# --- stop


def test_stop_by_port() -> None:
    with Daemon(ECHO) as daemon:
        result = verb("stop", "--port", str(daemon.port))
        assert (result.returncode, result.stdout, result.stderr) == (0, f"stopped {label(daemon)}\n", "")
        assert daemon.wait() == 0
        assert census.runtime_files(daemon.pid) == []


def test_stop_by_relative_path() -> None:
    with Daemon(ECHO) as daemon:
        result = verb("stop", daemon.predictor.name, folder=daemon.folder)
        assert (result.returncode, result.stdout, result.stderr) == (0, f"stopped {label(daemon)}\n", "")
        assert daemon.wait() == 0


def test_stop_without_a_name_takes_the_only_one_or_names_them_all() -> None:
    with Daemon(ECHO) as daemon:
        result = verb("stop")
        if result.returncode == 2:  # others run on this machine
            assert label(daemon) in result.stderr
            assert daemon.stop() == 0
        else:
            assert (result.returncode, result.stdout, result.stderr) == (0, f"stopped {label(daemon)}\n", "")
            assert daemon.wait() == 0


def test_stop_returns_when_the_port_and_the_processes_are_gone() -> None:
    with Daemon(ECHO, "--workers-per-device", "2") as daemon:
        port, pids = daemon.port, daemon.worker_pids()
        result = verb("stop", str(daemon.predictor))
        assert (result.returncode, result.stderr) == (0, "")
        assert census.is_bindable(port)
        assert [census.state(pid) for pid in pids] == [None, None]
        assert daemon.wait() == 0


def test_stop_waits_for_the_work_in_hand_and_asking_again_cuts_nothing() -> None:
    with Daemon(WAITS) as daemon:
        path = str(daemon.predictor)
        with in_background(lambda: daemon.predict("kept").text, lambda: daemon.predict("kept").text) as answers:
            eventually(daemon.ledger.lines)
            with in_background(lambda: verb("stop", path)) as results:
                daemon.wait_for_line("stopping")
                folder = RuntimeFolder()
                assert ask(folder, choose(folder.living(), path), {"verb": "stop"}, 5) == {"drain_timeout_s": 5}
                daemon.open_gate("gate")
        assert answers == ["kept", "kept"]
        assert daemon.wait() == 0
        assert [result.returncode for result in results] == [0]


def test_stop_while_the_model_loads() -> None:
    with Daemon(SLOW_TO_LOAD, wait_ready=False) as daemon:
        eventually(lambda: census.runtime_files(daemon.pid))
        result = verb("stop", str(daemon.predictor))
        assert (result.returncode, result.stderr) == (0, "")
        assert daemon.wait() == 0


def test_none_that_matches_is_exit_1(tmp_path: Path) -> None:
    result = verb("stop", "nix.py", folder=tmp_path)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("predictord: no daemon of nix.py is running")
    assert verb("reload", "nix.py", folder=tmp_path).returncode == 1


def test_two_daemons_of_one_file_are_told_apart_by_port() -> None:
    with Daemon(ECHO) as first, Daemon(first.predictor) as second:
        result = verb("stop", str(first.predictor))
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr.startswith("predictord: 2 daemons match; choose one with --port:\n  ")
        assert label(first) in result.stderr
        assert label(second) in result.stderr
        assert verb("stop", "--port", str(second.port)).returncode == 0
        assert second.wait() == 0
        assert first.predict("still here").text == "still here"


def test_a_killed_daemon_does_not_matter() -> None:
    with Daemon(ECHO) as killed, Daemon(killed.predictor) as living:
        killed.kill()
        assert len(census.runtime_files(killed.pid)) == 2
        result = verb("stop", str(living.predictor))
        assert (result.returncode, result.stdout, result.stderr) == (0, f"stopped {label(living)}\n", "")
        assert living.wait() == 0
        assert census.runtime_files(killed.pid) == []


def test_a_daemon_that_hangs_is_told_apart_from_none() -> None:
    with Daemon(ECHO) as daemon:
        daemon.signal(signal.SIGSTOP)
        try:
            result = verb("stop", str(daemon.predictor))
        finally:
            daemon.signal(signal.SIGCONT)
        assert result.returncode == 1
        assert result.stderr == f"predictord: {label(daemon)} does not answer; `kill {daemon.pid}` stops it\n"
        assert daemon.wait() == 0, "it stops once it goes on"


class PatientFolder(RuntimeFolder):
    """Counts how often a client has looked for a socket."""

    looks = 0

    def socket_path(self, pid: int) -> Path:
        self.looks += 1
        return super().socket_path(pid)


def test_a_daemon_that_does_not_listen_yet_is_waited_for(tmp_path: Path) -> None:
    folder = PatientFolder(tmp_path / "runtime")
    with folder.register("/p.py", ["http://127.0.0.1:1"]) as path, socket.socket(socket.AF_UNIX) as listener:
        daemon = choose(folder.living())
        looks = folder.looks
        with in_background(lambda: ask(folder, daemon, {"verb": "stop"}, 5)) as replies:
            eventually(lambda: folder.looks > looks + 1)
            listener.bind(str(path))
            looks = folder.looks
            eventually(lambda: folder.looks > looks + 1)
            listener.listen()
            connection, _ = listener.accept()
            with connection:
                assert connection.recv(1000) == b'{"verb":"stop"}\n'
                connection.sendall(b'{"drain_timeout_s": 5}\n')
        assert replies == [{"drain_timeout_s": 5}]


# --- reload, against a daemon of our own making


class Reloading:
    """What the `reload` handler of a daemon would reply, and what it was asked."""

    def __init__(self, **reply: Any) -> None:
        self.reply = reply
        self.requests: list[dict[str, Any]] = []

    async def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        self.requests.append(request)
        return self.reply


@contextmanager
def registered(predictor: Path, reloading: Reloading) -> Iterator[None]:
    """This process as a daemon that can only reload."""
    loop = asyncio.new_event_loop()
    with RuntimeFolder().register(str(predictor), ["http://127.0.0.1:1"]) as control_path:
        task = loop.create_task(ControlServer({"reload": reloading.handle}).run(control_path))

        def turn() -> None:
            with suppress(asyncio.CancelledError):
                loop.run_until_complete(task)
            loop.close()

        thread = threading.Thread(target=turn)
        thread.start()
        try:
            yield
        finally:
            loop.call_soon_threadsafe(task.cancel)
            thread.join(10)


@pytest.mark.parametrize("fresh", [False, True])
def test_reload_tells_how_it_went_in_one_line(tmp_path: Path, fresh: bool) -> None:
    predictor = tmp_path / "p.py"
    reloading = Reloading(kind="replace", generation=3, duration_s=1.24, reason="asked for by reload", error=None)
    with registered(predictor, reloading):
        result = verb("reload", str(predictor), *["--fresh"] * fresh)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "replace: generation 3 · asked for by reload · 1.2 s\n"
    assert reloading.requests == [{"verb": "reload", "fresh": fresh}]


def test_a_reload_that_fails_shows_the_traceback(tmp_path: Path) -> None:
    predictor = tmp_path / "p.py"
    fault = "NameError: name 'x' is not defined\nTraceback…\n  line 3\n"
    with registered(
        predictor, Reloading(kind="failed", generation=4, duration_s=0.2, reason="asked for by reload", error=fault)
    ):
        result = verb("reload", str(predictor))
    assert result.returncode == 1
    assert result.stdout == "failed: generation 4 · asked for by reload · 0.2 s\n"
    assert result.stderr == "Traceback…\n  line 3\npredictord: NameError: name 'x' is not defined\n"


def test_a_daemon_that_cannot_is_quoted(tmp_path: Path) -> None:
    predictor = tmp_path / "p.py"
    with registered(predictor, Reloading()):
        result = verb("stop", str(predictor))
    assert result.returncode == 1
    assert "refused: this daemon knows no verb 'stop'; is it of another version?" in result.stderr


# --- who else may


@pytest.mark.parametrize("is_link", [True, False])
def test_serve_and_stop_refuse_an_unsafe_runtime_folder(is_link: bool, tmp_path: Path) -> None:
    """Through a driver that looks for the runtime folder below the test's own."""
    folder = tmp_path / f"predictord-{os.getuid()}"
    if is_link:
        folder.symlink_to("/var/tmp")
    else:
        folder.mkdir()
        folder.chmod(0o777)
    predictor = tmp_path / "p.py"
    predictor.write_text(ECHO)
    driver = f"""
import predictord.cli, predictord.runtime
predictord.runtime.runtime_path.__defaults__ = ({str(tmp_path / "none")!r}, {str(tmp_path)!r})
predictord.cli.main()
"""
    for arguments in (["serve", str(predictor), "--port", "0", "--devices", "cpu"], ["stop"]):
        command = [sys.executable, "-c", driver, *arguments]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert result.returncode == 3
        assert f"predictord: {folder} " in result.stderr
        assert "another user could pose as a daemon of yours; remove it and start again" in result.stderr


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else for a moment")
def test_another_user_can_neither_look_nor_connect() -> None:
    with Daemon(ECHO) as daemon:
        _, control_path = sorted(census.runtime_files(daemon.pid))
        connect = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
        for command in (["ls", str(control_path.parent)], ["python3", "-Sc", connect, str(control_path)]):
            result = subprocess.run(command, capture_output=True, text=True, user=65534, group=65534, extra_groups=[])
            assert result.returncode != 0
            assert "Permission denied" in result.stderr
