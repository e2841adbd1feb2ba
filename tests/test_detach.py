"""`serve --detach`: daemons in the background, from the outside."""

import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import httpx
import pytest

from predictord.runtime import Daemon as Registered
from predictord.runtime import RuntimeFolder
from tests import census
from tests.daemon import DEFAULT_FLAGS, Daemon, eventually
from tests.ledger import PRELUDE

ECHO = """
class PythonPredictor:
    def predict(self, payload):
        print("asked for", payload, flush=True)
        return payload
"""

BROKEN = (
    "class PythonPredictor:\n    def __init__(self):\n        self.words = {}['none']\n\n    def predict(self): pass\n"
)

SLOW_TO_LOAD = (
    PRELUDE
    + """
class PythonPredictor:
    def __init__(self):
        record("loading")
        wait_for_file("gate")

    def predict(self, payload):
        return payload
"""
)


class Background:
    """A folder with a predictor, and the daemons that tests detach from it."""

    def __init__(self, folder: Path) -> None:
        self.predictor = folder / "predictor.py"
        self.state = folder / "state"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PREDICTORD_")},
            "XDG_STATE_HOME": str(self.state),
        }

    def command(self, *flags: str) -> list[str]:
        return [sys.executable, "-m", "predictord", "serve", str(self.predictor), "--detach", *DEFAULT_FLAGS, *flags]

    def detach(self, source: str, *flags: str) -> subprocess.CompletedProcess[str]:
        self.predictor.write_text(dedent(source))
        return subprocess.run(
            self.command(*flags),
            capture_output=True,
            text=True,
            timeout=60,
            env=self.environment,
            stdin=subprocess.DEVNULL,
        )

    def verb(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "predictord", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, env=self.environment)

    def living(self) -> list[Registered]:
        return [daemon for daemon in RuntimeFolder().living() if daemon.predictor == str(self.predictor)]

    def daemon(self) -> Registered:
        [daemon] = self.living()
        return daemon

    def end(self) -> None:
        for daemon in self.living():
            os.kill(daemon.pid, signal.SIGTERM)
            if not RuntimeFolder().wait_for_end(daemon.pid, 20):
                os.kill(daemon.pid, signal.SIGKILL)


@pytest.fixture
def background(tmp_path: Path) -> Iterator[Background]:
    background = Background(tmp_path)
    yield background
    background.end()


def ask(daemon: Registered, payload: str) -> httpx.Response:
    return httpx.post(daemon.urls[0], json=payload, trust_env=False, timeout=30)


def test_it_returns_when_the_daemon_answers_and_says_how_to_go_on(background: Background) -> None:
    result = background.detach(ECHO)
    daemon = background.daemon()
    assert ask(daemon, "hello").text == "hello"
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == f"serving {background.predictor} on {daemon.urls[0]} (pid {daemon.pid})"
    assert re.fullmatch(r"ready in \d+\.\d s", lines[1])
    assert [line.split(":")[0].strip() for line in lines[2:]] == ["see it", "its log", "end it"]
    assert f"predictord stop --port {daemon.port}" in lines[4]
    assert background.verb("stop", "--port", str(daemon.port)).returncode == 0
    assert background.living() == []


def test_its_log_is_a_file_of_ours_alone_that_outlasts_it(background: Background) -> None:
    background.detach(ECHO)
    daemon = background.daemon()
    ask(daemon, "word")
    assert daemon.log is not None
    log = Path(daemon.log)
    assert log.parent == background.state / "predictord"
    assert [oct(path.stat().st_mode & 0o777) for path in (log.parent, log)] == ["0o700", "0o600"]
    eventually(lambda: "worker 0 | asked for word" in log.read_text())
    living = background.verb("logs", str(background.predictor))
    assert (living.returncode, living.stdout) == (0, log.read_text())
    background.end()
    dead = background.verb("logs", str(background.predictor), "-n", "2")
    assert dead.returncode == 1
    assert [line[9:] for line in dead.stdout.splitlines()] == ["stopping", "stopped"]
    assert dead.stderr.startswith(f"predictord: no daemon of {background.predictor} is running")
    assert dead.stderr.endswith(f"; this was the end of {log}\n")


def test_what_a_dying_worker_says_is_kept(background: Background) -> None:
    background.detach(
        """
        import os

        class PythonPredictor:
            def predict(self, payload):
                os.write(1, b"last words")
                os._exit(7)
        """
    )
    daemon = background.daemon()
    assert ask(daemon, "x").status_code == 502
    assert daemon.log is not None
    log = Path(daemon.log)
    eventually(lambda: "ended with exit code 7" in log.read_text())
    assert "worker 0 | last words\n" in log.read_text()


def test_a_first_load_that_fails_is_told_and_the_daemon_waits_for_a_save(background: Background) -> None:
    result = background.detach(BROKEN)
    daemon = background.daemon()
    assert result.returncode == 1
    assert "self.words = {}['none']" in result.stderr
    assert "predictord: the predictor did not load: KeyError: 'none'\n" in result.stderr
    assert "stays and loads predictor.py again when you save it" in result.stderr
    assert f"predictord stop --port {daemon.port}" in result.stdout
    background.predictor.write_text(dedent(ECHO))
    eventually(lambda: ask(daemon, "cured").text == "cured", 20)


def test_without_reload_a_first_load_that_fails_is_exit_3(background: Background) -> None:
    result = background.detach(BROKEN, "--no-reload")
    assert result.returncode == 3
    assert "predictord: the predictor did not load: KeyError: 'none'\n" in result.stderr
    assert background.living() == []


def test_what_keeps_it_from_starting_is_said_here(background: Background) -> None:
    assert background.detach(ECHO).returncode == 0
    first = background.daemon()
    second = background.detach(ECHO, "--port", str(first.port))
    assert (second.returncode, second.stdout) == (3, "")
    assert second.stderr == (
        f"predictord: port {first.port} on 127.0.0.1 is in use: {background.predictor} is served there"
        f" (pid {first.pid}); `predictord status --port {first.port}` shows it,"
        f" `predictord stop --port {first.port}` ends it; or choose another with --port\n"
    )
    assert background.detach(ECHO, "--port", "none").returncode == 2
    assert background.daemon() == first


def test_a_foreign_process_on_the_port_is_named(background: Background) -> None:
    with Daemon(ECHO) as other:
        # Not registered any more as far as verbs can see, but still there.
        for path in census.runtime_files(other.pid):
            path.rename(path.with_name("hidden-" + path.name))
        try:
            result = background.detach(ECHO, "--port", str(other.port))
        finally:
            for path in RuntimeFolder().path.glob(f"hidden-{other.pid}.*"):
                path.rename(path.with_name(path.name.removeprefix("hidden-")))
        assert result.returncode == 3
        assert re.search(rf"is in use by \S+ \(pid {other.pid}\); stop that, or choose another", result.stderr)


def test_ctrl_c_while_it_loads_leaves_it_alone(background: Background) -> None:
    background.predictor.write_text(SLOW_TO_LOAD)
    process, master = spawn_on_terminal(background.command(), background.environment)
    try:
        while "serving" not in os.read(master, 4096).decode():
            pass
        os.write(master, b"\x03")
        assert process.wait(20) == 130
        said = read_all(master)
    finally:
        os.close(master)
    daemon = background.daemon()
    assert f"`predictord stop --port {daemon.port}` ends it" in said
    (background.predictor.parent / "gate").touch()
    eventually(lambda: httpx.get(f"{daemon.urls[0]}/readyz", trust_env=False).status_code == 200, 20)
    assert ask(daemon, "alive").text == "alive"


def test_a_terminal_that_closes_does_not_matter_and_a_hang_up_reloads(background: Background) -> None:
    background.predictor.write_text(dedent(ECHO))
    process, master = spawn_on_terminal(background.command(), background.environment)
    assert process.wait(60) == 0
    os.close(master)
    daemon = background.daemon()
    assert ask(daemon, "alive").text == "alive"
    os.kill(daemon.pid, signal.SIGHUP)
    eventually(lambda: "SIGHUP" in httpx.get(f"{daemon.urls[0]}/status", trust_env=False).text, 20)
    assert ask(daemon, "alive").text == "alive"


def spawn_on_terminal(command: list[str], environment: dict[str, str]) -> tuple[subprocess.Popen[bytes], int]:
    """A command in a session of its own whose terminal is ours: as a shell's only job."""
    master, slave = pty.openpty()
    takes_terminal = (
        "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", takes_terminal, *command],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=environment,
        start_new_session=True,
    )
    os.close(slave)
    return process, master


def read_all(master: int) -> str:
    """What was written to a terminal whose other end is closed."""
    text = b""
    try:
        while piece := os.read(master, 4096):
            text += piece
    except OSError:  # EIO: all have closed it
        pass
    return text.decode()
