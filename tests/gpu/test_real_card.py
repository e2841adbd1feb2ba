"""What only a real card can show. Marked `gpu`; skipped, and said so, where there is none."""

import pytest

from predictord.supervisor.nvml import NvmlReport, Outcome, probe
from tests.daemon import Daemon, eventually

MIB = 1 << 20

PREDICTOR = """
import torch

class PythonPredictor:
    def __init__(self, config):
        self.weights = torch.ones(64 << 20, device="cuda")   # 256 MiB

    def predict(self, payload):
        if payload == "sticky":
            index = torch.tensor([10], device="cuda")
            torch.zeros(2, device="cuda")[index]             # a device-side assert
            torch.cuda.synchronize()
        if payload == "out of memory":
            torch.ones(1 << 45, device="cuda")
        return {"pid": os.getpid(), "sum": float(self.weights[:8].sum()), "visible": os.environ["CUDA_VISIBLE_DEVICES"]}
"""


@pytest.fixture(scope="module")
def report() -> NvmlReport:
    found = probe()
    if found.outcome is not Outcome.OK or not found.cards:
        pytest.skip("needs a real NVIDIA GPU")
    return found


def used_bytes(uuid: str) -> int:
    memory = probe().memory(uuid)
    assert memory is not None
    return memory.used_bytes


@pytest.mark.gpu
def test_a_worker_is_pinned_to_its_card(report: NvmlReport) -> None:
    with Daemon(PREDICTOR, "--devices", "0") as daemon:
        answer = daemon.predict("go").json()
        assert (answer["sum"], answer["visible"]) == (8.0, report.cards[0].uuid)
        device = daemon.status()["workers"][0]["device"]
        assert (device["kind"], device["uuid"]) == ("gpu", report.cards[0].uuid)


@pytest.mark.gpu
def test_a_sticky_error_retires_the_worker_and_out_of_memory_does_not(report: NvmlReport) -> None:
    with Daemon(PREDICTOR, "--devices", "0") as daemon:
        first = daemon.predict("go").json()["pid"]
        assert daemon.predict("out of memory").status_code == 500
        assert daemon.predict("go").json()["pid"] == first
        assert daemon.predict("sticky").status_code == 500
        assert daemon.predict("go").json()["pid"] != first


@pytest.mark.gpu
def test_memory_is_free_after_kill_9(report: NvmlReport) -> None:
    uuid = report.cards[0].uuid
    assert uuid is not None
    before = used_bytes(uuid)
    with Daemon(PREDICTOR, "--devices", "0") as daemon:
        daemon.predict("go")
        assert used_bytes(uuid) > before + 200 * MIB
        daemon.kill()
        eventually(lambda: used_bytes(uuid) <= before + 16 * MIB, deadline_s=5)
