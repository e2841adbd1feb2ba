"""A place: one worker's id and device, kept over its restarts, and the process that fills it now."""

import asyncio
import logging
import os
import socket
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Protocol

from predictord.errors import WorkerError
from predictord.generation import Generation
from predictord.problem import Code, Problem
from predictord.supervisor import stacks
from predictord.supervisor.call import Call, Origin
from predictord.supervisor.data_socket import End
from predictord.supervisor.devices import Device
from predictord.supervisor.launcher import Launcher
from predictord.supervisor.log_line import WORKER_OUTPUT
from predictord.supervisor.process import Exit, WorkerProcess
from predictord.supervisor.progress import LoadWatch
from predictord.supervisor.slot import Slot
from predictord.supervisor.states import MOVES, WorkerState
from predictord.wire import (
    Build,
    Channels,
    Checked,
    CommitSwap,
    Hello,
    Load,
    LoadFailed,
    Ping,
    PrepareSwap,
    Ready,
    ToSupervisor,
    WorkerOptions,
)

log = logging.getLogger("predictord")


@dataclass(frozen=True)
class LoadError:
    """Why a load failed: one line, and the predictor's traceback where there is one.

    `by_exception` tells an error of the code, which would come again, from a death.
    """

    detail: str
    traceback: str = ""
    by_exception: bool = False

    @property
    def text(self) -> str:
        """All of it."""
        return f"{self.detail}\n{self.traceback}" if self.traceback else self.detail


class Role(Enum):
    """What a place is there for; the state says how it is."""

    SERVING = 1
    CANDIDATE = 2
    """Loads the next generation beside the worker that serves."""
    LEAVING = 3
    """Finishes what it holds, and ends."""


class PlaceEvents(Protocol):
    """Who decides what follows from what happens in a place."""

    def on_ready(self, place: "Place") -> None:
        """The worker has loaded and answered a ping."""

    def on_exit(self, place: "Place", status: Exit, unread: list["Slot"]) -> None:
        """The process has ended; `unread` slots hold calls that it had not read whole."""

    def on_alive(self, place: "Place") -> None:
        """The worker has answered a later ping."""

    def on_broken(self, place: "Place") -> None:
        """The worker can't take requests any more: it is gone, or a data socket of it is."""

    def on_slot_free(self, place: "Place", slot: Slot) -> None:
        """This slot of the place has become free, or has nothing ahead any more."""

    def on_unfit(self, place: "Place") -> None:
        """The worker asks to be retired."""

    def on_recalled(self, calls: list[Call]) -> None:
        """A worker has not begun these calls, and will not."""


class Place:
    """Holds one worker; knows how it is, and leaves to the fleet what to do about it."""

    def __init__(
        self,
        place_id: int,
        device: Device,
        launcher: Launcher,
        options: WorkerOptions,
        startup_timeout_s: float,
        events: PlaceEvents,
        device_environment: dict[str, str],
    ) -> None:
        self.id = place_id
        self.device = device
        self._launcher = launcher
        self._options = options
        self._startup_timeout_s = startup_timeout_s
        self._events = events
        self._device_environment = device_environment
        self._loop = asyncio.get_running_loop()
        self._state = WorkerState.BACKOFF
        self._hold = False
        self.role = Role.SERVING
        self.hurry = asyncio.Event()
        """Set to end the back-off early."""
        self.is_checked = False
        """Whether a held candidate has passed the contract check."""
        self._watch: LoadWatch | None = None
        self.generation: Generation | None = None
        self.process: WorkerProcess | None = None
        self.origin = Origin(place_id, 0)
        """Who answers, as responses say it."""
        self.contract: Ready | None = None
        """What the worker said when it was ready."""
        self.takes_ahead = False
        self.max_batch_size = 1
        self.batch_interval_s = 0.0
        self.slots: list[Slot] = []
        self.free_slots: list[Slot] = []
        self.load_error: LoadError | None = None
        """Why the last load failed; `None` when it did not."""
        self.reason = ""
        """Why the supervisor killed the worker, for what is said of its end."""
        self.requests = 0
        self.restarts = 0
        self.failures = 0
        self.requests_before = 0
        """`requests` when its present process became ready."""
        self.started_at = 0.0
        self.ready_at = 0.0
        self.pinged_at: float | None = None
        """When the ping in hand was sent; `None` without one."""
        self.silent = False
        """Whether it owes a pong for so long that it gets no requests."""

    @property
    def label(self) -> str:
        """The worker in messages."""
        return f"worker {self.id} ({self.device.label})"

    @property
    def state(self) -> WorkerState:
        """The state as `/status` shows it."""
        if self._state is WorkerState.READY and self.in_hand:
            return WorkerState.BUSY
        return self._state

    @property
    def is_retiring(self) -> bool:
        """Whether it only finishes what it holds."""
        return self._state is WorkerState.DRAINING

    @property
    def in_hand(self) -> int:
        """Calls that the worker holds."""
        return sum(len(slot.calls) for slot in self.slots)

    @property
    def is_idle(self) -> bool:
        """Whether nothing at all is going on in it, `post_predict` included."""
        return not any(slot.busy and not slot.is_asking for slot in self.slots)

    @property
    def can_be_asked(self) -> bool:
        """Whether nothing is going on in it, and a slot is free to ask on: not even a ping is in hand there."""
        return self.is_idle and bool(self.free_slots)

    def move(self, state: WorkerState) -> None:
        """Change the state; a move that the table does not have is a bug here."""
        if state not in MOVES[self._state]:
            raise RuntimeError(f"{self.label}: {self._state} → {state}")
        self._state = state

    # --- life

    def successor(self) -> "Place":
        """A candidate for the same id and device, with the same history."""
        place = Place(
            self.id,
            self.device,
            self._launcher,
            self._options,
            self._startup_timeout_s,
            self._events,
            self._device_environment,
        )
        place.role = Role.CANDIDATE
        place.requests, place.restarts = self.requests, self.restarts
        return place

    def start(self, generation: Generation, *, hold: bool = False) -> None:
        """Spawn a process for this generation; with `hold` it stops before `__init__` until `go_on`."""
        self._hold = hold
        self.is_checked = False
        self.move(WorkerState.STARTING)
        self._run(generation, None)
        self.started_at = self._loop.time()
        self.load_error = None
        self.reason = ""
        self.pinged_at = None
        self.silent = False
        self.process = self._launcher.spawn_worker(generation, self._device_environment, self._emit)
        self._watch = LoadWatch(self._loop, self.process, self._startup_timeout_s, self._on_silence)
        self.process.watch(self)

    def kill(self, reason: str) -> None:
        """End the process from outside; its exit is reported as any other."""
        if self.process is not None and not self.reason:
            self.reason = reason
            self.process.kill()

    def go_on(self) -> None:
        """Let a held candidate build the predictor."""
        if self.process is not None:
            self.process.send(Build())

    async def ask(self, message: PrepareSwap | CommitSwap) -> ToSupervisor:
        """Ask an idle worker on its first slot and wait for the answer. Raises ConnectionError."""
        if not self.free_slots:
            raise ConnectionError(f"{self.label} has no free slot")
        answer: asyncio.Future[ToSupervisor] = self._loop.create_future()
        self.free_slots.pop(0).ask(message, lambda reply: None if answer.done() else answer.set_result(reply))
        return await answer

    def adopt(self, generation: Generation, contract: Ready) -> None:
        """The worker runs this generation now (a swap); its contract may have changed."""
        self._run(generation, contract)

    def ping(self) -> None:
        """Ask an idle worker for a sign of life."""
        if self.free_slots:
            self.pinged_at = self._loop.time()
            self.free_slots.pop(0).ask(Ping(), self._on_pong)

    # --- slot.SlotOwner

    @property
    def generation_number(self) -> int:
        """The generation that its process runs."""
        return self.generation.number if self.generation else 0

    @property
    def is_async(self) -> bool:
        """Whether a request in hand can be cancelled."""
        return self.contract is not None and self.contract.is_async

    def slot_broken(self, slot: Slot, reason: str) -> None:
        """A worker that does not keep to the protocol can't be trusted with another request."""
        self._events.on_broken(self)
        # A worker that is ending closes its sockets a moment before its pid says so.
        self._loop.call_later(_END_LAG_S, self._end_broken, self.process, f"it {reason}")

    def unfit(self) -> None:
        """The worker asks to be retired."""
        self._events.on_unfit(self)

    def slot_recalled(self, calls: list[Call]) -> None:
        """What the worker had not begun is another's."""
        self._events.on_recalled(calls)

    # --- process.ProcessEvents

    def on_message(self, message: ToSupervisor, descriptors: list[int]) -> None:
        """A message on the control socket."""
        if isinstance(message, Hello) and self.process is not None and self.generation is not None:
            self.process.send(Load(self.generation, self._options, self._hold))
        elif isinstance(message, Checked):
            self.is_checked = True
            self._events.on_alive(self)
        elif isinstance(message, Ready):
            self._follow(message)
        elif isinstance(message, Channels):
            self._add_slots(descriptors)
        elif isinstance(message, LoadFailed):
            self.load_error = LoadError(message.detail, message.traceback, by_exception=True)
            # Threads and pools that the predictor has started can keep the process from ending by itself.
            self._loop.call_later(_END_LAG_S, self._end_broken, self.process, "it did not end after its load failed")

    def on_protocol_error(self, error: WorkerError) -> None:
        """The control socket carried something else than messages."""
        self.kill(f"it {error}")

    def on_exit(self, status: Exit) -> None:
        """The process is gone: find out which calls it had taken, then let the fleet decide."""
        if self._watch is not None:
            self._watch.cancel()
        self._events.on_broken(self)
        for slot in self.slots:
            slot.drain()
        if self.process is not None:
            self._launcher.guardian.remove(self.process.pid)
        if self._state is WorkerState.STARTING and self.load_error is None:
            cause = self.reason or f"{status} while loading"
            frames = stacks.fatal_frames(status.stacks, self.generation.files if self.generation else {})
            self.load_error = LoadError(f"{self.label} {cause}", "\n".join([*self._last_lines(), frames]))
        unread = [slot for slot in self.slots if slot.end is End.UNREAD and slot.calls]
        self._events.on_exit(self, status, unread)
        for slot in self.slots:
            slot.close()
        self.slots, self.free_slots, self.process = [], [], None

    # --- inside

    def _run(self, generation: Generation, contract: Ready | None) -> None:
        self.generation = generation
        self.origin = Origin(self.id, generation.number)
        self._follow(contract)

    def _follow(self, contract: Ready | None) -> None:
        self.contract = contract
        self.takes_ahead = contract is not None and contract.concurrency == 1 and not contract.is_async
        self.max_batch_size = contract.max_batch_size if contract else 1
        self.batch_interval_s = contract.batch_interval_s if contract and contract.max_batch_size > 1 else 0.0

    def _add_slots(self, descriptors: list[int]) -> None:
        if self.contract is None or len(self.slots) + len(descriptors) > self.contract.concurrency:
            for descriptor in descriptors:
                os.close(descriptor)
            self.kill("it sent sockets that it had not announced")
            return
        for descriptor in descriptors:
            thread = self.contract.threads[len(self.slots)]
            release = partial(self._events.on_slot_free, self)
            slot = Slot(self._loop, socket.socket(fileno=descriptor), self, thread, release)
            self.slots.append(slot)
            self.free_slots.append(slot)
        if len(self.slots) == self.contract.concurrency:
            self.load_error = None
            self.ping()

    def _on_pong(self, _reply: ToSupervisor) -> None:
        self.pinged_at = None
        if self._state is WorkerState.STARTING:
            if self._watch is not None:
                self._watch.cancel()
            self.ready_at = self._loop.time()
            self.requests_before = self.requests
            self.move(WorkerState.READY)
            self._events.on_ready(self)
        else:
            self._events.on_alive(self)

    def _end_broken(self, process: WorkerProcess | None, reason: str) -> None:
        if self.process is process:  # and not one that has taken its place
            self.kill(reason)

    def _on_silence(self) -> None:
        self.kill(f"did nothing for {self._startup_timeout_s:g} s while loading (--startup-timeout)")

    def _emit(self, line: str) -> None:
        log.info("%s", line, extra={"event": WORKER_OUTPUT, "worker": self.id})

    def _last_lines(self) -> list[str]:
        return self.process.output.tail if self.process is not None else []


_END_LAG_S = 0.5


def died(place: Place, status: Exit) -> Problem:
    """What a call is told whose worker ended while it held it."""
    cause = f"was killed: {place.reason}" if place.reason else str(status)
    return Problem(Code.WORKER_DIED, f"{place.label} {cause} while it held this request")
