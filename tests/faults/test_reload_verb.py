"""`predictord reload` and SIGHUP: a new generation of what is on disk, changed or not."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

import psutil
import pytest

from tests.daemon import Daemon, eventually, in_background
from tests.faults.saves import last_number, save, source, version, wait_reload

PIL = "import PIL.Image as library\n"


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with Daemon(PIL + source(1), "--no-reload") as daemon:
        yield daemon


def reload(daemon: Daemon, *flags: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "predictord", "reload", str(daemon.predictor), *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_what_has_not_changed_is_loaded_again(daemon: Daemon) -> None:
    pids, number = daemon.worker_pids(), last_number(daemon)
    done = reload(daemon)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(rf"replace: generation {number + 1} · asked for by reload · \d+\.\d s\n", done.stdout)
    assert daemon.worker_pids() != pids
    assert daemon.status()["generation"] == number + 1


def test_what_has_changed_is_put_live(daemon: Daemon) -> None:
    daemon.write(PIL + source(2))
    assert version(daemon) != 2  # --no-reload: nobody watches
    assert reload(daemon).returncode == 0
    assert version(daemon) == 2


def test_a_broken_predictor_is_refused(daemon: Daemon) -> None:
    daemon.write(PIL + source(3))
    assert reload(daemon).returncode == 0
    daemon.write(source(4, load="raise KeyError('weights')"))
    done = reload(daemon)
    assert (done.returncode, done.stdout.startswith("failed: generation")) == (1, True)
    assert "KeyError: 'weights'" in done.stderr
    assert "line " in done.stderr
    assert version(daemon) == 3
    daemon.predictor.unlink()
    done = reload(daemon)
    assert (done.returncode, "predictor.py" in done.stderr) == (1, True)
    assert version(daemon) == 3


def test_each_of_several_is_answered(daemon: Daemon) -> None:
    daemon.write(PIL + source(5))
    with in_background(*[lambda: reload(daemon)] * 3) as done:
        pass
    assert [one.returncode for one in done] == [0, 0, 0]
    assert version(daemon) == 5


def test_fresh_makes_a_new_zygote(daemon: Daemon) -> None:
    daemon.write(PIL + source(6))
    assert reload(daemon).returncode == 0
    before = zygote(daemon)
    assert reload(daemon).returncode == 0
    assert zygote(daemon) == before
    assert reload(daemon, "--fresh").returncode == 0
    assert zygote(daemon) != before


def zygote(daemon: Daemon) -> int:
    """Its id, once the old workers are gone, which have its command line as the new ones do."""

    def only() -> int | None:
        found = set()
        for child in psutil.Process(daemon.pid).children():
            with suppress(psutil.Error):  # it has just ended
                found |= {child.pid} if "zygote" in child.cmdline() else set()
        found -= set(daemon.worker_pids())
        return found.pop() if len(found) == 1 else None

    return eventually(only) or 0


def test_a_hangup_without_a_terminal_reloads() -> None:
    with Daemon(source(1)) as daemon:
        before, pids = last_number(daemon), daemon.worker_pids()
        daemon.signal(signal.SIGHUP)
        record = wait_reload(daemon, before)
        assert (record["kind"], record["reason"]) == ("replace", "SIGHUP")
        assert daemon.worker_pids() != pids
        assert save(daemon, source(2))["kind"] == "swap"
