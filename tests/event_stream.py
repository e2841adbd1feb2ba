"""A listener at `/events`, on a thread of its own."""

import json
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import httpx

from tests.daemon import Daemon, eventually


class Listener:
    """Keeps what the daemon sends from the start to the end of the `with` block."""

    def __init__(self, daemon: Daemon) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.comments = 0
        self.ended = threading.Event()
        """Set when the daemon has ended the stream in good order."""
        self._client = httpx.Client(base_url=daemon.url, trust_env=False, timeout=30, headers=daemon.client.headers)
        self._thread = threading.Thread(target=self._listen)
        self._left = False

    def __enter__(self) -> Self:
        self._thread.start()
        eventually(lambda: self.statuses)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left = True
        if not self.ended.is_set():
            connection: socket.socket = self.answer.extensions["network_stream"].get_extra_info("socket")
            connection.shutdown(socket.SHUT_RDWR)
        self._thread.join(20)
        self._client.close()

    @property
    def statuses(self) -> list[dict[str, Any]]:
        """The documents of all `status` events so far."""
        return [document for name, document in self.events if name == "status"]

    def wait_for(self, is_so: Callable[[dict[str, Any]], bool], deadline_s: float = 10) -> dict[str, Any]:
        """The latest status, as soon as it is so."""
        eventually(lambda: is_so(self.statuses[-1]), deadline_s)
        return self.statuses[-1]

    def _listen(self) -> None:
        try:
            with self._client.stream("GET", "/events") as answer:
                self.answer = answer
                self._read(answer)
            self.ended.set()
        except httpx.HTTPError:
            assert self._left, "the stream broke off"

    def _read(self, answer: httpx.Response) -> None:
        name = ""
        for line in answer.iter_lines():
            if line.startswith(":"):
                self.comments += 1
            elif line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                self.events.append((name, json.loads(line.removeprefix("data: "))))
