"""One contender's server, from its start to its end."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks import processes
from benchmarks.connection import Connection, post
from benchmarks.contenders import APPS, PREDICTOR_FILE, Contender

BODY = b'{"text": "hello world"}'

_START_LIMIT_S = 60
_STOP_LIMIT_S = 30


class ServerFailed(Exception):
    """A server did not start, or answered wrongly; the message has the last line that it printed."""


class Server:
    """A server of `app` during a `with` block; nothing of it outlives the block.

    `start_s` is the time from the start of its process to the first answer.
    """

    def __init__(self, contender: Contender, app: str, workers: int, flags: Sequence[str]) -> None:
        self.name = contender.name
        self.port = _free_port()
        self.start_s = 0.0
        self.request = post(self.port, BODY, "application/json")
        self._mark = uuid.uuid4().hex
        self._temporary = tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True)
        self.folder = Path(self._temporary.name)
        self._app = app
        self._command = contender.command(app, self.port, workers, flags)

    def __enter__(self) -> Self:
        shutil.copy(APPS / "predictor.py", self.folder / PREDICTOR_FILE)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREDICTORD_")}
        started = time.perf_counter()
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self.folder,
                env={**inherited, processes.MARK: self._mark, "BENCH_APP": self._app},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait_for_answer(started + _START_LIMIT_S)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        self.start_s = time.perf_counter() - started
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_LIMIT_S)
        for pid in self.pids():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        self._temporary.cleanup()

    @property
    def pid(self) -> int:
        """The process that was started: of predictord, the supervisor."""
        return self._process.pid

    @property
    def predictor(self) -> Path:
        """The file that predictord serves here."""
        return self.folder / PREDICTOR_FILE

    def pids(self) -> list[int]:
        """All its processes."""
        return processes.marked(self._mark)

    def log_end(self) -> str:
        """The last line that it has printed."""
        lines = (self.folder / "log").read_text(errors="replace").splitlines()
        return lines[-1] if lines else "it printed nothing"

    def _wait_for_answer(self, deadline: float) -> None:
        # A connection that is refused is tried again at once: start times are compared.
        last: object = "no answer"
        while time.perf_counter() < deadline:
            if self._process.poll() is not None:
                raise ServerFailed(f"ended with exit code {self._process.returncode}: {self.log_end()}")
            try:
                with Connection(self.port) as connection:
                    last = status = connection.status(self.request)
                if status == 200:
                    return
            except OSError as error:
                last = error
            time.sleep(0.005)
        raise ServerFailed(f"not ready after {_START_LIMIT_S} s ({last}): {self.log_end()}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
