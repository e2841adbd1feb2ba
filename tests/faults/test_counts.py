"""`/status`, `/metrics`, `/events` and the clients agree on what has become of requests, whatever happens meanwhile."""

import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest

from tests.daemon import Daemon, eventually
from tests.event_stream import Listener
from tests.prometheus import Scrape
from tests.raw_http import RawConnection, request

SOURCE = """
    import os
    import time

    VERSION = 1

    class Predictor:
        def predict(self, payload):
            time.sleep(payload.get("seconds", 0))
            if payload.get("fail"):
                raise ValueError("asked for")
            if payload.get("exit"):
                os._exit(3)
            if payload.get("stream"):
                return self.stream(payload["stream"])
            return VERSION

        def stream(self, count):
            for number in range(count):
                if number == 5:
                    raise RuntimeError("halfway")
                yield number
"""
CLIENT_THREADS = 6


class Clients:
    """Threads that make requests of all kinds until told to stop, and count what they get."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(CLIENT_THREADS)]
        self._lock = threading.Lock()
        self.statuses: Counter[int] = Counter()
        self.cut = 0
        """Answers that ended too soon: streams that failed halfway, or whose worker died."""

    def start(self) -> None:
        """Make requests from now on."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Make no more, and wait for the answers."""
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _run(self, number: int) -> None:
        payloads: list[dict[str, Any]] = [
            {},
            {"seconds": 0.01},
            {"stream": 3},
            {"fail": True},
            {"stream": 9},
            {},
        ]
        step = number
        with httpx.Client(base_url=self._daemon.url, trust_env=False, timeout=30) as client:
            while not self._stop.is_set():
                self._ask(client, payloads[step % len(payloads)])
                step += 1

    def _ask(self, client: httpx.Client, payload: dict[str, Any]) -> None:
        try:
            status = client.post("/predict", json=payload).status_code
        except httpx.RemoteProtocolError:
            with self._lock:
                self.cut += 1
        else:
            with self._lock:
                self.statuses[status] += 1

    @property
    def count(self) -> int:
        """Requests made."""
        return self.statuses.total() + self.cut


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    with Daemon(SOURCE, "--workers-per-device", "2") as daemon:
        yield daemon


def settled(daemon: Daemon) -> dict[str, Any]:
    """The status once nothing goes on any more."""

    def status() -> dict[str, Any]:
        found = daemon.status()
        assert found["state"] == "ready"
        assert found["requests"]["in_flight"] == found["queue"]["depth"] == 0
        return found

    return eventually(status, 30)


def assert_all_agree(daemon: Daemon, listener: Listener) -> dict[str, Any]:
    """The status, after all sources were found to say the same of it."""
    status = settled(daemon)
    requests, scrape = status["requests"], Scrape(daemon)
    ended = scrape.value("predictord_requests_total")
    assert ended == requests["total"]
    assert scrape.value("predictord_request_duration_seconds_count") == requests["total"]
    by_code = {f"{code}": sum(scrape.samples("predictord_requests_total", code=f"{code}")) for code in range(500, 600)}
    assert sum(by_code.values()) == requests["failed"]
    for worker in status["workers"]:
        labels = {"worker": str(worker["id"])}
        assert scrape.value("predictord_worker_requests_total", **labels) == worker["requests"]
        assert scrape.value("predictord_worker_restarts_total", **labels) == worker["restarts"]
    assert sum(worker["requests"] for worker in status["workers"]) <= requests["total"]
    assert scrape.value("predictord_generation") == status["generation"]
    document = listener.wait_for(lambda found: found["requests"] == requests)
    assert scrape.value("predictord_reloads_total") == len(document["reloads"])
    assert [worker["requests"] for worker in document["workers"]] == [
        worker["requests"] for worker in status["workers"]
    ]
    assert document["generation"] == status["generation"]
    return status


def test_all_agree_under_load_kills_and_reloads(daemon: Daemon) -> None:
    with Listener(daemon) as listener:
        clients = Clients(daemon)
        clients.start()
        eventually(lambda: clients.count > 50)
        os.kill(daemon.worker_pids()[0], signal.SIGKILL)
        eventually(lambda: daemon.status()["workers"][0]["restarts"] == 1, 20)
        daemon.write(SOURCE.replace("return VERSION", "return VERSION + 1"))
        eventually(lambda: daemon.status()["generation"] == 2, 20)
        daemon.write(SOURCE.replace("VERSION = 1", "VERSION = 2"))
        eventually(lambda: (daemon.status()["reload"] or {})["kind"] == "replace", 30)
        os.kill(daemon.worker_pids()[1], signal.SIGKILL)
        daemon.write("def broken(:")
        eventually(lambda: (daemon.status()["reload"] or {})["kind"] == "failed", 20)
        before = clients.count
        eventually(lambda: clients.count > before + 50)
        clients.stop()
        status = assert_all_agree(daemon, listener)
        assert status["requests"]["total"] == clients.count
        failed = sum(count for code, count in clients.statuses.items() if code >= 500) + clients.cut
        assert status["requests"]["failed"] == failed
        assert clients.statuses[200] > 0 < clients.statuses[500]
        counts = {found["detail"]: found["count"] for found in listener.statuses[-1]["failures"]}
        assert counts["ValueError: asked for"] == clients.statuses[500]


def test_clients_that_leave_are_counted_once(daemon: Daemon) -> None:
    with Listener(daemon) as listener:
        for payload in (b'{"seconds": 0.5}', b'{"seconds": 0.5}', b'{"seconds": 0.5}'):  # two in hand, one queued
            with socket.create_connection(("127.0.0.1", daemon.port)) as client:
                client.sendall(
                    b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
                    b"content-length: %d\r\n\r\n%b" % (len(payload), payload)
                )
                time.sleep(0.1)
        status = assert_all_agree(daemon, listener)
    assert status["requests"]["total"] == 3
    assert status["requests"]["failed"] == 0
    assert Scrape(daemon).value("predictord_requests_total", code="499") == 3


def test_request_that_never_became_whole_is_no_prediction(daemon: Daemon) -> None:
    with RawConnection(daemon.port) as client:
        port = client.socket.getsockname()[1]

        def is_connected() -> bool:
            return any(end.raddr and end.raddr.port == port for end in psutil.Process(daemon.pid).net_connections())

        client.send(request(headers=[("Content-Length", "100")], body=b"a part of it"))
        eventually(is_connected)
    eventually(lambda: not is_connected())
    with Listener(daemon) as listener:
        assert daemon.predict({}).status_code == 200
        status = assert_all_agree(daemon, listener)
    assert status["requests"]["total"] == 1
    assert Scrape(daemon).value("predictord_request_duration_seconds_sum") < 60


def test_worker_that_dies_is_counted_as_failed_once(daemon: Daemon) -> None:
    with Listener(daemon) as listener:
        assert daemon.predict({"exit": True}).status_code == 502
        status = assert_all_agree(daemon, listener)
    assert (status["requests"]["total"], status["requests"]["failed"]) == (1, 1)


def test_stream_of_the_wrong_length_is_a_failure() -> None:
    source = """
        from starlette.responses import StreamingResponse

        class Predictor:
            def predict(self, payload):
                return StreamingResponse(iter([b"abc"]), headers={"content-length": str(payload)})
    """
    with Daemon(source) as daemon, Listener(daemon) as listener:
        assert daemon.predict(3).text == "abc"
        for length in (2, 4):
            with pytest.raises(httpx.RemoteProtocolError):
                daemon.predict(length)
        status = assert_all_agree(daemon, listener)
    assert (status["requests"]["total"], status["requests"]["failed"]) == (3, 2)
