"""The `logs` verb, of daemons with a terminal or pipe of their own; for detached ones see test_detach.py."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.daemon import Daemon, eventually

TALKS = """
import os

class PythonPredictor:
    def predict(self, payload):
        print(payload["say"], flush=True)
        if "last_words" in payload:
            print(payload["last_words"], flush=True)
            os._exit(3)
        return "said"
"""


def logs(daemon: Daemon, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "predictord", "logs", "--port", str(daemon.port), *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


class Follower:
    """`logs -f` at work."""

    def __init__(self, daemon: Daemon, *flags: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "predictord", "logs", "-f", "--port", str(daemon.port), *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def until(self, pattern: str) -> list[str]:
        """What it prints, up to a line like this."""
        assert self._process.stdout is not None
        lines = []
        for line in self._process.stdout:
            lines.append(line.rstrip("\n"))
            if re.search(pattern, line):
                return lines
        raise AssertionError(f"no line like {pattern!r} in {lines}")

    def end(self, number: int | None = None) -> tuple[int, str]:
        """Its exit code, after this signal if there is one, and what it said on stderr."""
        if number is not None:
            self._process.send_signal(number)
        _, said = self._process.communicate(timeout=30)
        return self._process.returncode, said

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


@contextmanager
def following(daemon: Daemon, *flags: str) -> Iterator[Follower]:
    follower = Follower(daemon, *flags)
    try:
        yield follower
    finally:
        follower.close()


def test_the_last_entries_are_those_of_the_console() -> None:
    with Daemon(TALKS) as daemon:
        for number in range(5):
            daemon.predict({"say": f"word {number}"})
        daemon.wait_for_line("word 4")
        result = logs(daemon)
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout.splitlines() == daemon.log
        assert [line[9:] for line in logs(daemon, "-n", "2").stdout.splitlines()] == [
            "worker 0 | word 3",
            "worker 0 | word 4",
        ]
        assert logs(daemon, "-n", "0").stdout == ""


def test_following_shows_each_entry_once_and_what_the_dying_said() -> None:
    with Daemon(TALKS) as daemon, following(daemon, "-n", "1") as follower:
        assert len(follower.until("ready in")) == 1
        for number in range(20):
            daemon.predict({"say": f"word {number}."})
        daemon.predict({"say": "goodbye", "last_words": "no more words"})
        shown = [line[9:] for line in follower.until("no more words")]
        assert shown == [*(f"worker 0 | word {number}." for number in range(20)), "worker 0 | goodbye", shown[-1]]
        follower.until("ended with exit code 3")
        follower.until("ready in")


def test_following_ends_by_itself_with_the_daemon() -> None:
    with Daemon(TALKS) as daemon, following(daemon) as follower:
        follower.until("ready in")
        daemon.stop()
        assert follower.end() == (
            0,
            f"predictord: {daemon.predictor} on port {daemon.port} (pid {daemon.pid}) has ended\n",
        )


def test_ctrl_c_ends_only_the_view() -> None:
    with Daemon(TALKS) as daemon, following(daemon) as follower:
        follower.until("ready in")
        assert follower.end(signal.SIGINT) == (0, "")
        assert daemon.predict({"say": "still here"}).text == "said"


def test_json_has_every_field() -> None:
    with Daemon(TALKS) as daemon:
        daemon.predict({"words": 1})
        eventually(lambda: "KeyError" in daemon.log_text())
        entries = [json.loads(line) for line in logs(daemon, "--json").stdout.splitlines()]
        failure = next(entry for entry in entries if entry["event"] == "prediction_failed")
        assert failure["worker"] == 0
        assert 'print(payload["say"]' in failure["traceback"]


def test_no_daemon_and_no_log_is_exit_1() -> None:
    command = [sys.executable, "-m", "predictord", "logs", "nix.py"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("predictord: no daemon of nix.py is running")
