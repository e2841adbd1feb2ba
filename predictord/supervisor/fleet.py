"""The fleet: all places, and what follows from a worker's readiness, death, silence or overdue answer."""

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from predictord.generation import Generation
from predictord.problem import Code, Problem
from predictord.supervisor import restart
from predictord.supervisor.call import Call, Stage
from predictord.supervisor.console import LoadingDisplay
from predictord.supervisor.devices import Device, is_usable
from predictord.supervisor.dispatch import Dispatcher
from predictord.supervisor.launcher import Launcher
from predictord.supervisor.overdue import Overdue
from predictord.supervisor.place import LoadError, Place, Role, died
from predictord.supervisor.process import Exit
from predictord.supervisor.pulse import PING_INTERVAL_S, check_pulse
from predictord.supervisor.roster import Roster
from predictord.supervisor.slot import Slot
from predictord.supervisor.slow import SlowPredictions, tell_slow
from predictord.supervisor.states import ServiceState, WorkerState, service_state
from predictord.supervisor.worker_news import WorkerNews
from predictord.wire import WorkerOptions

log = logging.getLogger("predictord")

_HEAD_START_S = 0.5
"""Between the first requests of new workers and the end of the old ones, whose memory takes a core's while to free."""


class Fleet(Roster):
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
        super().__init__()
        self._loading = loading
        self._news = WorkerNews()
        self._slow = SlowPredictions()
        self._dispatcher = dispatcher
        self._launcher = launcher
        self._options = options
        self._startup_timeout_s = startup_timeout_s
        self._request_timeout_s = request_timeout_s
        self._tasks: asyncio.TaskGroup
        self._stopping = False
        self.on_death: Callable[[Place], None] | None = None
        """Told of each worker that served and died by its own doing."""
        self.changed = asyncio.Event()
        """Set whenever a worker's state changes; see `until`."""

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
                for place in self.everyone():
                    if place.process is not None:
                        place.process.note_survival()
                    check_pulse(place, self._dispatcher)
                slow = self._slow.find(self.everyone(), self.generation.number, time.monotonic())
                if slow is not None:
                    self._tasks.create_task(tell_slow(*slow))

    async def stop(self) -> None:
        """End all workers; what they hold is answered with 502."""
        self._stopping = True
        for place in self.everyone():
            self._dispatcher.leave(place)
        async with asyncio.TaskGroup() as group:
            for place in self.everyone():
                group.create_task(self._stop_place(place, "the service stopped (--drain-timeout)"))
        await self._launcher.sweep()

    def kill_all(self) -> None:
        """SIGKILL every worker and wait for nothing; the guardian does the rest."""
        self._stopping = True
        for place in self.everyone():
            place.kill("the service was told to stop at once")

    # --- what the whole is like

    def state(self, *, reloading: bool) -> ServiceState:
        """The state of the whole."""
        states = [place.state for place in self.places]
        return service_state(
            states, draining=self._dispatcher.is_draining, reloading=reloading, can_wait=self.outlook() is None
        )

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Wait until something is so that only a change of a worker's state can bring about."""
        while not is_so():
            self.changed.clear()
            await self.changed.wait()

    def unready(self) -> Problem | None:
        """Why no worker can answer at this moment; `None` when one can."""
        if self._dispatcher.is_draining:
            return Problem(Code.DRAINING, "the service is stopping")
        if any(self._dispatcher.has(place) for place in self.places):
            return None
        return self.outlook() or Problem(Code.NO_WORKER, "no worker is ready yet; they are loading")

    # --- place.PlaceEvents

    def on_ready(self, place: Place) -> None:
        """A worker has loaded; a candidate waits for its turn."""
        self._loading.done(place.label)
        if place.device.kind == "gpu":
            self._tasks.create_task(self._news.tell_ready_with_gpu(place))
        elif place.process is not None:
            self._news.tell_ready(place, place.process.pid)
        if self.may_serve(place):
            self.proven = True
            self.learn_late_files(place)
            self._dispatcher.join(place)
        self._announce()

    def on_alive(self, place: Place) -> None:
        """A worker answers a ping, maybe after a silence in which it got no requests."""
        if place.silent and place.state is WorkerState.READY:
            log.info("%s answers again", place.label, extra={"event": "worker_alive", "worker": place.id})
            if self.may_serve(place):
                self._dispatcher.join(place)
        place.silent = False
        self._announce()

    def on_broken(self, place: Place) -> None:
        """A worker takes no more requests; its end follows."""
        self._dispatcher.leave(place)

    def on_slot_free(self, place: Place, slot: Slot) -> None:
        """A slot may take more."""
        if self._dispatcher.release(place, slot):
            return
        if place.is_retiring or self._dispatcher.is_quiescing:
            self._announce()

    def on_exit(self, place: Place, status: Exit, unread: list[Slot]) -> None:
        """A worker's process is gone: answer for what it held, and decide when the next one starts."""
        self._loading.done(place.label)
        was_loading = place.state is WorkerState.STARTING
        retired = place.state is WorkerState.DRAINING
        problem = died(place, status)
        back: list[Call] = []
        lost = 0
        for slot in place.slots:
            calls, slot.calls = slot.calls, []
            for call in calls:
                if slot in unread and call.stage is Stage.HANDED and call.overdue is None:
                    back.append(call)
                else:
                    lost += call.client is not None and call.overdue is None
                    call.fail(call.overdue or problem)
            back += slot.ahead
            slot.ahead.clear()
        if lost and (self._stopping or place.role is not Role.SERVING):
            self._news.tell_cut(place, lost)
        if not self._stopping:
            self._tasks.create_task(self._launcher.sweep())
            self._decide_after_exit(place, status, lost, was_loading=was_loading, retired=retired)
        self._dispatcher.put_back(back)
        self._announce()

    def on_recalled(self, calls: list[Call]) -> None:
        """Calls that a worker has not begun are for whoever is free next."""
        self._dispatcher.put_back(calls)

    def on_unfit(self, place: Place) -> None:
        """A sticky CUDA error: every further call would fail, so the worker is replaced."""
        if place.state in (WorkerState.READY, WorkerState.BUSY):
            log.warning(
                "%s has a CUDA error that stays; it is replaced",
                place.label,
                extra={"event": "worker_unfit", "worker": place.id},
            )
            self._retire(place)

    # --- turnover: candidates beside the serving workers, and the old ones' end

    def hire(self, place: Place, generation: Generation, *, hold: bool = False) -> Place:
        """Start a candidate for this place beside the worker that fills it.

        With `hold` it stops after the contract check, until `go_on`.
        """
        candidate = place.successor()
        self._others.append(candidate)
        self._spawn(candidate, generation, hold=hold)
        return candidate

    def dismiss(self, candidates: Sequence[Place]) -> None:
        """End candidates that are not wanted any more."""
        for candidate in candidates:
            candidate.role = Role.LEAVING
            candidate.kill("it is not wanted any more")
            self.forget_if_gone(candidate)

    def promote(self, candidates: Sequence[Place], generation: Generation) -> list[Place]:
        """Let ready candidates serve, and from this step on nobody else; returns the old workers."""
        old = self.places
        for place in old:
            self._dispatcher.leave(place)
        self.places = sorted(candidates, key=lambda place: place.id)
        self._others = [place for place in self._others if place not in candidates] + old
        self.serve_generation(generation)
        self.proven = True
        for place in old:
            place.role = Role.LEAVING
        for place, candidate in zip(old, self.places, strict=True):
            candidate.restarts = place.restarts  # its own may have gone on while the candidate loaded
            candidate.role = Role.SERVING
            self.learn_late_files(candidate)
            if candidate.state is WorkerState.READY:
                self._dispatcher.join(candidate)
        self._announce()
        return old

    def promote_one(self, candidate: Place, generation: Generation) -> None:
        """Let a candidate serve in its place; from the first one on, no older version answers any more."""
        old = self.places[candidate.id]
        others = [place for place in self.places if place.id != candidate.id]
        if self.generation.number != generation.number:
            for place in others:
                self._dispatcher.leave(place)
        self.places = sorted([*others, candidate], key=lambda place: place.id)
        self._others = [place for place in self._others if place is not candidate]
        candidate.restarts = old.restarts
        candidate.role = Role.SERVING
        old.role = Role.LEAVING
        self.serve_generation(generation)
        self.learn_late_files(candidate)
        self._dispatcher.join(candidate)
        self._announce()

    def let_go(self, place: Place, drain_timeout_s: float) -> None:
        """End an old worker in the background, when it has finished what it holds or `drain_timeout_s` is over."""
        self._tasks.create_task(self._let_go(place, drain_timeout_s))

    async def _let_go(self, place: Place, drain_timeout_s: float) -> None:
        await asyncio.sleep(_HEAD_START_S)
        await self._drain_and_stop(place, drain_timeout_s)

    async def empty(self, place: Place, drain_timeout_s: float) -> None:
        """End a place's worker as `let_go` does, and leave the place empty until `refill`."""
        place.role = Role.LEAVING
        self._dispatcher.leave(place)
        await self._drain_and_stop(place, drain_timeout_s)

    def refill(self, place: Place, generation: Generation) -> None:
        """Let a place serve this generation again."""
        self.generation = generation
        successor = place.successor()
        successor.role = Role.SERVING
        self.places = sorted([*(p for p in self.places if p.id != place.id), successor], key=lambda p: p.id)
        self._start(successor)

    def restore(self, generation: Generation) -> None:
        """Serve an older generation again, first by those of its workers that still live."""
        self.generation = generation
        for place in self.places:
            self._dispatcher.leave(place)
            is_able = place.state in (WorkerState.READY, WorkerState.BUSY) and not place.silent
            if is_able and self.may_serve(place):
                self._dispatcher.join(place)
        self._announce()

    def start_over(self, generation: Generation) -> None:
        """Give up a generation that never served, and load this one in its stead."""
        old, self.places = self.places, []
        self.generation = generation
        for place in old:
            place.role = Role.LEAVING
            place.kill("a save came")
            self._others.append(place)
            self.forget_if_gone(place)
            successor = place.successor()
            successor.role = Role.SERVING
            self.places.append(successor)
            self._start(successor)

    def adopt(self, generation: Generation) -> None:
        """The living workers run this generation now (a swap)."""
        self.serve_generation(generation)

    def forget_imports(self) -> None:
        """Let the next worker come from a new zygote, for installed packages that have changed."""
        self._launcher.forget_imports()

    def hurry(self) -> None:
        """A save resets the back-off: workers that wait for their restart get it now."""
        for place in self.places:
            place.failures = 0
            place.hurry.set()

    async def _drain_and_stop(self, place: Place, drain_timeout_s: float) -> None:
        if place.state in (WorkerState.READY, WorkerState.BUSY):
            place.move(WorkerState.DRAINING)
        with suppress(TimeoutError):
            async with asyncio.timeout(drain_timeout_s or None):
                await self.until(lambda: place.is_idle)
        await self._stop_place(place, "it was replaced (--drain-timeout)")
        self.forget_if_gone(place)

    # --- restart

    def _decide_after_exit(self, place: Place, status: Exit, lost: int, *, was_loading: bool, retired: bool) -> None:
        if place.role is Role.SERVING:
            if not was_loading and not retired and self.on_death is not None and not _was_murder(place, status):
                self.on_death(place)
            delay_s = self._plan_restart(place, was_loading, retired)
            if was_loading and place.load_error is not None:
                self._news.tell_failed_load(place, place.load_error, delay_s)
            elif not retired:
                self._news.tell_death(place, status, lost, delay_s)
            return
        # What becomes of a candidate is the reload's matter, and an old worker was to end.
        place.move(WorkerState.BACKOFF)
        if place.role is Role.LEAVING:
            self._tasks.create_task(self._forget_later(place))

    async def _forget_later(self, place: Place) -> None:
        await asyncio.sleep(0)  # until the place has let go of its process
        self.forget_if_gone(place)

    def _start(self, place: Place) -> None:
        self._spawn(place, self.generation)

    def _spawn(self, place: Place, generation: Generation, *, hold: bool = False) -> None:
        self._loading.start(place.label)
        try:
            place.start(generation, hold=hold)
        except OSError as error:
            place.load_error = LoadError(f"{place.label} could not be started: {error.strerror}")
            if place.role is Role.SERVING:
                self._plan_restart(place, was_loading=True, retired=False)
            else:
                place.move(WorkerState.BACKOFF)
        self._announce()

    def _plan_restart(self, place: Place, was_loading: bool, retired: bool) -> float | None:
        """Seconds until it starts again; `None` if it waits for a save."""
        if was_loading and place.load_error is not None and place.load_error.by_exception and not self.proven:
            # The code would fail the same way again: only a change of it helps.
            place.move(WorkerState.FAILED)
            return None
        place.move(WorkerState.BACKOFF)
        if retired:
            delay_s = 0.0
        else:
            ready_s = 0.0 if was_loading else asyncio.get_running_loop().time() - place.ready_at
            worked = place.requests > place.requests_before and not was_loading
            place.failures = restart.failures_after(place.failures, worked=worked, ready_s=ready_s)
            delay_s = restart.restart_delay_s(place.failures)
        self._tasks.create_task(self._restart(place, delay_s))
        return delay_s

    async def _restart(self, place: Place, delay_s: float) -> None:
        place.hurry.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await place.hurry.wait()
        while not self._stopping and (trouble := await is_usable(place.device)) is not None:
            place.failures += 1
            place.load_error = LoadError(trouble)
            log.error("%s", trouble, extra={"event": "device_lost", "worker": place.id})
            self._announce()
            await asyncio.sleep(restart.restart_delay_s(place.failures))
        if not self._stopping and place.role is Role.SERVING and place.state is WorkerState.BACKOFF:
            place.restarts += 1
            self._start(place)

    def _retire(self, place: Place) -> None:
        self._dispatcher.leave(place)
        place.move(WorkerState.DRAINING)
        self._tasks.create_task(self._finish_retiring(place))

    async def _finish_retiring(self, place: Place) -> None:
        await self.until(lambda: place.is_idle or place.process is None)
        await self._stop_place(place, "it was unfit")

    async def _stop_place(self, place: Place, reason: str) -> None:
        if place.process is not None:
            if not place.is_idle:
                place.reason = place.reason or reason
            await self._launcher.stop_worker(place.process, place.label)

    # --- overdue answers

    def overdue(self, slot: Slot) -> None:
        """A slot's deadline has passed (the watchdog's report)."""
        for place in self.everyone():
            if slot in place.slots and place.process is not None:
                overdue = Overdue(place, place.process, slot, self._request_timeout_s)
                sources = place.generation.files if place.generation is not None else {}
                self._tasks.create_task(overdue.end(self._dispatcher.leave, sources))

    def _announce(self) -> None:
        """A state has changed: requests that wait in vain are told, and so is whoever watches."""
        if self._dispatcher.queue and (problem := self.outlook()) is not None:
            self._dispatcher.fail_queued(problem)
        self.changed.set()


def _was_murder(place: Place, status: Exit) -> bool:
    """Whether somebody else killed it: neither its own code, nor we, nor the kernel for memory."""
    return status.signal == signal.SIGKILL and not place.reason and not status.out_of_memory
