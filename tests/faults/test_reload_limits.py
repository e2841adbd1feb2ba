"""Reloads that end in time whatever old and new code do, and leave nothing behind.

`RELOADS` makes the search for leaks longer.
"""

import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import h11
import psutil
import pytest

from tests import census
from tests.daemon import Daemon, eventually, in_background
from tests.faults.recovery import wait_whole
from tests.faults.saves import assert_no_way_back, save, source, version, wait_reload
from tests.faults.traffic import Traffic
from tests.raw_http import RawConnection, request

RELOADS = int(os.environ.get("RELOADS", "60"))
DRAIN_S = 2.0
MOST_THREADS = 40
"""The loop's pool for the disk grows as it is needed, up to 32."""
_versions = count(1)
ENDLESS = "if payload == 'endless': return iter_forever()"
SLEEPS = "if payload == 'sleep': record('asleep'); time.sleep(1e4)"


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with Daemon(source(next(_versions)), "--drain-timeout", "2s") as daemon:
        yield daemon


def text(number: int, **parts: str) -> str:
    """A source that can stream for ever."""
    forever = "def iter_forever():\n    while True:\n        yield 'piece '\n        time.sleep(0.01)\n"
    return source(number, **parts) + "\n" + forever


def is_gone(pid: int) -> bool:
    return census.state(pid) in (None, "Z", "X")


def assert_gone_in_time(pid: int, since: float) -> None:
    """Drained for its limit, asked to end for a second, killed; with a second for a slow machine."""
    eventually(lambda: is_gone(pid), DRAIN_S + 2)
    assert time.monotonic() < since + DRAIN_S + 4


# --- old code that does not end


def test_an_endless_stream_is_cut_at_the_limit_and_delays_nothing(daemon: Daemon) -> None:
    save(daemon, text(next(_versions), request=ENDLESS))
    (old,) = daemon.worker_pids()
    with RawConnection(daemon.port) as connection:
        connection.send(request(headers=[("Content-Type", "application/json")], body=b'"endless"'))
        assert connection.socket.recv(1 << 16)
        started = time.monotonic()
        record = save(daemon, text(number := next(_versions), request=ENDLESS))
        assert (record["kind"], "stream" in record["reason"]) == ("replace", True)
        assert (version(daemon), time.monotonic() - started < DRAIN_S) == (number, True)
        assert not is_gone(old)
        with pytest.raises(h11.RemoteProtocolError):
            connection.answer()
        assert time.monotonic() - started > DRAIN_S - 0.5
    assert_gone_in_time(old, started)


def test_a_hung_prediction_turns_a_swap_into_a_replace(daemon: Daemon) -> None:
    save(daemon, text(next(_versions), request=SLEEPS))
    (old,) = daemon.worker_pids()
    with in_background(lambda: daemon.predict("sleep")) as answers:
        eventually(lambda: "asleep" in daemon.ledger.lines())
        daemon.ledger.clear()
        started = time.monotonic()
        record = save(daemon, text(number := next(_versions), request=SLEEPS))
        assert (record["kind"], "took longer than 2 s" in record["reason"]) == ("replace", True)
        assert (version(daemon), time.monotonic() - started < 2 + DRAIN_S) == (number, True)
        assert_gone_in_time(old, started + 2)
    assert answers[0].json()["code"] == "worker_died"


def test_a_worker_that_ignores_sigterm_is_killed(daemon: Daemon) -> None:
    deaf = "import signal, threading; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + (
        "threading.Thread(target=time.sleep, args=(1e4,)).start()"
    )
    save(daemon, text(next(_versions), load=deaf))
    (old,) = daemon.worker_pids()
    started = time.monotonic()
    assert save(daemon, text(number := next(_versions)))["kind"] == "replace"
    assert version(daemon) == number
    assert_gone_in_time(old, started)


def test_a_pool_keeps_code_from_being_swapped_and_ends_with_its_worker(daemon: Daemon) -> None:
    pool = (
        "from concurrent.futures import ProcessPoolExecutor; self.pool = ProcessPoolExecutor(2); "
        "self.pids = [self.pool.submit(os.getpid).result() for _ in range(2)]"
    )
    save(daemon, text(next(_versions), load=pool, request="return {'pids': self.pids}"))
    pids = daemon.predict({}).json()["pids"] + daemon.worker_pids()
    started = time.monotonic()
    record = save(daemon, text(number := next(_versions), load=pool))
    assert (record["kind"], "has the old code" in record["reason"]) == ("replace", True)
    assert version(daemon) == number
    for pid in pids:
        assert_gone_in_time(pid, started)


# --- new code that does not load


def test_a_candidate_that_cannot_end_after_its_failure_is_killed(daemon: Daemon) -> None:
    save(daemon, text(number := next(_versions)))
    clinging = "import threading; threading.Thread(target=time.sleep, args=(1e4,)).start(); raise KeyError('x')"
    started = time.monotonic()
    record = save(daemon, text(next(_versions), load=clinging))
    assert (record["kind"], "KeyError" in record["error"]) == ("failed", True)
    assert (version(daemon), time.monotonic() - started < 5) == (number, True)
    (candidate,) = {int(line.split()[1]) for line in daemon.ledger.lines()[-1:]}
    eventually(lambda: is_gone(candidate))


def test_a_candidate_that_hangs_fails_at_the_startup_timeout() -> None:
    with Daemon(source(1), "--startup-timeout", "1s") as daemon, Traffic(daemon, 1) as traffic:
        record = save(daemon, source(2, load="time.sleep(1e4)"))
        assert (record["kind"], "--startup-timeout" in record["error"]) == ("failed", True)
        assert (version(daemon), len(daemon.worker_pids())) == (1, 1)
    traffic.assert_all_answered()


# --- the end of the supervisor in the middle of a reload


def start_loading(daemon: Daemon) -> None:
    """A candidate that will load for long does so."""
    daemon.ledger.clear()
    daemon.write(source(2, load="wait_for_file('never')"))
    eventually(daemon.ledger.lines)


@pytest.mark.parametrize("mode", ["auto", "in-turn"])
def test_sigterm_in_a_reload_ends_all(mode: str) -> None:
    with Daemon(source(1), "--reload-mode", mode, "--drain-timeout", "1s") as daemon:
        start_loading(daemon)
        started = time.monotonic()
        assert daemon.stop(10) == 0
        assert time.monotonic() - started < 4
        assert daemon.survivors() == []
        assert not re.search("reload failed|Traceback", daemon.log_text())


def test_nothing_outlives_a_supervisor_killed_in_a_reload() -> None:
    with Daemon(source(1)) as daemon:
        start_loading(daemon)
        daemon.kill()
        assert daemon.survivors() == []


# --- leaks


def test_many_reloads_leave_nothing_behind(daemon: Daemon) -> None:
    supervisor = psutil.Process(daemon.pid)
    _reload(daemon, RELOADS // 4)
    before = _settled_census(daemon)
    rss_bytes = supervisor.memory_info().rss
    with Traffic(daemon, 2) as traffic:
        _reload(daemon, RELOADS)
    traffic.assert_all_answered()
    assert_no_way_back(traffic)
    assert _settled_census(daemon) == before
    assert supervisor.memory_info().rss < rss_bytes * 1.05 + (1 << 20)
    assert supervisor.num_threads() < MOST_THREADS


def _reload(daemon: Daemon, times: int) -> None:
    """Save so often, every other time for a replace."""
    for number in range(times):
        parts = {"load": f"self.number = {number}"} if number % 2 else {}
        before = wait_whole(daemon)["generation"]
        daemon.write(source(next(_versions), **parts))
        wait_reload(daemon, before)


def _settled_census(daemon: Daemon) -> tuple[int, list[str]]:
    """Processes, and the supervisor's open files but for clients', once nothing is on its way out."""
    seen: list[tuple[int, list[str]]] = []

    def is_settled() -> bool:
        seen.append((len(census.marked(daemon.mark)), _files(daemon)))
        return len(seen) >= 5 and all(one == seen[-1] for one in seen[-5:])

    eventually(is_settled, 15, 0.3)
    return seen[-1]


def _files(daemon: Daemon) -> list[str]:
    """What kinds of files are open; TCP connections are the clients' matter."""
    clients = {connection.fd for connection in psutil.Process(daemon.pid).net_connections("tcp")}
    kinds = []
    for link in Path(f"/proc/{daemon.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            kind = os.readlink(link).partition(":[")[0]
            if int(link.name) not in clients:
                kinds.append(kind)
    return sorted(kinds)
