"""`/events` tells listeners what happens, soon, and costs nobody anything."""

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from tests.daemon import Daemon, eventually
from tests.event_stream import Listener

SOURCE = """
    import time

    class Predictor:
        def predict(self, payload):
            if isinstance(payload, str):
                raise RuntimeError(payload)
            time.sleep(payload)
            return payload
"""
OF_MANY_KINDS = SOURCE.replace("RuntimeError(", 'type("Error" + payload.split()[0], (Exception,), {})(')


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with Daemon(SOURCE, "--workers-per-device", "2") as daemon:
        yield daemon


def test_first_come_the_history_and_the_status(daemon: Daemon) -> None:
    daemon.predict(0)
    with Listener(daemon) as listener:
        assert listener.answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert listener.answer.headers["cache-control"] == "no-store"
        assert [name for name, _ in listener.events[:2]] == ["history", "status"]
        history = listener.events[0][1]
        columns = ["at", "requests_per_s", "failed_per_s", "p50_ms", "p95_ms", "p99_ms", "queue"]
        assert history["columns"] == columns
        assert all(len(row) == len(columns) for row in history["rows"])
        assert all(abs(row[0] - time.time()) < 200 for row in history["rows"])
        document = listener.statuses[0]
    status = daemon.status()
    assert document.keys() > status.keys()
    assert document["workers"][0].keys() > status["workers"][0].keys()
    assert document["folder"] == str(daemon.folder)
    assert daemon.url in document["urls"]
    assert document["gpus"] == []
    assert document["rates"]["requests_per_s"] > 0
    assert any(worker["load_s"] for worker in document["workers"])  # one may still load


def test_flow_is_told_each_second_and_then_its_end(daemon: Daemon) -> None:
    with Listener(daemon) as listener:
        before = len(listener.statuses)
        total = daemon.status()["requests"]["total"]
        end = time.monotonic() + 3
        sent = 0
        while time.monotonic() < end:
            sent += daemon.predict(0.01).is_success
        document = listener.wait_for(lambda status: status["requests"]["total"] == total + sent)
        assert document["rates"]["requests_per_s"] > 1
        assert document["rates"]["p50_ms"] == pytest.approx(document["rates"]["p99_ms"], rel=20)
        assert 2 <= len(listener.statuses) - before <= 8
        rows = [row for name, event in listener.events if name == "history" for row in event["rows"]]
        assert any(row[1] > 1 and row[3] >= 10 for row in rows)
        listener.wait_for(lambda status: status["rates"]["requests_per_s"] == 0, 20)
        assert listener.statuses[-1]["rates"]["p50_ms"] is None


def test_hanging_prediction_is_seen_while_it_hangs(daemon: Daemon) -> None:
    with Listener(daemon) as listener:
        with pytest.raises(Exception, match="timed out"):
            daemon.predict(3, timeout=1.5)
        document = listener.wait_for(lambda status: status["requests"]["in_flight"] == 1)
        assert sorted(worker["state"] for worker in document["workers"]) == ["busy", "ready"]
        listener.wait_for(lambda status: status["requests"]["in_flight"] == 0)


def test_failure_is_told_at_once_with_its_traceback(daemon: Daemon) -> None:
    with Listener(daemon) as listener:
        answers = [daemon.predict("what a pity") for _ in range(3)]
        document = listener.wait_for(lambda status: status["failures"] and status["failures"][0]["count"] == 3)
    failure = document["failures"][0]
    assert failure["status"] == 500
    assert failure["code"] == "predictor_error"
    assert failure["detail"] == "RuntimeError: what a pity"
    assert "raise RuntimeError(payload)" in failure["traceback"]
    assert failure["request_id"] == answers[-1].headers["x-request-id"]
    assert failure["worker"] == int(answers[-1].headers["x-predictord-worker"])


def test_death_and_restart_are_told(daemon: Daemon) -> None:
    with Listener(daemon) as listener:
        killed = listener.statuses[0]["workers"][0]
        os.kill(killed["pid"], signal.SIGKILL)
        listener.wait_for(lambda status: status["workers"][0]["restarts"] == killed["restarts"] + 1)
        listener.wait_for(lambda status: status["state"] == "ready")
        states = {status["workers"][0]["state"] for status in listener.statuses}
        assert states & {"backoff", "starting"}
        assert listener.statuses[-1]["workers"][0]["uptime_s"] < listener.statuses[-1]["workers"][1]["uptime_s"]


def test_reloads_are_told_with_their_lines() -> None:
    with Daemon(SOURCE) as daemon, Listener(daemon) as listener:
        daemon.write(SOURCE.replace("return payload", "return [payload]"))
        listener.wait_for(lambda status: status["generation"] == 2)
        daemon.write("def broken(:")
        document = listener.wait_for(lambda status: len(status["reloads"]) == 2)
        failed, swapped = document["reloads"]
        assert swapped["kind"] == "swap"
        assert swapped["line"] in daemon.log_text()
        assert failed["kind"] == "failed"
        assert failed["line"].startswith("reload failed")
        assert "SyntaxError" in failed["error"]
        assert failed["at"] >= swapped["at"] > time.time() - 60
        assert failed.items() >= document["reload"].items()


def test_without_debug_no_traceback_leaves() -> None:
    with Daemon(SOURCE, "--no-debug") as daemon, Listener(daemon) as listener:
        daemon.predict("secret")
        document = listener.wait_for(lambda status: status["failures"])
        assert document["failures"][0]["traceback"] is None


def test_every_tab_is_told_the_same(daemon: Daemon) -> None:
    def tells(status: dict[str, Any]) -> bool:
        return any(failure["detail"] == "RuntimeError: for all" for failure in status["failures"])

    with Listener(daemon) as one, Listener(daemon) as two, Listener(daemon) as three:
        daemon.predict("for all")
        details = []
        for listener in (one, two, three):
            listener.wait_for(tells)
            document = next(status for status in listener.statuses if tells(status))
            details.append((document["uptime_s"], document["requests"]))
        assert len({json.dumps(detail) for detail in details}) == 1


def test_listener_that_reads_nothing_costs_no_memory() -> None:
    """Each document is most of a megabyte, for its twenty long tracebacks, and comes as often as it may."""
    with Daemon(OF_MANY_KINDS) as daemon, socket.socket() as silent, Listener(daemon) as listener:
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        silent.connect(("127.0.0.1", daemon.port))
        silent.sendall(b"GET /events HTTP/1.1\r\nhost: localhost\r\n\r\n")
        sizes, held = [], []
        for number in range(50):
            daemon.predict(f"{number % 20} {'x' * 30_000}")
            listener.wait_for(lambda status, number=number: status["requests"]["failed"] > number)  # type: ignore[misc]
            sizes.append(len(json.dumps(listener.statuses[-1])))
            held.append(psutil.Process(daemon.pid).memory_info().rss)
    assert sizes[-1] > 500_000
    assert held[-1] - held[25] < 5 * sizes[-1], "it keeps what nobody reads"


def test_head_ends_at_once(daemon: Daemon) -> None:
    answer = daemon.client.head("/events")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")


def test_token_is_asked_for() -> None:
    with Daemon(SOURCE, environment={"PREDICTORD_TOKEN": "t" * 32}, token="t" * 32) as daemon:
        refused = daemon.client.get("/events", headers={"authorization": "Bearer wrong"})
        assert refused.status_code == 401
        with Listener(daemon) as listener:
            assert listener.statuses


def test_stop_ends_the_streams_and_waits_for_none() -> None:
    with Daemon(SOURCE) as daemon, Listener(daemon) as one, Listener(daemon) as two:
        assert daemon.stop() == 0
        assert one.ended.wait(5)
        assert two.ended.wait(5)
        assert one.statuses[-1]["state"] in ("draining", "ready")


def test_nothing_wakes_once_the_listeners_are_gone() -> None:
    with Daemon(SOURCE, "--no-reload") as daemon:
        supervisor = psutil.Process(daemon.pid)

        def switches_in_a_second() -> int:
            before: int = supervisor.num_ctx_switches().voluntary
            time.sleep(1)
            after: int = supervisor.num_ctx_switches().voluntary
            return after - before

        with Listener(daemon):
            assert switches_in_a_second() >= 4
        daemon.predict(0)  # what is sent then meets the listener's closed end
        daemon.client.close()
        eventually(lambda: switches_in_a_second() <= 2, 40)
