"""What is told of the GPUs, with a text file for a driver: their use, and who else is on them."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from predictord.supervisor.details import process_name
from tests.daemon import Daemon, eventually
from tests.event_stream import Listener
from tests.nvml_stub import NvmlStub
from tests.prometheus import Scrape

SOURCE = """
    import os
    import subprocess

    class Predictor:
        def __init__(self):
            self.child = subprocess.Popen(["sleep", "1000"])

        def predict(self, payload):
            return [os.getpid(), self.child.pid]
"""
CARDS = "count 2; memory.0 2000 500 1500; utilization.0 37; name.1 Other"
MIG = "count 1; mig.0 1; uuid.0.0 MIG-a; memory.0.0 400 100 300; utilization.0 5"


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> NvmlStub:
    return NvmlStub(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)", "train.py"]) as process:
        yield process
        process.kill()


def details(daemon: Daemon) -> dict[str, Any]:
    """The document as a listener gets it."""
    with Listener(daemon) as listener:
        return listener.statuses[-1]


def test_use_and_other_processes_are_told(driver: NvmlStub, stranger: subprocess.Popen[bytes]) -> None:
    driver.says(CARDS)
    with Daemon(SOURCE, "--devices", "auto", environment=driver.environ()) as daemon:
        eventually(lambda: {worker["state"] for worker in daemon.status()["workers"]} == {"ready"}, 20)
        own, child = next(answer for answer in iter(daemon.predict, None) if _is_first(answer)).json()
        driver.says(f"{CARDS}; processes.0 {own} 700 {stranger.pid} 300 {child} 60 999999999 40")
        document = eventually(lambda: _with_memory(daemon, 700), 20)
        first, second = document["gpus"]
        assert first.items() >= {"index": 0, "total_bytes": 2000, "used_bytes": 1500, "utilization": 0.37}.items()
        name = f"{Path(sys.executable).name} -c import time; time.sleep(1000) train.py"
        assert first["others"] == [
            {"pid": stranger.pid, "name": name, "bytes": 300},
            {"pid": 999999999, "name": None, "bytes": 40},  # of another container, say
        ]
        assert second.items() >= {"index": 1, "name": "Other", "utilization": None, "others": []}.items()
        assert document["workers"][0]["vram_bytes"] == document["workers"][0]["vram_peak_bytes"] == 700

        driver.says(f"{CARDS}; processes.0 {own} 200")
        worker = eventually(lambda: _with_memory(daemon, 200), 20)["workers"][0]
        assert worker["vram_peak_bytes"] == 700
        assert daemon.status()["workers"][0]["vram_bytes"] == 200

        scrape = Scrape(daemon)
        assert scrape.value("predictord_gpu_memory_used_bytes", gpu="0") == 1500
        assert scrape.value("predictord_gpu_memory_size_bytes", gpu="0") == 2000
        assert scrape.value("predictord_gpu_utilization_ratio", gpu="0") == 0.37
        assert not list(scrape.samples("predictord_gpu_utilization_ratio", gpu="1")), "NVML does not tell it"
        assert scrape.value("predictord_worker_gpu_memory_bytes", worker="0") == 200


def _is_first(answer: Any) -> bool:
    return bool(answer.headers["x-predictord-worker"] == "0")


def _with_memory(daemon: Daemon, held: int) -> dict[str, Any]:
    document = details(daemon)
    assert document["workers"][0]["vram_bytes"] == held
    return document


def test_mig_instance_is_told_as_itself(driver: NvmlStub) -> None:
    driver.says(MIG)
    with Daemon(SOURCE, "--devices", "auto", environment=driver.environ()) as daemon:
        (gpu,) = details(daemon)["gpus"]
    assert gpu["uuid"] == "MIG-a"
    assert (gpu["used_bytes"], gpu["total_bytes"]) == (300, 400)
    assert gpu["utilization"] is None, "that is the whole card's"


def test_driver_that_breaks_later_is_no_error(driver: NvmlStub) -> None:
    driver.says(CARDS)
    with Daemon(SOURCE, "--devices", "auto", environment=driver.environ()) as daemon:
        assert details(daemon)["gpus"][0]["total_bytes"] == 2000
        driver.says(f"{CARDS}; rc.init 999")
        gpu = eventually(lambda: _unknown(daemon), 20)
        assert gpu.items() >= {"index": 0, "used_bytes": None, "utilization": None, "others": []}.items()
        assert daemon.predict().is_success
        assert Scrape(daemon).value("predictord_workers") == 2
        driver.says(CARDS)  # so that the end finds what the start did


def _unknown(daemon: Daemon) -> dict[str, Any]:
    gpu: dict[str, Any] = details(daemon)["gpus"][0]
    assert gpu["total_bytes"] is None
    return gpu


def test_long_names_are_cut() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)", "x" * 500]) as process:
        name = eventually(lambda: process_name(process.pid) or "")
        process.kill()
    assert len(name) == 80
    assert name.endswith("x…")
    assert process_name(999999999) is None
