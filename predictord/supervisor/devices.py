"""Which devices get workers: what NVML reports, as `CUDA_VISIBLE_DEVICES` and `--devices` narrow it.

This is the one place of the supervisor that reads the environment besides the settings: CUDA's variables
are not ours to declare, and workers must see what CUDA itself would have shown.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from predictord.errors import SettingsError, StartError
from predictord.supervisor.nvml import (
    DRIVER_NOT_LOADED,
    PROBE_TIMEOUT_S,
    Card,
    Instance,
    NvmlReport,
    Outcome,
    probe,
    probe_async,
)

_SPINS = "GOMP_SPINCOUNT"
_KINDS_OF_UUID = ("GPU-", "MIG-")


@dataclass(frozen=True)
class Device:
    """What a worker runs on. GPUs are known by `uuid` (a MIG instance by its own); `index` is nvidia-smi's."""

    kind: Literal["cpu", "gpu"]
    index: int | None
    uuid: str | None
    name: str

    @property
    def label(self) -> str:
        """The device in messages: `CPU`, `GPU 1`, `GPU 0 MIG-7e1f0a2b`."""
        if self.kind == "cpu":
            return "CPU"
        instance = f" {self.uuid[:12]}" if self.uuid and self.uuid.startswith("MIG-") else ""
        return f"GPU {self.index}{instance}"

    @property
    def title(self) -> str:
        """The label with the hardware's name: `GPU 1 (NVIDIA H200)`."""
        return self.label if self.kind == "cpu" else f"{self.label} ({self.name})"

    def environment(self, workers_on_cpu: int, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
        """What a worker's environment gets over the rest, before it is exec'd.

        `environ` is that rest: thread counts that the user has set there stay.
        """
        if self.uuid is not None:
            return {"CUDA_VISIBLE_DEVICES": self.uuid, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
        threads = str(max(1, len(os.sched_getaffinity(0)) // max(1, workers_on_cpu)))
        shares = {name: threads for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS") if not environ.get(name)}
        if not environ.get("OMP_WAIT_POLICY") and not environ.get(_SPINS):
            # torch's threads wait awake for some 8 ms by default: after each prediction too, when the supervisor
            # wants a core to answer. This is 0.3 ms, enough for the next step of the same prediction.
            shares[_SPINS] = "10000"
        return {"CUDA_VISIBLE_DEVICES": "", **shares}


CPU = Device("cpu", None, None, "CPU")


@dataclass(frozen=True)
class Discovery:
    """The devices to serve on, never none, and sentences that the console shows at the start."""

    devices: tuple[Device, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Visible:
    """One entry of what CUDA may see: a whole card, or one MIG instance of it."""

    card: Card
    instance: Instance | None = None

    @property
    def title(self) -> str:
        """The entry in messages."""
        return self.device().title

    def units(self) -> list["Visible"]:
        """Itself, or the instances of a card in MIG mode, on which itself nothing can run."""
        if self.instance is not None or not self.card.instances:
            return [self]
        return [Visible(self.card, instance) for instance in self.card.instances]

    def device(self) -> Device:
        """What a worker of this entry is pinned to."""
        unit = self.instance or self.card
        return Device("gpu", self.card.index, unit.uuid, unit.name)


def discover(
    setting: str,
    environ: Mapping[str, str] = os.environ,
    *,
    device_folder: Path = Path("/dev"),
    timeout_s: float = PROBE_TIMEOUT_S,
) -> Discovery:
    """Find the devices that `--devices` asks for; blocks while NVML is asked.

    Raises `SettingsError` for a bad value and `StartError` for a driver that is there but broken.
    """
    wanted = _wanted(setting)
    if wanted == ["cpu"]:
        return Discovery((CPU,))
    variable = environ.get("CUDA_VISIBLE_DEVICES")
    if variable is not None and not _entries(variable):
        return _without_gpu(setting, f"CUDA_VISIBLE_DEVICES={variable!r} hides every GPU")
    report = probe(timeout_s, environ)
    reason = _absence(report, has_device_files=any(device_folder.glob("nvidia*")))
    if reason is not None:
        return _without_gpu(setting, reason)
    visible = visible_devices(variable, report.cards)
    if not visible:
        return _without_gpu(setting, f"CUDA_VISIBLE_DEVICES={variable!r} leaves none of {len(report.cards)} GPUs")
    return _pin(select(setting, visible), _order_notes(report.cards, environ))


async def is_usable(device: Device, environ: Mapping[str, str] | None = None) -> str | None:
    """Ask NVML again about one device: the error as a sentence, or `None` if a worker may start there."""
    if device.kind == "cpu":
        return None
    return usability(device, await probe_async(environ=environ))


def usability(device: Device, report: NvmlReport) -> str | None:
    """Why no worker can run on this GPU any more, found by its UUID, whatever its index is now."""
    if report.outcome is not Outcome.OK:
        return f"{device.label} can't be used. {report.failure or 'The NVIDIA driver is gone'}."
    by_uuid = {unit.device().uuid: card for card in report.cards for unit in Visible(card).units()}
    # a lost card does not tell its UUID any more
    lost = {card.index: card for card in report.cards if card.uuid is None}
    card = by_uuid.get(device.uuid) or lost.get(device.index or 0)
    fault = card.fault if card else f"NVML no longer lists {device.uuid}"
    return f"{device.label} can't be used: {fault}." if fault else None


def visible_devices(variable: str | None, cards: Sequence[Card]) -> tuple[Visible, ...]:
    """What CUDA shows, in its order, for this value of `CUDA_VISIBLE_DEVICES` (`None`: unset).

    The rules are those of the CUDA programming guide (environment variables), with what PyTorch's
    `_parse_visible_devices` adds on duplicates and trailing text: the first invalid entry ends the list, and a
    device named twice empties it. Unlike CUDA, which shows one MIG instance at most, all that are named
    count, since each gets a process of its own.
    """
    everything = tuple(Visible(card) for card in cards)
    if variable is None:
        return everything
    found: list[Visible] = []
    for entry in _entries(variable):
        matches = everything[entry : entry + 1] if isinstance(entry, int) else _by_prefix(entry, everything)
        if len(matches) != 1:
            break
        if matches[0] in found:
            return ()
        found.append(matches[0])
    return tuple(found)


def select(setting: str, visible: Sequence[Visible]) -> tuple[Visible, ...]:
    """The entries that `--devices` (`auto` or a list) chooses among the visible ones; raises `SettingsError`."""
    wanted = _wanted(setting)
    if wanted == ["auto"]:
        return tuple(visible)
    chosen: list[Visible] = []
    for entry in wanted:
        for unit in _chosen(entry, visible).units():
            if unit in chosen:
                raise SettingsError(f"--devices {setting} names {unit.title} twice; --workers-per-device adds workers")
            chosen.append(unit)
    return tuple(chosen)


def _wanted(setting: str) -> list[str]:
    entries = [entry.strip() for entry in setting.split(",")]
    if [entry.lower() for entry in entries] in (["auto"], ["cpu"]):
        return [entries[0].lower()]
    for entry in entries:
        if not re.fullmatch(r"[0-9]{1,9}|(GPU|MIG)-\S+", entry):
            raise SettingsError(
                f"--devices {setting!r}: {entry!r} is none of auto, cpu, an index, or a UUID (GPU-… or MIG-…)"
            )
    return entries


def _chosen(entry: str, visible: Sequence[Visible]) -> Visible:
    matches = visible[int(entry) : int(entry) + 1] if entry.isdecimal() else _by_prefix(entry, visible)
    if len(matches) > 1:
        several = " and ".join(match.title for match in matches)
        raise SettingsError(f"--devices: {entry} fits {several}; give more of the UUID")
    if not matches:
        choices = ", ".join(f"{index}: {one.title}" for index, one in enumerate(visible))
        raise SettingsError(f"--devices: no visible GPU is {entry}; there are {choices}")
    return matches[0]


def _entries(variable: str) -> list[int | str]:
    """The well-formed head of the list: all ordinals (with any text behind: `strtoul`), or UUIDs of one kind."""
    texts = [text.strip() for text in variable.split(",")]
    kind = texts[0][:4]
    entries: list[int | str] = []
    for text in texts:
        ordinal = re.match(r"\+?([0-9]{1,9})", text)
        if kind in _KINDS_OF_UUID and text.startswith(kind):
            entries.append(text)
        elif kind not in _KINDS_OF_UUID and ordinal is not None:
            entries.append(int(ordinal[1]))
        else:
            break
    return entries


def _by_prefix(prefix: str, among: Sequence[Visible]) -> list[Visible]:
    candidates = [*among, *(unit for one in among for unit in one.units() if unit not in among)]
    return [one for one in candidates if (one.device().uuid or "").startswith(prefix)]


def _absence(report: NvmlReport, *, has_device_files: bool) -> str | None:
    """Why there is no GPU to serve on, `None` if there is one; raises `StartError` if only the driver is broken."""
    if report.outcome is Outcome.NO_BINDING:
        return "The Python module pynvml is not that of nvidia-ml-py ('pip install nvidia-ml-py' brings the GPUs back)"
    not_loaded = report.code == DRIVER_NOT_LOADED and not has_device_files
    if report.failure and not not_loaded:
        raise StartError(f"{report.failure}, or serve without GPUs: --devices cpu")
    return None if report.cards else "No NVIDIA GPU found"


def _without_gpu(setting: str, reason: str) -> Discovery:
    if _wanted(setting) != ["auto"]:
        raise SettingsError(f"--devices {setting}: {reason}; use --devices auto or cpu")
    return Discovery((CPU,), (f"{reason}: serving on the CPU.",))


def _order_notes(cards: Sequence[Card], environ: Mapping[str, str]) -> list[str]:
    models = {card.name for card in cards if card.error is None}
    if len(models) < 2 or environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID":
        return []
    return ["GPUs are counted in nvidia-smi's (PCI bus) order; CUDA's own default, fastest first, may differ."]


def _pin(chosen: Sequence[Visible], notes: list[str]) -> Discovery:
    faults = {one.title: one.card.fault for one in chosen if one.card.fault}
    devices = tuple(unit.device() for one in chosen if not one.card.fault for unit in one.units())
    if not devices:
        listed = "; ".join(f"{title}: {fault}" for title, fault in faults.items())
        raise StartError(f"No GPU can be used: {listed}. Mend that, or serve without GPUs: --devices cpu")
    return Discovery(devices, (*notes, *(f"{title} is left out: {fault}." for title, fault in faults.items())))
