"""`predictord status` of real daemons, in pipes and on a terminal.

Tests of other runs may have daemons beside ours in the runtime folder, so that only what is said of ours is looked at.
"""

import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import ioctl

from tests.daemon import Daemon, eventually

FAILS_ON_DEMAND = """
class PythonPredictor:
    def predict(self, payload):
        return {"found": payload["text"]}
"""


def status(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    command = [sys.executable, "-m", "predictord", "status", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)


def of(daemon: Daemon, *flags: str) -> subprocess.CompletedProcess[str]:
    return status("--port", str(daemon.port), *flags)


def test_it_says_what_the_daemon_does() -> None:
    with Daemon(FAILS_ON_DEMAND, "--workers-per-device", "2") as daemon:
        eventually(lambda: all(worker["state"] == "ready" for worker in daemon.status()["workers"]))
        daemon.predict({"text": "x"})
        daemon.predict({"text": "x"})
        daemon.predict({})
        result = of(daemon)
        assert (result.returncode, result.stderr) == (0, "")
        assert "\x1b" not in result.stdout
        lines = result.stdout.splitlines()
        assert all(len(line) <= 80 for line in lines if str(daemon.folder) not in line)
        assert lines[0] == "state      ready · generation 1"
        assert f"pid {daemon.pid} · up " in result.stdout
        assert re.search(r"^requests   3, 1 failed · now [\d.]+/s · p50 [\d.]+ms · p99 [\d.]+ms$", result.stdout, re.M)
        workers = [line.split() for line in lines if re.match(r"[01] CPU", line)]
        assert sorted(int(row[4]) for row in workers) == [1, 2]
        assert re.search(r"1x  500  worker \d  KeyError: 'text'", result.stdout)


def test_a_reload_and_one_that_fails_are_shown() -> None:
    with Daemon(FAILS_ON_DEMAND) as daemon:
        daemon.write(FAILS_ON_DEMAND.replace('"found"', '"seen"'))
        daemon.wait_for_line("swap: ")
        assert re.search(r"last reload  \d\d:\d\d:\d\d swap: PythonPredictor.predict\(\) · weights", of(daemon).stdout)
        daemon.write("class PythonPredictor\n")
        daemon.wait_for_line("reload failed")
        assert "the last reload failed: SyntaxError: expected ':'" in of(daemon).stdout
        assert of(daemon).stdout.startswith("state        ready · generation 2\n")


def test_json_is_the_whole_document() -> None:
    with Daemon(FAILS_ON_DEMAND) as daemon:
        daemon.predict({"text": "x"})
        document = json.loads(of(daemon, "--json").stdout)
        plain = daemon.status()
        assert plain.keys() < document.keys()
        assert document["requests"] == plain["requests"]
        assert [worker["pid"] for worker in document["workers"]] == daemon.worker_pids()
        assert document["urls"][0] == daemon.url


def test_without_a_choice_several_are_listed() -> None:
    with Daemon(FAILS_ON_DEMAND) as first, Daemon(first.predictor) as second:
        result = status()
        assert (result.returncode, result.stderr) == (0, "")
        for daemon in (first, second):
            assert re.search(rf"^ *{daemon.port} ready +1 +1 of 1 +0 +{daemon.pid} ", result.stdout, re.M)
        assert "see one: predictord status --port " in result.stdout
        assert all(len(line) <= 80 for line in result.stdout.splitlines())
        ambiguous = status(str(first.predictor))
        assert (ambiguous.returncode, ambiguous.stdout) == (2, "")
        assert "2 daemons match; choose one with --port:" in ambiguous.stderr


def test_one_that_hangs_does_not_hide_the_others() -> None:
    with Daemon(FAILS_ON_DEMAND) as well, Daemon(FAILS_ON_DEMAND) as stopped:
        stopped.signal(signal.SIGSTOP)
        try:
            listed = re.sub(r"\n {2,}", " ", status().stdout)
        finally:
            stopped.signal(signal.SIGCONT)
        assert re.search(rf"^ *{well.port} ready ", listed, re.M)
        assert re.search(rf"^ *{stopped.port} +/.*\(pid", listed, re.M)


def test_none_is_exit_1_and_says_how_to_start_one() -> None:
    result = status("nix.py")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("predictord: no daemon of nix.py is running; ")


# --- watch


class Screen:
    """`status --watch` on a terminal of 80 columns."""

    def __init__(self, daemon: Daemon) -> None:
        self._master, slave = pty.openpty()
        ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "predictord", "status", "--watch", "--port", str(daemon.port)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "TERM": "xterm-256color"},
        )
        os.close(slave)
        self.seen = ""

    def until(self, pattern: str, deadline_s: float = 20) -> None:
        """Read until what was written since the last call has this."""
        start, end = len(self.seen), time.monotonic() + deadline_s
        while not re.search(pattern, self.seen[start:], re.DOTALL):
            assert time.monotonic() < end, f"no {pattern!r} in {self.seen[start:]!r}"
            if select.select([self._master], [], [], 0.1)[0]:
                self.seen += os.read(self._master, 65536).decode(errors="replace")

    def interrupt(self) -> int:
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(20)

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(10)
        os.close(self._master)


@contextmanager
def watching(daemon: Daemon) -> Iterator[Screen]:
    screen = Screen(daemon)
    try:
        yield screen
    finally:
        screen.close()


def test_the_view_goes_on_over_a_restart_and_ctrl_c_ends_it() -> None:
    with Daemon(FAILS_ON_DEMAND) as daemon:
        port = daemon.port
        with watching(daemon) as screen:
            screen.until(rf"pid {daemon.pid}")
            daemon.predict({"text": "x"})
            screen.until(r"requests   1, 0 failed")
            daemon.stop()
            screen.until(r"has\b.*ended.*\n.*last seen \d\d:\d\d:\d\d; waiting for it to come back")
            with Daemon(FAILS_ON_DEMAND, "--port", str(port)) as successor:
                screen.until(rf"pid {successor.pid}")
                assert screen.interrupt() == 0
                assert "Traceback" not in screen.seen


def test_in_a_pipe_it_is_said_again_each_second() -> None:
    with Daemon(FAILS_ON_DEMAND) as daemon:
        command = [sys.executable, "-m", "predictord", "status", "--watch", "--port", str(daemon.port)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            heads = []
            for line in process.stdout:
                heads += [line] * line.startswith("state")
                if len(heads) == 3:
                    break
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=20)
        assert (process.returncode, said) == (0, "")
        eventually(lambda: daemon.predict({"text": "x"}).status_code == 200)
