"""Reloads where memory does not hold two generations: one worker after the other."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon import Daemon, eventually
from tests.faults.recovery import wait_whole
from tests.faults.saves import assert_no_way_back, save, source, version
from tests.faults.traffic import Traffic, by_worker
from tests.nvml_stub import NvmlStub

MIB = 1 << 20
ALONE = """record("beside" if any(map(lives, others())) else "alone", os.getpid()); time.sleep(0.3)"""
"""For `__init__`: is another process of this predictor, whatever its generation, holding its model now?"""

PARTS = """

def others():
    with open(_LEDGER) as lines:
        return {line.split()[1] for line in lines} - {str(os.getpid())}

def lives(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
"""
BROKEN = "class PythonPredictor:\n    def predict(self:\n"


def text(number: int, load: str = "pass") -> str:
    return source(number, load=f"{ALONE}; self.number = {number}; {load}") + PARTS


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> NvmlStub:
    return NvmlStub(tmp_path_factory.mktemp("nvml"))


@pytest.fixture(scope="module")
def full_gpu(driver: NvmlStub) -> Iterator[Daemon]:
    driver.says("count 1")
    with Daemon(text(1), "--devices", "auto", environment=driver.environ()) as daemon:
        yield daemon


def fill(daemon: Daemon, driver: NvmlStub) -> None:
    """1,000 MiB are free, and the worker has 40,000 MiB."""
    (pid,) = daemon.worker_pids()
    memory = f"{41_000 * MIB} {1_000 * MIB} {40_000 * MIB}"
    driver.says(f"count 1; memory.0 {memory}; processes.0 {pid} {40_000 * MIB}")


def test_a_full_gpu_never_holds_two_generations(full_gpu: Daemon, driver: NvmlStub) -> None:
    fill(full_gpu, driver)
    full_gpu.ledger.clear()
    with Traffic(full_gpu, 4) as traffic:
        record = save(full_gpu, text(2))
        eventually(lambda: version(full_gpu) == 2)
    traffic.assert_all_answered()
    assert_no_way_back(traffic)
    assert record["kind"] == "replace"
    assert "GPU 0 has 1000 MiB free and the new worker needs about 40000 MiB" in full_gpu.log_text()
    assert [line.split()[0] for line in full_gpu.ledger.lines()] == ["load", "alone"]


def test_old_code_is_loaded_back_where_new_code_fails(full_gpu: Daemon, driver: NvmlStub) -> None:
    save(full_gpu, text(3))
    fill(full_gpu, driver)
    (old,) = full_gpu.worker_pids()
    full_gpu.ledger.clear()
    with Traffic(full_gpu, 4) as traffic:
        record = save(full_gpu, text(4, load="raise KeyError('weights')"))
        eventually(lambda: full_gpu.worker_pids() not in ([], [old]))
        wait_whole(full_gpu)
    traffic.assert_all_answered()
    assert (record["kind"], "KeyError" in record["error"]) == ("failed", True)
    assert {one.document["version"] for one in traffic.answers} == {3}
    assert version(full_gpu) == 3
    assert {line.split()[0] for line in full_gpu.ledger.lines()} == {"load", "alone"}


def test_code_that_cannot_be_loaded_costs_the_old_worker_nothing(full_gpu: Daemon, driver: NvmlStub) -> None:
    save(full_gpu, text(5))
    fill(full_gpu, driver)
    pids = full_gpu.worker_pids()
    assert save(full_gpu, BROKEN)["kind"] == "failed"
    assert (full_gpu.worker_pids(), version(full_gpu)) == (pids, 5)


def test_a_candidate_out_of_memory_is_tried_again_alone() -> None:
    memory = "if any(map(lives, others())): raise RuntimeError('CUDA out of memory. Tried to allocate 2 GiB')"
    with Daemon(text(1)) as daemon, Traffic(daemon, 2) as traffic:
        record = save(daemon, source(2, load=memory) + PARTS)
        assert (record["kind"], version(daemon)) == ("replace", 2)
        daemon.wait_for_line("ran out of memory beside the old one")
    traffic.assert_all_answered()
    assert_no_way_back(traffic)


# --- in turn, with two workers

ONCE = "os.close(os.open('once', os.O_CREAT | os.O_EXCL))"
"""Only the first worker that does this loads."""
LATE = "import importlib; importlib.import_module('la' + 'te')"
"""Imports what no reading of the source finds: a generation grows while its workers change."""


@pytest.fixture(scope="module")
def in_turn() -> Iterator[Daemon]:
    flags = ("--reload-mode", "in-turn", "--workers-per-device", "2")
    with Daemon(text(1), *flags, files={"late.py": ""}) as daemon:
        wait_whole(daemon)
        yield daemon


def assert_both_serve(daemon: Daemon, number: int) -> None:
    wait_whole(daemon)
    with Traffic(daemon, 2) as traffic:
        eventually(lambda: len(traffic.answers) > 20)
    assert {one.document["version"] for one in traffic.answers} == {number}
    assert len(by_worker(traffic.answers)) == 2


def test_workers_take_turns(in_turn: Daemon) -> None:
    with Traffic(in_turn, 4) as traffic:
        assert save(in_turn, text(2, LATE))["kind"] == "replace"
        assert_both_serve(in_turn, 2)
    traffic.assert_all_answered()
    assert_no_way_back(traffic)


def test_both_old_workers_serve_again_when_the_second_turn_fails(in_turn: Daemon) -> None:
    save(in_turn, text(3, LATE))
    with Traffic(in_turn, 4) as traffic:
        record = save(in_turn, text(4, ONCE))
        assert (record["kind"], "FileExistsError" in record["error"]) == ("failed", True)
        assert_both_serve(in_turn, 3)
    traffic.assert_all_answered()
    (Path(in_turn.folder) / "once").unlink()


def test_both_old_workers_serve_again_when_the_second_check_fails(in_turn: Daemon) -> None:
    save(in_turn, text(5, LATE))
    with Traffic(in_turn, 4) as traffic:
        record = save(in_turn, "import os\n" + ONCE + "\n" + text(6))
        assert (record["kind"], "FileExistsError" in record["error"]) == ("failed", True)
        assert_both_serve(in_turn, 5)
    traffic.assert_all_answered()


def test_a_save_between_the_turns_leaves_no_worker_behind(in_turn: Daemon) -> None:
    save(in_turn, text(7, LATE))
    (Path(in_turn.folder) / "gate").unlink(missing_ok=True)
    with Traffic(in_turn, 4) as traffic:
        in_turn.ledger.clear()
        in_turn.write(text(8, "wait_for_file('gate')"))
        eventually(lambda: in_turn.ledger.lines()[1:])
        in_turn.open_gate("gate")
        eventually(lambda: any(one.document["version"] == 8 for one in list(traffic.answers)))
        in_turn.write("# a comment\n" + text(8, "wait_for_file('gate')"))
        eventually(lambda: in_turn.status()["reload"]["kind"] == "none", 15)
        assert_both_serve(in_turn, 8)
    traffic.assert_all_answered()
    assert_no_way_back(traffic)
