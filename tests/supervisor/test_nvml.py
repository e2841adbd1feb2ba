"""The probe against the real pynvml, with a text file for a driver."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from predictord.supervisor.nvml import Card, Instance, Memory, NvmlReport, Outcome, probe, probe_async
from tests.nvml_stub import NvmlStub

UUID = "GPU-{:08x}-0000-0000-0000-000000000000"


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> NvmlStub:
    stub = NvmlStub(tmp_path_factory.mktemp("nvml"))
    stub.load()
    return stub


def ask(stub: NvmlStub, behaviour: str) -> NvmlReport:
    stub.says(behaviour)
    return probe(environ=stub.environ())


def test_reports_every_card(stub: NvmlStub) -> None:
    report = ask(stub, "driver 570.1; count 2; name.1 B; memory.1 30 20 10; mode.1 3; processes.1 7 5 8 6")
    assert (report.outcome, report.driver_version, report.failure) == (Outcome.OK, "570.1", None)
    assert report.cards == (
        Card(0, UUID.format(0), "NVIDIA Stub", None, Memory(1000, 900, 100), 0, None, {}),
        Card(1, UUID.format(1), "B", None, Memory(30, 20, 10), 3, None, {7: 5, 8: 6}),
    )
    assert report.memory(UUID.format(1)) == Memory(30, 20, 10)


def test_reports_eight_cards_and_none(stub: NvmlStub) -> None:
    assert len(ask(stub, "count 8").cards) == 8
    assert ask(stub, "count 0") == NvmlReport(Outcome.OK, driver_version="570.00")


@pytest.mark.parametrize(
    ("code", "outcome", "cure"),
    [
        (18, Outcome.FAILED, "after a driver update; reboot"),
        (9, Outcome.FAILED, "modprobe nvidia"),
        (4, Outcome.FAILED, "permissions of /dev/nvidia*"),
        (999, Outcome.FAILED, "'Unknown Error' (NVML error 999); reboot"),
        (12345, Outcome.FAILED, "(NVML error 12345); reboot"),
        ("crash", Outcome.CRASHED, "exit status -9"),
    ],
)
def test_a_broken_driver_has_a_cure(stub: NvmlStub, code: object, outcome: Outcome, cure: str) -> None:
    report = ask(stub, f"rc.init {code}")
    assert report.outcome is outcome
    assert cure in (report.failure or "")


def test_a_failing_count_is_a_failure_too(stub: NvmlStub) -> None:
    assert ask(stub, "count 1; rc.count 999").outcome is Outcome.FAILED


@pytest.mark.parametrize("function", ["init", "memory.0"])
def test_a_hanging_driver_is_given_up(stub: NvmlStub, function: str) -> None:
    stub.says(f"count 1; rc.{function} hang")
    assert "did not answer in 0.5 s" in (probe(0.5, stub.environ()).failure or "")
    assert asyncio.run(probe_async(0.5, stub.environ())).outcome is Outcome.HUNG


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        ("rc.handle.1 15", "GPU is lost (NVML error 15)"),
        ("rc.uuid.1 999", "Unknown Error (NVML error 999)"),
        ("rc.memory.1 15", "GPU is lost (NVML error 15)"),
        ("rc.memory.1 16", "GPU requires restart (NVML error 16)"),
    ],
)
def test_one_bad_card_leaves_the_others(stub: NvmlStub, behaviour: str, error: str) -> None:
    good, bad = ask(stub, f"count 2; {behaviour}").cards
    assert (good.fault, bad.fault) == (None, error)


@pytest.mark.parametrize("code", [3, 4, 13])
def test_what_nvml_does_not_tell_is_none(stub: NvmlStub, code: int) -> None:
    (card,) = ask(stub, f"count 1; rc.memory.0 {code}; rc.mode.0 {code}; rc.processes.0 {code}").cards
    assert (card.fault, card.memory, card.compute_mode, card.process_bytes) == (None, None, None, None)


def test_mig_instances_may_leave_slots_empty(stub: NvmlStub) -> None:
    report = ask(stub, "count 1; mig.0 1; rc.memory.0 3; uuid.0.1 MIG-a; uuid.0.4 MIG-b; memory.0.4 9 8 1")
    first, second = Memory(1000, 900, 100), Memory(9, 8, 1)
    assert report.cards[0].instances == (
        Instance("MIG-a", "NVIDIA Stub", first),
        Instance("MIG-b", "NVIDIA Stub", second),
    )
    assert (report.memory("MIG-b"), report.memory(UUID.format(0))) == (second, None)


@pytest.mark.parametrize(
    ("behaviour", "cure"),
    [("mode.0 2", "nvidia-smi -i 0 -c DEFAULT"), ("mig.0 1", "nvidia-smi mig -i 0 -cgi"), ("mig.0 0", None)],
)
def test_a_card_that_takes_no_work_says_how_it_would(stub: NvmlStub, behaviour: str, cure: str | None) -> None:
    fault = ask(stub, f"count 1; {behaviour}").cards[0].fault
    assert fault is None if cure is None else cure in (fault or "")


def test_the_async_probe_answers_the_same(stub: NvmlStub) -> None:
    report = ask(stub, "count 2")
    assert asyncio.run(probe_async(environ=stub.environ())) == report


@pytest.mark.parametrize("code", ["", "raise RuntimeError('not yours')", "def nvmlInit(): pass"])
def test_another_module_named_pynvml_is_no_binding(stub: NvmlStub, tmp_path: Path, code: str) -> None:
    (tmp_path / "pynvml.py").write_text(f"print('hello')\n{code}\n")
    report = probe(environ=stub.environ(PYTHONPATH=str(tmp_path)))
    assert (report.outcome, report.failure) == (Outcome.NO_BINDING, None)


def test_files_of_the_current_folder_are_no_modules(
    stub: NvmlStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pynvml.py").write_text("raise SystemExit(7)")
    monkeypatch.chdir(tmp_path)
    assert ask(stub, "count 1").outcome is Outcome.OK


def test_without_the_library_no_child_is_started() -> None:
    code = (
        "import sys; sys.executable = '/nowhere'\n"
        "from predictord.supervisor.nvml import probe\n"
        "print(probe().outcome, end='')"
    )
    environ = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout == "no_library"


def test_the_child_dies_with_its_parent(stub: NvmlStub) -> None:
    stub.says("rc.init hang")
    code = "from predictord.supervisor.nvml import probe; probe(60)"
    parent = subprocess.Popen([sys.executable, "-c", code], env=stub.environ())
    try:
        child = _until(lambda: next(iter(_children_in_pause(parent.pid)), None))
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    _until(lambda: not _is_alive(child))


def _children_in_pause(pid: int) -> list[int]:
    """Children that hang in the stub: those that have the library mapped."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if "libnvidia-ml" in Path(f"/proc/{child}/maps").read_text()]


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False


def _until(condition: Callable[[], int | None]) -> int:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if answer := condition():
            return answer
        time.sleep(0.01)
    raise TimeoutError
