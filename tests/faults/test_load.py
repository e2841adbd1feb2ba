"""Predictors that do not load, load for long, or misbehave while they do."""

import os
import signal
import time
from itertools import pairwise

import psutil
import pytest

from tests.daemon import Daemon, eventually, serve_to_exit
from tests.faults.recovery import SLACK, wait_whole, worker
from tests.faults.traffic import Traffic, ask
from tests.ledger import PRELUDE

# --- L1: code that can't be loaded

BROKEN = {
    "raises in __init__": (
        "class P:\n    def __init__(self):\n        {}['weights']\n    def predict(self): ...\n",
        "KeyError: 'weights'",
    ),
    "import error": ("import torhc\n\nclass P:\n    def predict(self): ...\n", "No module named 'torhc'"),
    "syntax error": ("class P:\n    def predict(self:\n", "SyntaxError"),
    "class missing": ("MODEL = 1\n", "predict"),
    "wrong signature": ("class P:\n    def predict(self, image): ...\n", "image"),
}


@pytest.mark.parametrize(("source", "reason"), BROKEN.values(), ids=BROKEN)
def test_stays_and_says_why(source: str, reason: str) -> None:
    with Daemon(source, wait_ready=False) as daemon:
        eventually(lambda: daemon.status()["state"] == "failed")
        problem = daemon.predict({})
        assert (problem.status_code, problem.json()["code"]) == (503, "no_worker")
        assert reason in problem.json()["detail"]
        assert "retry-after" in problem.headers
        assert daemon.client.get("/readyz").json()["detail"] == problem.json()["detail"]
        (entry,) = daemon.status()["workers"]
        assert (entry["state"], entry["pid"], entry["restarts"]) == ("failed", None, 0)


@pytest.mark.parametrize(("source", "reason"), BROKEN.values(), ids=BROKEN)
def test_without_reload_it_ends(source: str, reason: str) -> None:
    code, log = serve_to_exit(source)
    assert code == 3
    assert reason in log


def test_traceback_points_at_the_line() -> None:
    source, _ = BROKEN["raises in __init__"]
    with Daemon(source, wait_ready=False) as daemon:
        eventually(lambda: daemon.status()["state"] == "failed")
        traceback = daemon.predict({}).json()["traceback"]
        assert f"File \"{daemon.predictor}\", line 3, in __init__\n    {{}}['weights']" in traceback
        daemon.wait_for_line(r"predictor\.py.*line 3, in __init__")


# --- L2: a crash loop

MORTAL = (
    PRELUDE
    + """
class P:
    def __init__(self):
        record(time.monotonic(), "1", os.getpid())
        os._exit(1)

    def predict(self): ...
"""
)


def test_crash_loop_slows_down_and_costs_little() -> None:
    with Daemon(MORTAL, wait_ready=False) as daemon:
        lines = eventually(lambda: daemon.ledger.lines() if len(daemon.ledger.lines()) >= 4 else None, 15)
        before, since = psutil.Process(daemon.pid).cpu_times(), time.monotonic()
        eventually(lambda: len(daemon.ledger.lines()) >= 5, 2 + 2 * SLACK, 0.1)
        after, passed_s = psutil.Process(daemon.pid).cpu_times(), time.monotonic() - since
        used_s = after.user + after.system - before.user - before.system
        assert used_s / passed_s < 0.02 * SLACK

        assert lines is not None
        starts_s = [float(line.split()[0]) for line in daemon.ledger.lines()[:5]]
        gaps_s = [later - earlier for earlier, later in pairwise(starts_s)]
        assert all(gap_s >= delay_s for gap_s, delay_s in zip(gaps_s, [0.25, 0.5, 1, 2], strict=True)), gaps_s

        problem = daemon.predict({})
        assert (problem.status_code, problem.json()["code"]) == (503, "no_worker")
        assert "exit code 1 while loading" in problem.json()["detail"]


def test_without_reload_a_death_while_loading_ends_it() -> None:
    assert serve_to_exit(MORTAL).code == 3


# --- L3, L5, L6: loads that take their time; who comes first has the trouble

FIRST = (
    PRELUDE
    + """
import ctypes

def is_first():
    try:
        os.close(os.open("first", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True

def hold_the_gil():
    library, mutex = ctypes.PyDLL(None), (ctypes.c_char * 64)()
    library.pthread_mutex_lock(mutex)
    library.pthread_mutex_lock(mutex)

class P:
    def __init__(self):
        if is_first():
            {trouble}

    def predict(self, headers):
        record(headers["x-request-id"], "1", os.getpid())
        return os.getpid()
"""
)


@pytest.mark.parametrize("trouble", ["time.sleep(1e4)", "hold_the_gil()"])
def test_load_that_hangs_is_started_anew(trouble: str) -> None:
    source = FIRST.replace("{trouble}", trouble)
    with Daemon(source, "--workers-per-device", "2", "--startup-timeout", "1s") as daemon:
        with Traffic(daemon, clients=1) as traffic:
            (hanging,) = [entry for entry in daemon.status()["workers"] if entry["state"] == "starting"]
            started = time.monotonic()
            daemon.wait_for_line(
                rf"worker {hanging['id']} .*did not load: .*did nothing for 1 s while loading \(--startup-timeout\)",
                1 + SLACK,
            )
            assert time.monotonic() - started > 0.2
            wait_whole_but_busy(daemon)
        traffic.assert_all_answered()
        assert worker(daemon, hanging["id"])["pid"] != hanging["pid"]
        assert worker(daemon, hanging["id"])["restarts"] == 1


def wait_whole_but_busy(daemon: Daemon) -> None:
    """Every worker serves."""
    eventually(lambda: {entry["state"] for entry in daemon.status()["workers"]} <= {"ready", "busy"})


@pytest.mark.parametrize(
    ("trouble", "at_least_s"),
    [
        ("[(print(n), time.sleep(0.5)) for n in range(4)]", 2),
        # Each sum holds the GIL; together they last longer than a ping may.
        (
            "[sum(range(10_000_000)) for end in [time.time() + 6] for _ in iter(lambda: time.time() < end, False)]",
            6,
        ),
    ],
    ids=["prints", "computes"],
)
def test_load_that_makes_progress_is_left_alone(trouble: str, at_least_s: float) -> None:
    with Daemon(FIRST.replace("{trouble}", trouble), "--startup-timeout", "1s") as daemon:
        assert float(daemon.wait_for_line(r"ready in (\S+) s")[1]) > at_least_s
        assert daemon.status()["workers"][0]["restarts"] == 0
        assert "does not answer" not in daemon.log_text()


def test_serves_from_the_first_ready_worker() -> None:
    source = FIRST.replace("{trouble}", 'wait_for_file("go")')
    with Daemon(source, "--workers-per-device", "4") as daemon:
        eventually(lambda: states(daemon) == ["ready", "ready", "ready", "starting"])
        assert daemon.status()["state"] == "degraded"
        assert len({ask(daemon, {}).document for _ in range(9)}) == 3
        daemon.open_gate("go")
        wait_whole(daemon)
        assert daemon.status()["state"] == "ready"


def states(daemon: Daemon) -> list[str]:
    """The workers' states, sorted."""
    return sorted(entry["state"] for entry in daemon.status()["workers"])


# --- L4: what __init__ may do to its process

CLUMSY = """
import os

class P:
    def __init__(self):
        {clumsiness}

    def predict(self, payload):
        return os.getpid()
"""


@pytest.mark.parametrize("clumsiness", ["os.closerange(0, 3)", "os.chdir('/')"])
def test_clumsy_init_serves(clumsiness: str) -> None:
    with Daemon(CLUMSY.replace("{clumsiness}", clumsiness)) as daemon:
        assert [daemon.predict({}).status_code for _ in range(3)] == [200] * 3


def test_a_hundred_megabytes_of_output_block_nobody() -> None:
    source = CLUMSY.replace("{clumsiness}", 'for _ in range(100): os.write(1, (b"x" * 99 + b"\\n") * 10_000)')
    with Daemon(source) as daemon:
        assert any("lines not shown" in line for line in daemon.log)
        assert sum(map(len, daemon.log)) < 10 << 20
        assert daemon.predict({}).status_code == 200


def test_end_is_seen_though_a_child_holds_the_output() -> None:
    """A child in a session of its own, which the kill of the worker's group does not reach."""
    source = CLUMSY.replace("{clumsiness}", "if os.fork() == 0: import time; os.setsid(); time.sleep(1e4)")
    with Daemon(source) as daemon:
        (pid,) = daemon.worker_pids()
        (child,) = psutil.Process(pid).children()
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: daemon.worker_pids() not in ([pid], []), SLACK)
        eventually(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, SLACK)


# --- L7: workers that do not want to end

STUBBORN = (
    PRELUDE
    + """
import atexit, signal, threading

TROUBLES = [
    lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN),
    lambda: signal.signal(signal.SIGTERM, lambda number, frame: None),
    lambda: threading.Thread(target=time.sleep, args=[1e4]).start(),
    lambda: atexit.register(time.sleep, 1e4),
]

class P:
    def __init__(self):
        for number, trouble in enumerate(TROUBLES):
            try:
                os.close(os.open(f"taken{number}", os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                continue
            trouble()
            break

    def predict(self): ...
"""
)


def test_stubborn_workers_do_not_hold_up_the_stop() -> None:
    with Daemon(STUBBORN, "--workers-per-device", "4", "--drain-timeout", "1s") as daemon:
        wait_whole(daemon)
        assert len(list(daemon.folder.glob("taken*"))) == 4
        started = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - started < (1 + 2) * SLACK
        assert len([line for line in daemon.log if "ignores SIGTERM" in line]) == 4
