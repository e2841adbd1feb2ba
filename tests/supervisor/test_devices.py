"""Which devices are found, through the real pynvml and a text file for a driver."""

import asyncio
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictord.errors import SettingsError, StartError
from predictord.supervisor.devices import CPU, Device, Discovery, discover, is_usable, select, visible_devices
from predictord.supervisor.nvml import Card, Instance
from tests.nvml_stub import NvmlStub

UUIDS = ["GPU-8932f937-d72c", "GPU-8932aaaa-0000", "GPU-1a77b0c4-ffff"]
PLAIN = tuple(Card(index, uuid, "NVIDIA A100") for index, uuid in enumerate(UUIDS))
SLICES = (Instance("MIG-7e1f0a2b-1111", "A100 1g.5gb"), Instance("MIG-7e1f9999-2222", "A100 1g.5gb"))
SLICED = (Card(0, UUIDS[0], "NVIDIA A100", instances=SLICES), *PLAIN[1:])
CORES = len(os.sched_getaffinity(0))


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> NvmlStub:
    stub = NvmlStub(tmp_path_factory.mktemp("nvml"))
    stub.load()
    return stub


@pytest.fixture
def device_folder(tmp_path: Path) -> Path:
    (tmp_path / "nvidia0").touch()
    return tmp_path


def find(stub: NvmlStub, behaviour: str, setting: str = "auto", **variables: str) -> Discovery:
    stub.says(behaviour)
    return discover(setting, stub.environ(**variables), device_folder=stub.file.parent)


def pins(found: Discovery) -> list[str | None]:
    return [device.environment(1)["CUDA_VISIBLE_DEVICES"] for device in found.devices]


# --- what CUDA_VISIBLE_DEVICES leaves -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "indices"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("  ", []),
        ("-1", []),
        ("1", [1]),
        ("1,0", [1, 0]),
        (" 1 , 0 ", [1, 0]),
        ("0,0", []),
        ("2,1,2", []),
        ("0,2,-1,1", [0, 2]),
        ("0,2,-1,0", [0, 2]),
        ("0,,1", [0]),
        ("0,", [0]),
        ("9", []),
        ("2,9,0", [2]),
        ("9" * 5000, []),
        ("1gpu2,2ampere", [1, 2]),
        ("+1", [1]),
        ("NoDevFiles", []),
        ("all", []),
        ("0,GPU-1a77", [0]),
        ("GPU-1a77,0", [2]),
        (UUIDS[1], [1]),
        ("GPU-8932f", [0]),
        ("GPU-8932", []),
        ("GPU-1a77,GPU-8932,GPU-8932f", [2]),
        ("GPU-1a77, GPU-8932f", [2, 0]),
        ("GPU-1a77,GPU-1a77b0c4", []),
        ("GPU-ffff", []),
        ("MIG-7e1f", []),
    ],
)
def test_cuda_visible_devices(variable: str | None, indices: list[int]) -> None:
    assert [one.card.index for one in visible_devices(variable, PLAIN)] == indices


@pytest.mark.parametrize(
    ("variable", "uuids"),
    [
        (None, [SLICES[0].uuid, SLICES[1].uuid, UUIDS[1], UUIDS[2]]),
        ("0", [SLICES[0].uuid, SLICES[1].uuid]),
        ("GPU-8932f", [SLICES[0].uuid, SLICES[1].uuid]),
        (SLICES[1].uuid, [SLICES[1].uuid]),
        (f"{SLICES[1].uuid},{SLICES[0].uuid}", [SLICES[1].uuid, SLICES[0].uuid]),
        ("MIG-7e1f0", [SLICES[0].uuid]),
        ("MIG-7e1f", []),
        (f"{SLICES[0].uuid},{UUIDS[1]}", [SLICES[0].uuid]),
    ],
)
def test_cuda_visible_devices_with_mig(variable: str | None, uuids: list[str]) -> None:
    units = [unit for one in visible_devices(variable, SLICED) for unit in one.units()]
    assert [unit.device().uuid for unit in units] == uuids


@given(st.text("0123,-+ GPUMIabf8937", max_size=20) | st.text(), st.text())
def test_any_value_shows_each_card_once_and_an_invalid_end_changes_nothing(variable: str, rest: str) -> None:
    shown = visible_devices(variable, SLICED)
    assert all(shown.count(one) == 1 for one in shown)
    assert visible_devices(f"{variable},-1,{rest}", SLICED) == shown


@given(st.lists(st.integers(0, 9)))
def test_ordinals_agree_with_a_plain_reading(ordinals: list[int]) -> None:
    valid = ordinals[: next((i for i, ordinal in enumerate(ordinals) if ordinal > 2), None)]
    expected = valid if len(set(valid)) == len(valid) else []
    assert [one.card.index for one in visible_devices(",".join(map(str, ordinals)), PLAIN)] == expected


# --- what --devices chooses -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "variable", "indices"),
    [
        ("auto", None, [0, 1, 2]),
        ("Auto", "2,0", [2, 0]),
        ("1", None, [1]),
        (" 2 ,0", None, [2, 0]),
        ("0", "2,0", [2]),
        ("1,0", "2,0", [0, 2]),
        (UUIDS[2], "2,0", [2]),
        ("GPU-8932", "2,0", [0]),
    ],
)
def test_devices_setting(setting: str, variable: str | None, indices: list[int]) -> None:
    assert [one.card.index for one in select(setting, visible_devices(variable, PLAIN))] == indices


def test_devices_setting_names_instances() -> None:
    chosen = select(f"1,{SLICES[1].uuid}", visible_devices(None, SLICED))
    assert [one.device().uuid for one in chosen] == [UUIDS[1], SLICES[1].uuid]
    assert len(select("0", visible_devices(None, SLICED))) == 2


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("", "none of auto, cpu"),
        ("gpu", "none of auto, cpu"),
        ("0,,1", "none of auto, cpu"),
        ("-1", "none of auto, cpu"),
        ("auto,0", "none of auto, cpu"),
        ("cpu,0", "none of auto, cpu"),
        ("3", "no visible GPU is 3; there are 0: GPU 0"),
        ("GPU-ffff", "no visible GPU is GPU-ffff"),
        ("GPU-8932", "fits GPU 0 (NVIDIA A100) and GPU 1 (NVIDIA A100)"),
        ("MIG-7e1f", "MIG-7e1f0a2b (A100 1g.5gb) and GPU 0 MIG-7e1f9999"),
        ("1,1", "names GPU 1 (NVIDIA A100) twice; --workers-per-device"),
        (f"0,{SLICES[0].uuid}", "twice"),
    ],
)
def test_a_bad_devices_setting_is_refused_with_the_choices(setting: str, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        select(setting, visible_devices(None, SLICED))
    assert words in str(caught.value)


# --- what a worker is told ------------------------------------------------------------------------------------------


def test_gpu_environment_and_labels() -> None:
    gpu, instance = Device("gpu", 1, UUIDS[1], "A100"), Device("gpu", 0, SLICES[0].uuid, "A100 1g.5gb")
    assert gpu.environment(1) == {"CUDA_VISIBLE_DEVICES": UUIDS[1], "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert [one.label for one in (CPU, gpu, instance)] == ["CPU", "GPU 1", "GPU 0 MIG-7e1f0a2b"]


@pytest.mark.parametrize(("workers", "threads"), [(1, CORES), (CORES, 1), (CORES * 4, 1)])
def test_cpu_workers_share_the_cores(workers: int, threads: int) -> None:
    shares = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "GOMP_SPINCOUNT": "10000"}
    assert CPU.environment(workers, {}) == {"CUDA_VISIBLE_DEVICES": "", **shares}
    assert "OMP_NUM_THREADS" not in CPU.environment(workers, {"OMP_NUM_THREADS": "3"})
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        assert "GOMP_SPINCOUNT" not in CPU.environment(workers, {name: "1"})


# --- the whole way --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("behaviour", ["rc.init 9", "rc.init 12", "count 0"])
def test_no_gpu_means_the_cpu_in_one_sentence(stub: NvmlStub, behaviour: str) -> None:
    found = find(stub, behaviour)
    assert found == Discovery((CPU,), ("No NVIDIA GPU found: serving on the CPU.",))


def test_another_pynvml_means_the_cpu_in_one_sentence(stub: NvmlStub, tmp_path: Path) -> None:
    (tmp_path / "pynvml.py").touch()
    found = find(stub, "count 1", PYTHONPATH=str(tmp_path))
    assert found.devices == (CPU,)
    assert "pip install nvidia-ml-py" in found.notes[0] and found.notes[0].endswith(": serving on the CPU.")


@pytest.mark.parametrize(
    ("code", "words"),
    [(18, "driver update; reboot"), (4, "permission"), (999, "Unknown"), (9, "modprobe"), ("hang", "did not answer")],
)
def test_a_broken_driver_stops_the_start(stub: NvmlStub, device_folder: Path, code: object, words: str) -> None:
    stub.says(f"rc.init {code}")
    with pytest.raises(StartError) as caught:
        discover("auto", stub.environ(), device_folder=device_folder, timeout_s=1 if code == "hang" else 10)
    assert words in str(caught.value) and str(caught.value).endswith("or serve without GPUs: --devices cpu")


@pytest.mark.parametrize(
    ("setting", "variable", "notes"),
    [
        ("cpu", "0", ()),
        ("auto", "", ("CUDA_VISIBLE_DEVICES='' hides every GPU: serving on the CPU.",)),
        ("auto", "-1", ("CUDA_VISIBLE_DEVICES='-1' hides every GPU: serving on the CPU.",)),
    ],
)
def test_the_driver_is_not_asked_where_the_cpu_is_meant(
    stub: NvmlStub, setting: str, variable: str, notes: tuple[str, ...]
) -> None:
    assert find(stub, "rc.init 18", setting, CUDA_VISIBLE_DEVICES=variable) == Discovery((CPU,), notes)


@pytest.mark.parametrize(("behaviour", "variable"), [("count 0", "0"), ("count 2", ""), ("count 2", "0,0")])
def test_a_named_gpu_that_can_not_be_is_a_bad_setting(stub: NvmlStub, behaviour: str, variable: str) -> None:
    with pytest.raises(SettingsError, match=r"--devices 0: .*; use --devices auto or cpu"):
        find(stub, behaviour, "0", CUDA_VISIBLE_DEVICES=variable)


def test_eight_gpus_are_pinned_by_uuid(stub: NvmlStub) -> None:
    found = find(stub, "count 8")
    assert [device.label for device in found.devices] == [f"GPU {index}" for index in range(8)]
    assert pins(found) == [f"GPU-{index:08x}-0000-0000-0000-000000000000" for index in range(8)]
    assert found.notes == ()


def test_variable_and_setting_narrow_one_after_the_other(stub: NvmlStub) -> None:
    found = find(stub, "count 4", "1,0", CUDA_VISIBLE_DEVICES="3,2,9,1")
    assert [device.index for device in found.devices] == [2, 3]


def test_hiding_every_gpu_by_mistake_is_said(stub: NvmlStub) -> None:
    found = find(stub, "count 2", CUDA_VISIBLE_DEVICES="9")
    assert found == Discovery((CPU,), ("CUDA_VISIBLE_DEVICES='9' leaves none of 2 GPUs: serving on the CPU.",))


def test_bad_cards_are_listed_and_the_others_serve(stub: NvmlStub) -> None:
    found = find(stub, "count 3; name.0 A; rc.handle.1 15; rc.uuid.2 999; name.2 A; rc.memory.0 3")
    assert [device.index for device in found.devices] == [0]
    assert found.notes == (
        "GPU 1 (unknown model) is left out: GPU is lost (NVML error 15).",
        "GPU 2 (A) is left out: Unknown Error (NVML error 999).",
    )


@pytest.mark.parametrize("setting", ["auto", "1"])
def test_nothing_but_bad_cards_stops_the_start(stub: NvmlStub, setting: str) -> None:
    with pytest.raises(StartError, match=r"GPU 1 .*: GPU is lost .*--devices cpu"):
        find(stub, "count 2; rc.memory.0 16; rc.memory.1 15", setting)


def test_one_worker_place_per_mig_instance_and_none_on_its_card(stub: NvmlStub) -> None:
    found = find(stub, "count 2; mig.0 1; uuid.0.0 MIG-a; uuid.0.3 MIG-b; mig.1 0; uuid.1 GPU-c")
    assert pins(found) == ["MIG-a", "MIG-b", "GPU-c"]
    assert pins(find(stub, "count 1; mig.0 1; uuid.0.0 MIG-a; uuid.0.3 MIG-b", "MIG-b")) == ["MIG-b"]


@pytest.mark.parametrize(
    ("second", "variables", "is_said"),
    [("B", {}, True), ("A", {}, False), ("B", {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, False)],
)
def test_the_order_is_said_where_it_could_surprise(
    stub: NvmlStub, second: str, variables: dict[str, str], is_said: bool
) -> None:
    notes = find(stub, f"count 2; name.0 A; name.1 {second}", **variables).notes
    assert any("PCI bus" in note for note in notes) is is_said


# --- a GPU that goes and comes back ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ("count 2; rc.memory.1 15", "GPU 1 can't be used: GPU is lost (NVML error 15)."),
        ("count 2; rc.handle.1 15", "GPU 1 can't be used: GPU is lost (NVML error 15)."),
        ("count 2; rc.memory.1 16", "GPU 1 can't be used: GPU requires restart (NVML error 16)."),
        ("count 1", "GPU 1 can't be used: NVML no longer lists GPU-00000001-"),
        ("rc.init 18", "GPU 1 can't be used. The NVIDIA driver and its library differ in version"),
        ("rc.init 12", "GPU 1 can't be used. The NVIDIA driver is gone."),
        ("count 2; rc.handle.0 15", None),
        ("count 1; uuid.0 GPU-00000001-0000-0000-0000-000000000000", None),
        ("count 2; uuid.0 GPU-00000001-0000-0000-0000-000000000000; rc.handle.1 15", None),
    ],
)
def test_a_device_is_asked_for_by_its_uuid(stub: NvmlStub, behaviour: str, words: str | None) -> None:
    device = find(stub, "count 2").devices[1]

    def trouble() -> str | None:
        return asyncio.run(is_usable(device, stub.environ()))

    stub.says(behaviour)
    assert trouble() is None if words is None else words in (trouble() or "")
    stub.says("count 2")
    assert trouble() is None


def test_an_instance_is_lost_with_its_card_and_the_cpu_never(stub: NvmlStub) -> None:
    behaviour = "count 1; mig.0 1; uuid.0.2 MIG-abc"
    device = find(stub, behaviour).devices[0]
    assert asyncio.run(is_usable(device, stub.environ())) is None
    stub.says(f"{behaviour}; rc.memory.0 15")
    assert "GPU 0 MIG-abc can't be used" in (asyncio.run(is_usable(device, stub.environ())) or "")
    assert asyncio.run(is_usable(CPU)) is None
