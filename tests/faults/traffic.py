"""Clients that keep a daemon busy while something goes wrong, and the account of what became of their requests."""

import threading
import time
from collections import Counter
from collections.abc import Iterable
from types import TracebackType
from typing import Any, NamedTuple, Self
from uuid import uuid4

import httpx

from tests.daemon import Daemon


class Answered(NamedTuple):
    """One request's outcome."""

    id: str
    status: int
    worker: str | None
    document: Any
    seconds: float
    ended_at: float
    """`time.monotonic()`."""


def ask(daemon: Daemon, payload: Any, request_id: str | None = None, **headers: str) -> Answered:
    """One request with an id of its own, and its answer."""
    request_id = request_id or uuid4().hex
    started = time.monotonic()
    response = daemon.predict(payload, headers={**headers, "x-request-id": request_id})
    ended = time.monotonic()
    worker = response.headers.get("x-predictord-worker")
    return Answered(request_id, response.status_code, worker, _document(response), ended - started, ended)


class Traffic:
    """Sends the same request from `clients` threads, over and over, during the `with` block."""

    def __init__(self, daemon: Daemon, clients: int = 4, payload: Any = None) -> None:
        self._daemon = daemon
        self._payload = {} if payload is None else payload
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._send) for _ in range(clients)]
        self.answers: list[Answered] = []
        self.errors: list[Exception] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()

    def _send(self) -> None:
        try:
            while not self._over.is_set():
                self.answers.append(ask(self._daemon, self._payload))
        except Exception as error:
            self.errors.append(error)

    def assert_all_answered(self) -> None:
        """No request was lost, and none failed."""
        assert self.errors == []
        assert self.answers
        assert {answer.status for answer in self.answers} == {200}


def assert_once(daemon: Daemon, answers: Iterable[Answered]) -> None:
    """The once rule: each 200 was executed exactly once, every other request at most once, nothing else was."""
    executed = daemon.ledger.ids()
    answers = list(answers)
    twice = {request_id: count for request_id, count in executed.items() if count > 1}
    assert not twice, f"executed more than once: {twice}"
    never = [answer.id for answer in answers if answer.status == 200 and not executed[answer.id]]
    assert not never, f"answered, but never executed: {never}"
    unknown = executed.keys() - {answer.id for answer in answers}
    assert not unknown, f"executed, but nobody asked: {unknown}"


def by_worker(answers: Iterable[Answered]) -> Counter[str | None]:
    """How many requests each worker has answered."""
    return Counter(answer.worker for answer in answers)


def _document(response: httpx.Response) -> Any:
    is_json = "json" in response.headers.get("content-type", "")
    return response.json() if is_json else response.text
