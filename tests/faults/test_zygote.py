"""Workers that a zygote forked are like any others, and its end costs them nothing."""

import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import census
from tests.daemon import Daemon, eventually, in_background
from tests.ledger import PRELUDE

SOURCE = (
    PRELUDE
    + """
import ctypes, random, signal, sys
import heavy

class PythonPredictor:
    def predict(self, payload):
        return getattr(self, payload)()

    def birth(self):
        with open("/proc/self/stat") as file:
            parent = int(file.read().rpartition(")")[2].split()[1])
        return {"pid": os.getpid(), "parent": parent, "session": os.getsid(0), "imported_in": heavy.PID}

    def numbers(self):
        import numpy
        return [random.random(), float(numpy.random.random())]

    def surroundings(self):
        main = dir(sys.modules["__main__"])
        return {"variables": dict(os.environ), "argv": sys.argv, "cwd": os.getcwd(), "main": main}

    def speak(self):
        print("a word from", os.getpid())
        print("a complaint from", os.getpid(), file=sys.stderr)

    def sleep(self):
        time.sleep(60)

    def leave(self):
        os._exit(7)

    def crash(self):
        ctypes.string_at(0)
"""
)

HEAVY = "import os, numpy.random\nPID = os.getpid()\n"

THREAD = "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()"

ONLY_FIRST = (
    HEAVY
    + """
import pathlib, time
if not pathlib.Path("mark").exists():
    pathlib.Path("mark").touch()
    """
)


@contextmanager
def serve(
    heavy: str, *flags: str, source: str = SOURCE, wait_ready: bool = True, **environment: str
) -> Iterator[Daemon]:
    """A daemon whose predictor imports an installed package of this text."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "site-packages" / "heavy.py"
        package.parent.mkdir()
        package.write_text(heavy)
        variables = {"PYTHONPATH": str(package.parent), **environment}
        with Daemon(source, *flags, wait_ready=wait_ready, environment=variables) as daemon:
            yield daemon


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with serve(HEAVY, "--workers-per-device", "2", "--request-timeout", "2s", OWN="own") as daemon:
        eventually(lambda: daemon.status()["state"] == "ready", 20)
        yield daemon


def zygote_pid(daemon: Daemon) -> int | None:
    """The daemon's child that runs as a zygote and is no worker."""
    children = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()
    workers = daemon.worker_pids()
    return next((int(child) for child in children if int(child) not in workers and is_zygote(child)), None)


def is_zygote(pid: str) -> bool:
    try:
        return b"zygote" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False  # it has just ended


def ready(daemon: Daemon) -> bool:
    return bool(daemon.status()["state"] == "ready")


def test_workers_come_from_the_zygote_and_are_the_supervisors(daemon: Daemon) -> None:
    zygote = zygote_pid(daemon)
    births = [daemon.predict("birth").json() for _ in range(4)]
    assert {birth["imported_in"] for birth in births} == {zygote}
    assert {birth["parent"] for birth in births} == {daemon.pid}
    assert all(birth["session"] == birth["pid"] for birth in births)
    assert {birth["pid"] for birth in births} == set(daemon.worker_pids())


def test_siblings_draw_different_numbers(daemon: Daemon) -> None:
    one, other = (daemon.predict("numbers").json() for _ in range(2))
    assert not set(one) & set(other)


def test_surroundings_are_those_of_an_execed_worker(daemon: Daemon) -> None:
    with serve(HEAVY, "--no-warm-start", "--workers-per-device", "2", OWN="own") as cold:
        theirs, ours = cold.predict("surroundings").json(), daemon.predict("surroundings").json()
    for place, at in ((theirs, cold), (ours, daemon)):
        assert place["argv"] == [str(at.predictor.resolve())]
        assert place["cwd"] == str(at.folder.resolve())
        for name in ("PYTHONPATH", "PREDICTORD_INSTANCE", "PYTEST_CURRENT_TEST", census.MARK):
            assert place["variables"].pop(name)
    assert ours["variables"] == theirs["variables"]
    assert ours["main"] == theirs["main"]


def test_what_they_print_carries_their_tag(daemon: Daemon) -> None:
    start = len(daemon.log)
    daemon.predict("speak")
    pid = daemon.wait_for_line(r"worker \d \| a word from (\d+)", start=start)[1]
    daemon.wait_for_line(rf"worker \d \| a complaint from {pid}", start=start)


def test_a_hung_prediction_gets_its_frames(daemon: Daemon) -> None:
    answer = daemon.predict("sleep")
    assert (answer.status_code, answer.json()["code"]) == (504, "predict_timeout")
    assert "time.sleep(60)" in answer.json()["traceback"]
    eventually(lambda: ready(daemon), 20)


@pytest.mark.parametrize(("method", "cause"), [("leave", "exit code 7"), ("crash", "SIGSEGV")])
def test_how_a_worker_ended_is_known(daemon: Daemon, method: str, cause: str) -> None:
    eventually(lambda: ready(daemon), 20)
    answer = daemon.predict(method)
    assert (answer.status_code, answer.json()["code"]) == (502, "worker_died")
    assert cause in answer.json()["detail"]
    eventually(lambda: ready(daemon), 20)


def test_killing_the_zygote_costs_nothing(daemon: Daemon) -> None:
    eventually(lambda: ready(daemon), 20)
    workers, zygote, start = daemon.worker_pids(), zygote_pid(daemon), len(daemon.log)
    assert zygote
    os.kill(zygote, signal.SIGKILL)
    daemon.wait_for_line("zygote process died and is replaced", start=start)
    assert [daemon.predict("birth").status_code for _ in range(4)] == [200] * 4
    assert daemon.worker_pids() == workers
    heir = eventually(lambda: zygote_pid(daemon))
    assert heir != zygote
    eventually(lambda: births_after_a_kill(daemon) == {zygote, heir}, 20)


def births_after_a_kill(daemon: Daemon) -> set[int]:
    """Where the workers' imports were made, once one of the workers has been killed and replaced."""
    os.kill(daemon.worker_pids()[0], signal.SIGKILL)
    eventually(lambda: not ready(daemon))
    eventually(lambda: ready(daemon), 20)
    return {daemon.predict("birth").json()["imported_in"] for _ in range(4)}


def test_births_and_sweeps_at_once() -> None:
    # A sweep of a dead worker's orphans must spare what is being born, whose pid nobody knows yet.
    ballast = "\nBALLAST = b'x' * (100 << 20)"  # makes a fork take longer
    with serve(HEAVY + ballast, "--workers-per-device", "6") as crowd:
        eventually(lambda: ready(crowd), 20)
        killed: set[int] = set()
        while len(killed) < 40:
            answer = crowd.predict("birth")  # a worker that has worked is restarted soon
            if answer.status_code == 200 and (pid := answer.json()["pid"]) not in killed:
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
        eventually(lambda: ready(crowd), 30)
        assert sum(worker["restarts"] for worker in crowd.status()["workers"]) == len(killed)


@pytest.mark.parametrize("heavy", [HEAVY, "import time\ntime.sleep(60)"], ids=["ready", "importing"])
def test_kill_9_of_the_supervisor_leaves_nothing(heavy: str) -> None:
    with serve(heavy, "--workers-per-device", "2", wait_ready=False) as daemon:
        eventually(lambda: ready(daemon) or "sleep" in heavy, 20)
        assert eventually(lambda: zygote_pid(daemon))
        daemon.kill()
        assert daemon.survivors(2) == []


def test_stopping_does_not_wait_for_imports() -> None:
    with serve("import time\ntime.sleep(60)", wait_ready=False) as daemon:
        eventually(lambda: zygote_pid(daemon))
        assert daemon.stop(8) == 0


@pytest.mark.parametrize(
    ("heavy", "flags", "line"),
    [
        pytest.param(HEAVY + THREAD, [], "no warm start: an import started a thread", id="thread"),
        pytest.param(ONLY_FIRST + "1 / 0", [], "no warm start: importing heavy raised ZeroDivisionError", id="error"),
        pytest.param(
            ONLY_FIRST + "os.kill(os.getpid(), 9)",
            [],
            "no warm start: the zygote was killed by SIGKILL while it imported heavy",
            id="death",
        ),
        pytest.param(
            ONLY_FIRST + "time.sleep(60)",
            ["--startup-timeout", "2s"],
            "no warm start: its imports did nothing",
            id="silence",
        ),
    ],
)
def test_where_no_zygote_can_be_workers_start_cold(heavy: str, flags: list[str], line: str) -> None:
    with serve(heavy, *flags) as daemon:
        birth = daemon.predict("birth").json()
        assert birth["imported_in"] == birth["pid"]
        assert sum(line in said for said in daemon.log) == 1
        assert zygote_pid(daemon) is None


def test_a_predictor_that_changes_the_environment_starts_cold() -> None:
    with serve(HEAVY, source="import os\nos.environ['A'] = 'b'\n" + SOURCE) as daemon:
        birth = daemon.predict("birth").json()
        assert birth["imported_in"] == birth["pid"]
        daemon.wait_for_line(r"no warm start: .*predictor\.py:2 changes the environment")


def test_a_predictor_without_packages_has_no_zygote() -> None:
    with Daemon("class Predictor:\n    def predict(self): return 1") as daemon:
        assert zygote_pid(daemon) is None


def test_it_can_be_turned_off() -> None:
    with serve(HEAVY, "--no-warm-start") as daemon:
        birth = daemon.predict("birth").json()
        assert birth["imported_in"] == birth["pid"]
        assert zygote_pid(daemon) is None


def test_a_stopped_zygote_is_given_up(daemon: Daemon) -> None:
    eventually(lambda: ready(daemon), 20)
    zygote = zygote_pid(daemon)
    assert zygote
    os.kill(zygote, signal.SIGSTOP)
    os.kill(daemon.worker_pids()[0], signal.SIGKILL)
    eventually(lambda: not ready(daemon))
    with in_background(lambda: daemon.predict("birth")) as answers:
        eventually(lambda: ready(daemon), 30)
    assert answers[0].status_code == 200
    assert zygote_pid(daemon) != zygote


def test_a_replace_forks_from_the_same_zygote_and_a_new_env_file_from_a_new_one() -> None:
    with serve(HEAVY) as live:
        zygote, (worker,) = zygote_pid(live), live.worker_pids()
        live.write(SOURCE + "    def __init__(self):\n        self.late = 1\n")
        eventually(lambda: live.status()["generation"] == 2, 20)
        birth = live.predict("birth").json()
        assert (birth["imported_in"], birth["pid"] == worker) == (zygote, False)
        (live.folder / ".env").write_text("ADDED=later\n")
        eventually(lambda: live.status()["generation"] == 3, 20)
        assert live.predict("surroundings").json()["variables"]["ADDED"] == "later"
        heir = live.predict("birth").json()["imported_in"]
        assert heir not in (zygote, *live.worker_pids())
        eventually(lambda: zygote_pid(live) == heir)  # once the old worker, forked by the old one, has left
    assert "Exception" not in live.log_text()  # such as one of the zygote's end after the guardian's


def test_a_typed_predictor_finds_all_of_pydantic_imported() -> None:
    source = """
import sys
import heavy
from pydantic import BaseModel
before = set(sys.modules)

class Ask(BaseModel):
    text: str

class PythonPredictor:
    def predict(self, payload: Ask):
        return sorted(name for name in sys.modules.keys() - before if "pydantic" in name)
"""
    with serve("import pydantic\n", source=source) as daemon:
        assert daemon.predict({"text": "a"}).json() == []
