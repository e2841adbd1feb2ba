"""A page's commands, run as its reader would: in one folder, one after the other, with a real daemon.

What differs from a reader's terminal: port 8000 is a free one, also where a command does
not name it, since other daemons run beside; `serve` goes on in the background until the
page starts the next one or ends; and a command that only looks is repeated for a while,
since a save needs a moment.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests import census
from tests.docs.matching import pattern

ROOT = Path(__file__).parents[2]
STAND_INS = {
    "scripts/install dev": "true",  # has run, or this test would not
    "scripts/install": "true",
    ". .venv/bin/activate": "true",
    "scripts/serve": "predictord serve examples/digits/predictor.py",  # which is what it does in the end
    "systemctl": "true",  # there is no service manager in a test
    "journalctl": "true",
    "loginctl": "true",
}
LOOKS = ("curl ", "predictord status", "predictord logs", "cat ", "grep ")
FINDS_A_DAEMON = ("predictord serve", "predictord status", "predictord logs", "predictord reload", "predictord stop")
DEADLINE_S = 20.0
_PAUSE_S = 0.1


class Session:
    """One page's terminal; at the end of the block all that was started is gone."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._home = self._folder = folder
        (self._folder / "examples").symlink_to(ROOT / "examples")
        (self._home / ".curlrc").write_text("silent\nshow-error\n")  # curl's meter is for terminals
        self._mark = uuid.uuid4().hex
        own = {name: value for name, value in os.environ.items() if not name.startswith(("PREDICTORD_", "XDG_"))}
        self._environment = {
            **own,
            **environment,
            "HOME": str(self._home),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONUNBUFFERED": "1",
            census.MARK: self._mark,
        }
        self._port = _free_port()
        self._serving: subprocess.Popen[str] | None = None
        self._last_code: int | None = 0
        self.last_output = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._stop_serving()
            survivors = census.marked(self._mark)
            assert error is not None or not survivors, "the page leaves a daemon running"
        finally:
            census.kill_marked(self._mark)

    def write(self, name: str, text: str) -> None:
        """Save a file that the page shows."""
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.draft")
        draft.write_text(self._adapted(text))
        draft.replace(path)

    def run(self, command: str, expected: str) -> None:
        """Run a command and compare what it prints; an AssertionError shows both."""
        command = self._adapted(command.replace("\\\n", ""))
        for words, stand_in in STAND_INS.items():
            if command == words or command.startswith(words + " "):
                command = stand_in + command.removeprefix(words) if stand_in != "true" else "true"
                expected = "" if stand_in == "true" else expected
        if command.startswith("cd "):
            self._folder = (self._folder / command[3:].strip()).resolve()
        elif command.startswith("predictord serve") and "--detach" not in command:
            self._serve(self._with_port(command), expected)
        else:
            self._run_to_end(self._with_port(command), expected)

    def _run_to_end(self, command: str, expected: str) -> None:
        if "$?" in command and self._last_code is None and self._serving is not None:  # that refused to start
            self._last_code, self._serving = self._serving.wait(DEADLINE_S), None
        deadline = time.monotonic() + DEADLINE_S
        while True:
            done = subprocess.run(
                ["bash", "-c", f"(exit {self._last_code or 0}); {command}"],
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=60,
            )
            shown = self.last_output = self._as_shown(done.stdout)
            if _is_reachable(command, done.returncode) and (not expected or pattern(expected).fullmatch(shown)):
                break
            repeated = command.startswith(LOOKS) and time.monotonic() < deadline
            assert repeated, f"$ {command}\n{shown}[exit {done.returncode}]\ninstead of\n{expected}"
            time.sleep(_PAUSE_S)
        self._last_code = done.returncode

    def _serve(self, command: str, expected: str) -> None:
        self._stop_serving()
        before, interrupted, after = expected.partition("^C\n")
        path = self._folder / ".serve.log"
        with path.open("w") as log:
            self._serving = subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        self._last_code = None
        self._await_log(path, pattern(before).match, command, before)
        if interrupted:
            self._serving.send_signal(signal.SIGINT)
            self._last_code = self._serving.wait(DEADLINE_S)
            self._serving = None
            self._await_log(path, pattern(before + "…\n" + after).fullmatch, command, expected)

    def _await_log(self, path: Path, matches: Callable[[str], object], command: str, expected: str) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not matches(shown := self._as_shown(path.read_text())):
            assert time.monotonic() < deadline, f"$ {command}\n{shown}\ninstead of\n{expected}"
            time.sleep(_PAUSE_S)

    def _stop_serving(self) -> None:
        if self._serving is None:
            return
        serving, self._serving = self._serving, None
        serving.terminate()
        code = serving.wait(DEADLINE_S)
        assert code == 0, f"serve exited {code} on SIGTERM"

    def _adapted(self, text: str) -> str:
        return re.sub(r"\b8000\b", str(self._port), text)

    def _as_shown(self, output: str) -> str:
        whole_lines = output if output.endswith("\n") or not output else output + "\n"
        return re.sub(rf"\b{self._port}\b", "8000", whole_lines)

    def _with_port(self, command: str) -> str:
        asks = command.startswith(FINDS_A_DAEMON) and "--port" not in command
        return f"{command} --port {self._port}" if asks else command


def _is_reachable(command: str, code: int) -> bool:
    """Whether nothing was there to be asked yet, which only waiting cures."""
    return not (command.startswith("curl ") and code == 7)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
