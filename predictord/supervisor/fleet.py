"""The fleet: all places, and what follows from a worker's readiness, death, silence or overdue answer."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping

from predictord.generation import Generation
from predictord.problem import Code, Problem
from predictord.supervisor import restart, stacks
from predictord.supervisor.call import Call, Stage
from predictord.supervisor.console import LoadingDisplay
from predictord.supervisor.devices import Device, is_usable
from predictord.supervisor.dispatch import Dispatcher
from predictord.supervisor.launcher import Launcher
from predictord.supervisor.place import LoadError, Place, died
from predictord.supervisor.process import Exit
from predictord.supervisor.slot import Slot
from predictord.supervisor.states import ServiceState, WorkerState, service_state
from predictord.wire import WorkerOptions

log = logging.getLogger("predictord")

PING_INTERVAL_S = 5.0
PING_LIMIT_S = 30.0
STACKS_LIMIT_S = 0.3
CANCEL_LIMIT_S = 0.5
"""How long an async worker may take to obey a `Cancel` before it counts as hung."""
COMPANY_LIMIT_S = 1.0
"""How long the other requests of a hung worker may take to finish before it is killed."""


class Fleet:
    """Owns the places, and every task that concerns them."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        launcher: Launcher,
        *,
        options: WorkerOptions,
        startup_timeout_s: float,
        request_timeout_s: float,
        loading: LoadingDisplay,
    ) -> None:
        self._loading = loading
        self._dispatcher = dispatcher
        self._launcher = launcher
        self._options = options
        self._startup_timeout_s = startup_timeout_s
        self._request_timeout_s = request_timeout_s
        self._tasks: asyncio.TaskGroup
        self._stopping = False
        self.places: list[Place] = []
        self.generation: Generation
        self.proven = False
        """Whether a worker of this generation has ever been ready."""
        self.changed = asyncio.Event()
        """Set whenever a worker's state changes; whoever waits for one clears it."""

    def create(self, devices: list[Device], environ: Mapping[str, str]) -> None:
        """Make one place for each entry of `devices`, empty until `run`."""
        on_cpu = sum(device.kind == "cpu" for device in devices)
        for number, device in enumerate(devices):
            environment = device.environment(on_cpu, environ)
            self.places.append(
                Place(number, device, self._launcher, self._options, self._startup_timeout_s, self, environment)
            )

    async def run(self, generation: Generation) -> None:
        """Fill every place, then keep the workers' heartbeat, and own what is done about them, until cancelled."""
        self.generation = generation
        async with asyncio.TaskGroup() as self._tasks:
            for place in self.places:
                self._start(place)
            while True:
                await asyncio.sleep(PING_INTERVAL_S)
                for place in self.places:
                    if place.process is not None:
                        place.process.note_survival()
                    self._check_pulse(place)

    async def stop(self) -> None:
        """End all workers; what they hold is answered with 502."""
        self._stopping = True
        async with asyncio.TaskGroup() as group:
            for place in self.places:
                if place.process is not None:
                    group.create_task(self._stop_place(place))
        await self._launcher.sweep()

    def kill_all(self) -> None:
        """SIGKILL every worker and wait for nothing; the guardian does the rest."""
        self._stopping = True
        for place in self.places:
            place.kill("the service was told to stop at once")

    # --- what the whole is like

    def slots(self) -> Iterator[Slot]:
        """The slots of all living workers."""
        for place in self.places:
            yield from place.slots

    @property
    def in_hand(self) -> int:
        """Calls that workers hold."""
        return sum(place.in_hand for place in self.places)

    @property
    def is_idle(self) -> bool:
        """Whether no worker does anything, `post_predict` included."""
        return all(place.is_idle for place in self.places)

    @property
    def state(self) -> ServiceState:
        """The state of the whole."""
        states = [place.state for place in self.places]
        return service_state(states, draining=self._dispatcher.is_draining, can_wait=self.outlook() is None)

    @property
    def load_error(self) -> LoadError | None:
        """Why a worker's last load failed, if one did."""
        return next((place.load_error for place in self.places if place.load_error is not None), None)

    @property
    def cannot_load(self) -> bool:
        """Whether no worker of this generation has ever been ready, and each one's load has failed."""
        return not self.proven and all(
            place.load_error is not None and place.state in (WorkerState.FAILED, WorkerState.BACKOFF)
            for place in self.places
        )

    def outlook(self) -> Problem | None:
        """`no_worker` when nobody will take a request that waits now; `None` when waiting makes sense."""
        hopeless = (WorkerState.FAILED, WorkerState.BACKOFF)
        for place in self.places:
            if place.state not in hopeless or (place.state is WorkerState.BACKOFF and place.load_error is None):
                return None
        error = self.load_error or LoadError("no worker is left")
        return Problem(Code.NO_WORKER, f"the predictor did not load: {error.detail}", error.traceback or None)

    def unready(self) -> Problem | None:
        """Why no worker can answer at this moment; `None` when one can."""
        if self._dispatcher.is_draining:
            return Problem(Code.DRAINING, "the service is stopping")
        if any(self._dispatcher.has(place) for place in self.places):
            return None
        return self.outlook() or Problem(Code.NO_WORKER, "no worker is ready yet; they are loading")

    # --- place.PlaceEvents

    def on_ready(self, place: Place) -> None:
        """A worker has loaded."""
        took = place.ready_at - place.started_at
        self._loading.done(place.label)
        log.info(
            "%s ready in %.2f s",
            place.label,
            took,
            extra={"event": "worker_ready", "worker": place.id, "seconds": round(took, 3)},
        )
        self.proven = True
        self._learn_late_files(place)
        self._dispatcher.join(place)
        self._announce()

    def on_alive(self, place: Place) -> None:
        """A worker answers a ping, maybe after a silence in which it got no requests."""
        if place.silent and place.state is WorkerState.READY:
            log.info("%s answers again", place.label, extra={"event": "worker_alive", "worker": place.id})
            self._dispatcher.join(place)
        place.silent = False
        self._announce()

    def on_broken(self, place: Place) -> None:
        """A worker takes no more requests; its end follows."""
        self._dispatcher.leave(place)

    def on_slot_free(self, place: Place) -> None:
        """A slot may take the next call."""
        self._dispatcher.pump()
        if place.is_retiring or self._dispatcher.is_draining:
            self._announce()

    def on_exit(self, place: Place, status: Exit, unread: list[Slot]) -> None:
        """A worker's process is gone: answer for what it held, and decide when the next one starts."""
        self._loading.done(place.label)
        was_loading = place.state is WorkerState.STARTING
        retired = place.state is WorkerState.DRAINING
        problem = died(place, status)
        back: list[Call] = []
        for slot in place.slots:
            calls, slot.calls = slot.calls, []
            if slot in unread and all(call.stage is Stage.HANDED for call in calls):
                back += calls
            else:
                for call in calls:
                    call.fail(problem)
        if not self._stopping:
            self._tell_exit(place, status, was_loading, retired)
            self._tasks.create_task(self._launcher.sweep())
            self._plan_restart(place, was_loading, retired)
        self._dispatcher.put_back(back)
        self._announce()

    def on_unfit(self, place: Place) -> None:
        """A sticky CUDA error: every further call would fail, so the worker is replaced."""
        if place.state in (WorkerState.READY, WorkerState.BUSY):
            log.warning(
                "%s has a CUDA error that stays; it is replaced",
                place.label,
                extra={"event": "worker_unfit", "worker": place.id},
            )
            self._retire(place)

    # --- restart

    def _start(self, place: Place) -> None:
        self._loading.start(place.label)
        try:
            place.start(self.generation)
        except OSError as error:
            place.load_error = LoadError(f"{place.label} could not be started: {error.strerror}")
            self._plan_restart(place, was_loading=True, retired=False)
        self._announce()

    def _plan_restart(self, place: Place, was_loading: bool, retired: bool) -> None:
        if was_loading and place.load_error is not None and place.load_error.by_exception and not self.proven:
            # The code would fail the same way again: only a change of it helps.
            place.move(WorkerState.FAILED)
            return
        place.move(WorkerState.BACKOFF)
        if retired:
            delay_s = 0.0
        else:
            ready_s = 0.0 if was_loading else asyncio.get_running_loop().time() - place.ready_at
            worked = place.requests > place.requests_before and not was_loading
            place.failures = restart.failures_after(place.failures, worked=worked, ready_s=ready_s)
            delay_s = restart.restart_delay_s(place.failures)
        self._tasks.create_task(self._restart(place, delay_s))

    async def _restart(self, place: Place, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        while not self._stopping and (trouble := await is_usable(place.device)) is not None:
            place.failures += 1
            place.load_error = LoadError(trouble)
            log.error("%s", trouble, extra={"event": "device_lost", "worker": place.id})
            self._announce()
            await asyncio.sleep(restart.restart_delay_s(place.failures))
        if not self._stopping and place.state is WorkerState.BACKOFF:
            place.restarts += 1
            self._start(place)

    def _retire(self, place: Place) -> None:
        self._dispatcher.leave(place)
        place.move(WorkerState.DRAINING)
        self._tasks.create_task(self._finish_retiring(place))

    async def _finish_retiring(self, place: Place) -> None:
        while not place.is_idle and place.process is not None:
            self.changed.clear()
            await self.changed.wait()
        await self._stop_place(place)

    async def _stop_place(self, place: Place) -> None:
        if place.process is not None:
            await self._launcher.stop_worker(place.process, place.label)

    # --- silence and overdue answers

    def _check_pulse(self, place: Place) -> None:
        """Ping a worker with nothing in hand; one that owes a pong gets no requests, and later no mercy."""
        if place.state is not WorkerState.READY:
            return
        if place.pinged_at is None:
            if place.is_idle:
                place.ping()
            return
        silent_s = asyncio.get_running_loop().time() - place.pinged_at
        if silent_s >= PING_LIMIT_S:
            place.kill(f"it did not answer for {silent_s:.0f} s")
        elif not place.silent:
            place.silent = True
            log.warning(
                "%s does not answer and gets no requests",
                place.label,
                extra={"event": "worker_silent", "worker": place.id},
            )
            self._dispatcher.leave(place)

    def overdue(self, slot: Slot) -> None:
        """A slot's deadline has passed (the watchdog's report)."""
        for place in self.places:
            if slot in place.slots:
                self._tasks.create_task(self._end_overdue(place, slot, list(slot.calls)))

    async def _end_overdue(self, place: Place, slot: Slot, calls: list[Call]) -> None:
        """Answer 504 with the stack, and free the slot: by cancelling, else by killing the worker."""
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        limit = f"{self._request_timeout_s:g} s (--request-timeout)"
        process = place.process
        if process is None:
            return

        def is_over() -> bool:
            """Whether the slot has let go of it: answered late, cancelled, or the worker is dead."""
            return slot.calls != calls or not slot.busy or place.process is not process

        if place.is_async and calls and calls[0].stage is Stage.HANDED:
            # The answer to a Cancel carries the task's own stack, which a dump of threads lacks.
            slot.cancel()
            if await _within(STACKS_LIMIT_S / 2, is_over):
                self._tell_overdue(place, limit, killed=False)
                return
        dump = await process.stacks(STACKS_LIMIT_S / 2 if place.is_async else STACKS_LIMIT_S)
        if is_over():
            return
        frames = stacks.thread_frames(dump, slot.thread, self.generation.files)
        for call in calls:
            call.fail(Problem(Code.PREDICT_TIMEOUT, f"predict took longer than {limit}", frames))
        if place.is_async and calls:
            slot.cancel()
            if await _within(CANCEL_LIMIT_S - (loop.time() - asked_at), is_over):
                self._tell_overdue(place, limit, killed=False)
                return
        self._dispatcher.leave(place)
        others = [other for other in place.slots if other is not slot]
        await _within(COMPANY_LIMIT_S - (loop.time() - asked_at), lambda: not any(other.busy for other in others))
        if place.process is process:
            self._tell_overdue(place, limit, killed=True)
            place.kill(f"a prediction took longer than {limit}")

    # --- telling

    def _tell_overdue(self, place: Place, limit: str, *, killed: bool) -> None:
        fate = "the worker is killed and replaced" if killed else "it was cancelled"
        log.error(
            "%s: predict took longer than %s; %s",
            place.label,
            limit,
            fate,
            extra={"event": "predict_timeout", "worker": place.id},
        )

    def _tell_exit(self, place: Place, status: Exit, was_loading: bool, retired: bool) -> None:
        error = place.load_error if was_loading else None
        if error is not None:
            log.error(
                "%s did not load: %s",
                place.label,
                error.detail,
                extra={"event": "load_failed", "worker": place.id, "traceback": error.traceback},
            )
        elif not retired:
            cause = f"was killed: {place.reason}" if place.reason else str(status)
            log.error(
                "%s %s",
                place.label,
                cause,
                extra={"event": "worker_died", "worker": place.id, "traceback": status.stacks},
            )

    def _announce(self) -> None:
        """A state has changed: requests that wait in vain are told, and so is whoever watches."""
        if self._dispatcher.queue and (problem := self.outlook()) is not None:
            self._dispatcher.fail_queued(problem)
        self.changed.set()

    def _learn_late_files(self, place: Place) -> None:
        """Files that only the import found belong to the generation from now on."""
        late = place.contract.late_files if place.contract else {}
        if late.keys() - self.generation.files.keys():
            self.generation = self.generation.with_files(late)


async def _within(limit_s: float, is_true: Callable[[], bool]) -> bool:
    """Whether it becomes true within the limit; returns as soon as it does."""
    deadline = asyncio.get_running_loop().time() + limit_s
    while not (now := is_true()) and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.005)
    return now
