"""A real daemon for a test: `predictord serve` as a subprocess, found by the URL that it prints.

with Daemon(SOURCE, "--concurrency", "4") as daemon:
    assert daemon.predict({"text": "hi"}).json() == "HI"
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

import httpx

from tests import census
from tests.ledger import Ledger

T = TypeVar("T")

DEFAULT_FLAGS = ("--port", "0", "--devices", "cpu", "--drain-timeout", "5s")
"""Before a test's own flags, which override them."""

URL = re.compile(r"http://127\.0\.0\.1:(\d+)")


def eventually(ask: Callable[[], T], deadline_s: float = 10, pause_s: float = 0.02) -> T:
    """Call `ask` until its answer is true and return that; fail with the last answer at the deadline.

    An AssertionError in `ask` counts as "not yet" and is what fails at the deadline.
    """
    end = time.monotonic() + deadline_s
    while True:
        late = time.monotonic() > end
        try:
            answer = ask()
        except AssertionError:
            if late:
                raise
        else:
            if answer:
                return answer
            assert not late, f"still {answer!r} after {deadline_s} s"
        time.sleep(pause_s)


class Daemon:
    """A daemon that serves `source` (text, or a path) from its start to the end of the `with` block.

    At the end it is stopped, and it must have left no process, no port and no runtime file.

    Args:
        source: the predictor's text, written to `predictor.py` in a folder of its own, or
            the path of a predictor that exists.
        flags: more flags for `serve`.
        files: further files of that folder, by relative name.
        environment: added to ours, less every `PREDICTORD_*`.
        class_name: what stands after the colon of `predictor.py:Name`.
        file_name: another name than `predictor.py`.
        wait_ready: whether entering the block waits for `/readyz`.
        ready_within_s: its deadline.
        token: sent by `client` as a bearer token.
    """

    open: list["Daemon"] = []  # noqa: RUF012  those whose block has not ended, for the report of a failed test

    def __init__(
        self,
        source: str | Path,
        *flags: str,
        files: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        class_name: str | None = None,
        file_name: str = "predictor.py",
        wait_ready: bool = True,
        ready_within_s: float = 30,
        token: str | None = None,
    ) -> None:
        self.log: list[str] = []
        self.mark = uuid.uuid4().hex
        self._temporary = tempfile.TemporaryDirectory(prefix="predictord-test-", ignore_cleanup_errors=True)
        self.predictor = source if isinstance(source, Path) else Path(self._temporary.name) / "project" / file_name
        self.folder = self.predictor.parent
        self.ledger = Ledger(self.folder)
        self._flags = flags
        self._target = f"{self.predictor}:{class_name}" if class_name else str(self.predictor)
        self._environment = dict(environment or {})
        self._wait_ready = wait_ready
        self._ready_within_s = ready_within_s
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client: httpx.Client | None = None
        self._news = threading.Condition()
        self._log_ended = False
        self._asked_to_end = False
        if isinstance(source, str):
            self.folder.mkdir()
            self.write(source)
        for name, text in (files or {}).items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(text))

    def __enter__(self) -> Self:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREDICTORD_")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "predictord", "serve", self._target, *DEFAULT_FLAGS, *self._flags],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.folder.parent,
            env={**inherited, **self._environment, census.MARK: self.mark},
            start_new_session=True,
        )
        Daemon.open.append(self)
        # A daemon thread, as an orphan that outlives the daemon may keep the pipe open for ever.
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        if self._wait_ready:
            try:
                self.wait_ready(self._ready_within_s)
            except BaseException:
                self.__exit__(*sys.exc_info())
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        failed = error is not None
        code = None
        try:
            if self._process.poll() is None and not self._asked_to_end:
                code = self.stop()
        finally:
            survivors = self._clean_up()
            if failed:
                print(self.log_text())  # pytest shows it with the failure that is under way
        if failed:
            return
        assert not survivors, f"processes {survivors} outlive the daemon\n{self.log_text()}"
        port = self._port_in_log()
        assert port is None or census.is_bindable(port), f"port {port} is still taken"
        if code is not None:
            assert code == 0, f"exit {code} after SIGTERM\n{self.log_text()}"
            assert census.runtime_files(self.pid) == []

    # --- what it says

    @property
    def pid(self) -> int:
        """The supervisor's pid."""
        return self._process.pid

    @property
    def port(self) -> int:
        """The port that it printed; waits for the line."""
        return int(self.wait_for_line(URL.pattern, 20)[1])

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`; waits for the line that says it."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def client(self) -> httpx.Client:
        """A client of this daemon that heeds no proxy; threads may share it."""
        if self._client is None:
            self._client = httpx.Client(base_url=self.url, trust_env=False, timeout=30, headers=self._headers)
        return self._client

    def log_text(self) -> str:
        """Everything printed so far."""
        return "\n".join(self.log)

    def wait_for_line(self, pattern: str, deadline_s: float = 10, start: int = 0) -> re.Match[str]:
        """The match of the first printed line, from line `start` on, that the pattern is found in."""
        end = time.monotonic() + deadline_s
        with self._news:
            seen = start
            while True:
                for line in self.log[seen:]:
                    if match := re.search(pattern, line):
                        return match
                seen = max(seen, len(self.log))
                left = end - time.monotonic()
                if self._log_ended or left <= 0:
                    why = "before its end" if self._log_ended else f"in {deadline_s} s"
                    raise AssertionError(f"the daemon printed no line like {pattern!r} {why}:\n{self.log_text()}")
                self._news.wait(left)

    def wait_ready(self, deadline_s: float = 30) -> None:
        """Return once `/readyz` answers 200."""
        end = time.monotonic() + deadline_s
        while (answer := self.client.get("/readyz")).status_code != 200:
            assert time.monotonic() < end, f"not ready in {deadline_s} s: {answer.text}\n{self.log_text()}"
            time.sleep(0.02)

    def status(self) -> dict[str, Any]:
        """`GET /status`."""
        document: dict[str, Any] = self.client.get("/status").json()
        return document

    def worker_pids(self) -> list[int]:
        """The pids of the workers that live now."""
        return [worker["pid"] for worker in self.status()["workers"] if worker["pid"]]

    # --- what is done to it

    def predict(self, payload: Any = None, **arguments: Any) -> httpx.Response:
        """`POST /predict` with `payload` as JSON, or with httpx's own arguments (`content=`, `data=`, `files=`)."""
        body = {} if {"content", "data", "files"} & arguments.keys() else {"json": payload}
        return self.client.post("/predict", **body, **arguments)

    def write(self, source: str) -> None:
        """Put this text in the predictor's file, as an editor does: beside it, then renamed over it."""
        draft = self.predictor.with_suffix(".draft")
        draft.write_text(dedent(source))
        draft.replace(self.predictor)

    def open_gate(self, name: str) -> None:
        """Let go what waits in the ledger prelude's `wait_for_file(name)`."""
        (self.folder / name).touch()

    def signal(self, number: int) -> None:
        """Send the supervisor a signal."""
        self._process.send_signal(number)

    def stop(self, deadline_s: float = 20) -> int:
        """SIGTERM, and the exit code; at the deadline SIGKILL and a failure."""
        self._asked_to_end = True
        self._process.terminate()
        return self.wait(deadline_s)

    def wait(self, deadline_s: float = 20) -> int:
        """The exit code of a daemon that ends by itself."""
        self._asked_to_end = True
        try:
            code = self._process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still runs after {deadline_s} s\n{self.log_text()}") from None
        self._reader.join(2)
        return code

    def kill(self) -> None:
        """SIGKILL for the supervisor, and reap it."""
        self._asked_to_end = True
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(10)

    def survivors(self, within_s: float = 2) -> list[int]:
        """The processes of this daemon's tree that still live after that time; returns as soon as there are none."""
        end = time.monotonic() + within_s
        while (pids := census.marked(self.mark)) and time.monotonic() < end:
            time.sleep(0.02)
        return pids

    # --- below the floor

    def _read_log(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                with self._news:
                    self.log.append(line.decode(errors="replace").rstrip("\r\n"))
                    self._news.notify_all()
        with self._news:
            self._log_ended = True
            self._news.notify_all()

    def _port_in_log(self) -> int | None:
        match = URL.search(self.log_text())
        return int(match[1]) if match else None

    def _clean_up(self) -> list[int]:
        if self._client is not None:
            self._client.close()
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(10)
        survivors = self.survivors()
        census.kill_marked(self.mark)
        self._reader.join(2)
        Daemon.open.remove(self)
        census.reap_orphans(spared={daemon.pid for daemon in Daemon.open})
        self._temporary.cleanup()
        return survivors


class Exit(NamedTuple):
    """How a daemon that did not start has ended."""

    code: int
    log: str


def serve_to_exit(source: str | Path, *flags: str, **options: Any) -> Exit:
    """Run a daemon with `--no-reload` that is expected to end by itself, and say how it did."""
    with Daemon(source, "--no-reload", *flags, wait_ready=False, **options) as daemon:
        code = daemon.wait()
        return Exit(code, daemon.log_text())


@contextmanager
def in_background(*calls: Callable[[], T]) -> Iterator[list[T]]:
    """Make the calls, each on a thread of its own, during the block; the list is filled at its end, in their order."""
    answers: list[T] = []
    with ThreadPoolExecutor(len(calls)) as pool:
        futures = [pool.submit(call) for call in calls]
        yield answers
        answers.extend(future.result(60) for future in futures)
