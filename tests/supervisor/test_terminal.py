"""The pretty console, seen through a pseudo terminal."""

import logging
import os
import pty
import re
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from predictord.supervisor.console import open_console

log = logging.getLogger("predictord")


class Terminal:
    """A pseudo terminal and everything written to it."""

    def __init__(self) -> None:
        self.master, slave = pty.openpty()
        self.stream = os.fdopen(slave, "w", encoding="utf-8")
        self._seen = b""
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    @property
    def seen(self) -> str:
        return self._seen.decode("utf-8", "ignore")

    def _read(self) -> None:
        try:
            while chunk := os.read(self.master, 65536):
                self._seen += chunk
        except OSError:  # EIO: all have closed the other end
            pass

    def close(self) -> None:
        if not self.stream.closed:
            self.stream.close()
            self._thread.join(30)
            os.close(self.master)

    def until(self, condition: Callable[[str], bool]) -> None:
        deadline = time.monotonic() + 30
        while not condition(self.seen):
            assert time.monotonic() < deadline, self.seen
            time.sleep(0.01)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal()
    yield terminal
    terminal.close()


def text_lines(seen: str) -> list[str]:
    """What was written, without styles and moves; what is redrawn in place comes as lines too."""
    return re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen))


def test_auto_is_pretty_on_a_terminal(terminal: Terminal) -> None:
    with open_console("auto", terminal.stream):
        log.info("worker 0 ready in 1.2 s", extra={"event": "worker_ready", "worker": 0})
        log.info("loss [bold]0.3[/] :smile:", extra={"event": "worker_output", "worker": 0})
        log.info("loss 0.4", extra={"event": "worker_output", "worker": 1})
        log.error("load failed\x1b[2J", extra={"traceback": "Traceback:\n  boom"})
        log.info("x" * 200)
    terminal.close()
    assert [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in text_lines(terminal.seen)] == [
        "worker 0 ready in 1.2 s",
        "worker 0 | loss [bold]0.3[/] :smile:",
        "worker 1 | loss 0.4",
        r"load failed\x1b[2J",
        "    Traceback:",
        "      boom",
        "x" * 200,
        "",
    ]
    assert "\x1b[36mworker 0 | \x1b[0m" in terminal.seen
    assert "\x1b[35mworker 1 | \x1b[0m" in terminal.seen
    assert "\x1b[31mload failed" in terminal.seen


def test_loading_is_shown_below_the_log_and_then_gone(terminal: Terminal) -> None:
    label = "worker 0 (GPU 1, " + "long name " * 10 + ")"
    with open_console("pretty", terminal.stream) as loading:
        loading.start(label)
        loading.start("worker 1")
        terminal.until(lambda seen: len(set(re.findall("[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏]", seen))) > 3)
        log.info("importing torch", extra={"event": "worker_output", "worker": 0})
        terminal.until(lambda seen: "importing torch" in seen)
        assert "\x1b[?25h" not in terminal.seen
        loading.done("worker 1")
        loading.done("worker 1")
        loading.done(label)
        terminal.until(lambda seen: "\x1b[?25h" in seen)
        log.info("ready")
    terminal.close()
    lines = text_lines(terminal.seen)
    assert any(re.fullmatch(r"\S loading worker 0 \(GPU 1, .*…", line) for line in lines)
    assert any(re.match(r"\S loading worker 1 0 s", line) for line in lines)
    assert all(len(line) <= 80 for line in lines)
    assert [line[9:] for line in lines if re.match(r"\d\d:", line)] == ["worker 0 | importing torch", "ready"]


def test_stop_ends_the_display(terminal: Terminal) -> None:
    with open_console("pretty", terminal.stream) as loading:
        loading.start("worker 0")
        terminal.until(lambda seen: "loading worker 0" in seen)
        loading.stop()
        terminal.until(lambda seen: "\x1b[?25h" in seen)


def test_a_dumb_terminal_gets_lines_and_no_moves(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    with open_console("auto", terminal.stream) as loading:
        loading.start("worker 0")
        log.info("hello")
        loading.stop()
    terminal.close()
    assert re.fullmatch(r"\d\d:\d\d:\d\d hello\r\n", terminal.seen)
