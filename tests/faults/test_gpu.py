"""GPUs, from the driver to the workers, with a text file for a driver."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon import Daemon, eventually, serve_to_exit
from tests.nvml_stub import NvmlStub

SOURCE = """
import os

class PythonPredictor:
    def predict(self, payload):
        if payload == "die":
            os._exit(7)
        if payload:
            raise RuntimeError(payload)
        return {"pid": os.getpid(), "environment": dict(os.environ)}
"""
UUID = "GPU-{:08x}-0000-0000-0000-000000000000"
FIRST, SECOND = UUID.format(0), UUID.format(1)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> NvmlStub:
    return NvmlStub(tmp_path_factory.mktemp("nvml"))


def on_gpus(driver: NvmlStub, behaviour: str, *flags: str, **environment: str) -> Daemon:
    driver.says(behaviour)
    return Daemon(SOURCE, "--devices", "auto", *flags, environment=driver.environ(**environment))


@pytest.fixture(scope="module")
def two_gpus(driver: NvmlStub) -> Iterator[Daemon]:
    with on_gpus(driver, "count 2; name.1 Other") as daemon:
        all_ready(daemon)
        yield daemon


def all_ready(daemon: Daemon) -> None:
    eventually(lambda: {worker["state"] for worker in daemon.status()["workers"]} == {"ready"}, 20)


def environments(daemon: Daemon, workers: int) -> dict[int, dict[str, str]]:
    """The environment that each worker's predictor sees, by the worker's id."""
    all_ready(daemon)
    answers = [daemon.predict() for _ in range(workers)]
    return {int(answer.headers["x-predictord-worker"]): answer.json()["environment"] for answer in answers}


def visible(daemon: Daemon, workers: int) -> dict[int, str]:
    return {worker: seen["CUDA_VISIBLE_DEVICES"] for worker, seen in environments(daemon, workers).items()}


# --- placement


def test_every_gpu_gets_a_worker_pinned_by_uuid(two_gpus: Daemon) -> None:
    found = environments(two_gpus, 2)
    assert {worker: seen["CUDA_VISIBLE_DEVICES"] for worker, seen in found.items()} == {0: FIRST, 1: SECOND}
    assert {seen["CUDA_DEVICE_ORDER"] for seen in found.values()} == {"PCI_BUS_ID"}
    devices = [worker["device"] for worker in two_gpus.status()["workers"]]
    assert devices == [
        {"kind": "gpu", "index": 0, "uuid": FIRST, "name": "NVIDIA Stub"},
        {"kind": "gpu", "index": 1, "uuid": SECOND, "name": "Other"},
    ]
    assert two_gpus.wait_for_line(r"PCI bus\) order")


def test_the_supervisor_loads_neither_driver_nor_torch(two_gpus: Daemon) -> None:
    maps = Path(f"/proc/{two_gpus.pid}/maps").read_text()
    assert not re.search(r"libcuda|libtorch|libcudart", maps)
    assert "python" in maps


def test_vram_is_that_of_the_worker(two_gpus: Daemon, driver: NvmlStub) -> None:
    pids = two_gpus.worker_pids()
    driver.says(f"count 2; processes.0 {pids[0]} 5000; processes.1 {pids[1]} 7000 1 8000")
    eventually(lambda: [worker["vram_bytes"] for worker in two_gpus.status()["workers"]] == [5000, 7000])


def test_a_visible_devices_list_keeps_its_order_and_is_pinned_by_uuid(driver: NvmlStub) -> None:
    with on_gpus(driver, "count 3", CUDA_VISIBLE_DEVICES="2,0") as daemon:
        assert visible(daemon, 2) == {0: UUID.format(2), 1: FIRST}


def test_several_workers_share_a_gpu(driver: NvmlStub) -> None:
    with on_gpus(driver, "count 2", "--devices", "1", "--workers-per-device", "2") as daemon:
        assert visible(daemon, 2) == {0: SECOND, 1: SECOND}


def test_each_mig_instance_gets_a_worker(driver: NvmlStub) -> None:
    with on_gpus(driver, "count 1; mig.0 1; rc.memory.0 3; uuid.0.1 MIG-aaaa; uuid.0.4 MIG-bbbb") as daemon:
        assert visible(daemon, 2) == {0: "MIG-aaaa", 1: "MIG-bbbb"}


def test_the_cpu_on_request_hides_the_gpus(driver: NvmlStub) -> None:
    with on_gpus(driver, "count 2", "--devices", "cpu") as daemon:
        assert visible(daemon, 1) == {0: ""}


def test_one_bad_card_is_named_and_the_others_serve(driver: NvmlStub) -> None:
    with on_gpus(driver, "count 2; rc.handle.0 15") as daemon:
        assert visible(daemon, 1) == {0: SECOND}
        assert daemon.wait_for_line("GPU 0 .* is left out: GPU is lost")


# --- a driver that is there but broken


@pytest.mark.parametrize(
    ("behaviour", "cure"),
    [
        ("rc.init 18", "after a driver update; reboot"),
        ("rc.init 4", "permissions of /dev/nvidia"),
        ("rc.init 999", "NVML error 999"),
        ("count 1; rc.handle.0 15", "No GPU can be used"),
    ],
)
def test_a_broken_driver_is_told_with_its_cure(driver: NvmlStub, behaviour: str, cure: str) -> None:
    driver.says(behaviour)
    ended = serve_to_exit(SOURCE, "--devices", "auto", environment=driver.environ())
    assert (ended.code, cure in ended.log, "--devices cpu" in ended.log) == (3, True, True), ended.log
    assert "Traceback" not in ended.log


def test_a_driver_without_a_card_is_no_fault(driver: NvmlStub) -> None:
    with on_gpus(driver, "count 0") as daemon:
        assert visible(daemon, 1) == {0: ""}
        assert daemon.wait_for_line("No NVIDIA GPU found: serving on the CPU.")


# --- errors of CUDA


@pytest.mark.parametrize(
    "message",
    ["CUDA error: device-side assert triggered", "CUDA error: an illegal memory access was encountered"],
)
def test_a_sticky_cuda_error_replaces_the_worker(two_gpus: Daemon, driver: NvmlStub, message: str) -> None:
    driver.says("count 2")
    all_ready(two_gpus)
    before = two_gpus.worker_pids()
    failed = two_gpus.predict(message)
    assert (failed.status_code, failed.json()["code"]) == (500, "predictor_error")
    hit = int(failed.headers["x-predictord-worker"])
    for _ in range(4):
        answer = two_gpus.predict()
        assert answer.status_code == 200
        assert answer.json()["pid"] != before[hit]
    eventually(lambda: two_gpus.status()["workers"][hit]["pid"] not in (None, before[hit]))
    all_ready(two_gpus)
    assert two_gpus.worker_pids()[1 - hit] == before[1 - hit]
    assert visible(two_gpus, 2) == {0: FIRST, 1: SECOND}


def test_no_memory_on_the_gpu_keeps_the_worker(two_gpus: Daemon) -> None:
    before = two_gpus.worker_pids()
    for message in ("CUDA out of memory. Tried to allocate 20.00 GiB", "CUDA error: out of memory"):
        for _ in range(2):
            assert two_gpus.predict(message).status_code == 500
    assert [two_gpus.predict().status_code for _ in range(4)] == [200] * 4
    assert two_gpus.worker_pids() == before


# --- a card that is lost while the service runs


LOST = r"GPU 0 can't be used: GPU is lost"


def test_nothing_starts_on_a_lost_gpu_until_it_is_back(two_gpus: Daemon, driver: NvmlStub) -> None:
    driver.says("count 2")
    all_ready(two_gpus)
    first, second = two_gpus.status()["workers"]
    driver.says("count 2; rc.memory.0 15")
    said = len(two_gpus.log)
    os.kill(first["pid"], signal.SIGKILL)
    eventually(lambda: len(re.findall(LOST, "\n".join(two_gpus.log[said:]))) >= 3)  # asked again and again
    lost, other = two_gpus.status()["workers"]
    assert (lost["state"], lost["pid"], lost["restarts"]) == ("backoff", None, first["restarts"])
    assert (other["state"], other["pid"]) == ("ready", second["pid"])
    assert two_gpus.status()["state"] == "degraded"
    assert {two_gpus.predict().headers["x-predictord-worker"] for _ in range(4)} == {"1"}
    driver.says("count 2")
    assert visible(two_gpus, 2) == {0: FIRST, 1: SECOND}
    assert two_gpus.status()["workers"][0]["restarts"] == first["restarts"] + 1


def test_without_any_gpu_left_the_answer_says_so(driver: NvmlStub) -> None:
    with on_gpus(driver, "count 1") as daemon:
        driver.says("count 1; rc.handle.0 15")
        os.kill(daemon.worker_pids()[0], signal.SIGKILL)
        answer = daemon.predict()  # waits until it is known
        assert (answer.status_code, answer.json()["code"]) == (503, "no_worker")
        assert re.search(LOST, answer.json()["detail"])
        driver.says("count 1")
        daemon.wait_ready()
        assert daemon.predict().status_code == 200
