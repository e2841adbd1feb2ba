"""A command on a terminal of its own, whose keys a test presses."""

import fcntl
import os
import re
import select
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from tests.daemon import URL, eventually

CTRL_C = b"\x03"


class Screen:
    """`predictord ARGUMENTS` in the foreground of a new pseudo-terminal, for the length of a `with` block."""

    def __init__(self, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        self.environment = {**os.environ, "TERM": "xterm", **(environment or {})}
        self._shown = b""
        self._keyboard, terminal = os.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "predictord", *arguments],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env=self.environment,
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
        os.close(terminal)
        self._closing = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        self.close()

    @property
    def text(self) -> str:
        """Everything shown so far, control sequences included."""
        return self._shown.decode(errors="replace")

    def wait_for(self, pattern: str, deadline_s: float = 20) -> re.Match[str]:
        """The first match of this pattern in what is shown."""

        def match() -> re.Match[str]:
            found = re.search(pattern, self.text)
            assert found, f"{pattern!r} was not shown:\n{self.text}"
            return found

        return eventually(match, deadline_s)

    def port(self) -> int:
        """The port that a daemon has printed."""
        return int(self.wait_for(URL.pattern)[1])

    def press(self, keys: bytes) -> None:
        """Type; Ctrl-C reaches every process of the foreground group, as from a real keyboard."""
        os.write(self._keyboard, keys)

    def close(self) -> None:
        """Close the window: the session's leader gets SIGHUP."""
        self._closing.set()
        self._reader.join(5)

    def wait(self, deadline_s: float = 20) -> int:
        """The exit code."""
        return self.process.wait(deadline_s)

    def _read(self) -> None:
        # Polls, since a close during a read would take effect only after it.
        with open(self._keyboard, "rb", buffering=0) as screen:
            while not self._closing.is_set():
                if select.select([screen], [], [], 0.02)[0]:
                    try:
                        self._shown += screen.read(65536)
                    except OSError:  # EIO: nobody has the terminal open any more
                        self._closing.wait()


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    # A job that a script started with `&` ignores Ctrl-C, and so would all that it starts.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
