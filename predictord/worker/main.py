"""A worker process from its birth to its end: tie its life to the supervisor's, load, say ready, serve."""

import faulthandler
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import FrameType
from typing import TYPE_CHECKING

from predictord.errors import PredictorError
from predictord.linux import become_subreaper, die_with_parent, volunteer_for_oom
from predictord.wire import STACK_SIGNAL, Build, Checked, Hello, Load, LoadFailed
from predictord.worker.channel import Channel, close_in_forked_children
from predictord.worker.control import Control
from predictord.worker.known_messages import KnownMessages
from predictord.worker.loader import Loader
from predictord.worker.loading import load_predictor, looks_async
from predictord.worker.outcome import Stopping
from predictord.worker.predictor import LoadedPredictor
from predictord.worker.sync_server import SyncServer

if TYPE_CHECKING:
    from predictord.worker.ran import Ran
    from predictord.worker.swapping import Swapping


def main() -> None:
    """Run as `python -m predictord.worker CONTROL_FD STACKS_FD SUPERVISOR_PID`."""
    control_fd, stacks_fd, supervisor_pid = map(int, sys.argv[1:4])
    die_with_parent(supervisor_pid)
    serve_worker(control_fd, stacks_fd)


def serve_worker(control_fd: int, stacks_fd: int) -> None:
    """A worker's life once it is the supervisor's child, exec'd or forked by a zygote; returns at its end."""
    become_subreaper()
    volunteer_for_oom()
    _watch_signals(stacks_fd)
    # A pipe makes stdout block-buffered, and what the predictor prints belongs on the console now.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    control = Control(socket.socket(fileno=control_fd))
    control.socket.set_inheritable(False)
    try:
        control.send(Hello(os.getpid()))
        load = control.receive(Load)
        _Worker(control, load).run()
    except (Stopping, EOFError):
        pass


class _Worker:
    """One load and what serves it."""

    def __init__(self, control: Control, load: Load) -> None:
        self._control = control
        self._generation = load.generation
        self._options = load.options
        self._loader = Loader(load.generation)
        self._hold = load.hold
        self._ran: Ran | None = None

    def run(self) -> None:
        """Load, then serve until the supervisor closes the data sockets."""
        predictor = self._run_on_loop() if looks_async(self._generation) else self._load()
        if predictor is None:
            return
        if predictor.contract.is_async:
            self._on_loop(lambda: self._serve_async(predictor))
        else:
            self._serve_sync(predictor)

    def _run_on_loop(self) -> LoadedPredictor | None:
        """Load with the loop running and serve on it; returns a predictor that turned out to be sync."""
        loaded: LoadedPredictor | None = None

        async def load_and_serve() -> None:
            nonlocal loaded
            loaded = self._load()
            if loaded is not None and loaded.contract.is_async:
                predictor, loaded = loaded, None
                await self._serve_async(predictor)

        self._on_loop(load_and_serve)
        return loaded

    def _on_loop(self, work: Callable[[], object]) -> None:
        import asyncio  # here, since a sync worker needs neither and starts sooner without

        import uvloop

        async def until_stopped() -> None:
            loop = asyncio.get_running_loop()
            task = asyncio.current_task()
            assert task is not None
            loop.add_signal_handler(signal.SIGTERM, task.cancel)
            try:
                await work()  # type: ignore[misc]
            except asyncio.CancelledError:
                if not task.cancelling():
                    raise
            finally:
                loop.remove_signal_handler(signal.SIGTERM)
                signal.signal(signal.SIGTERM, _stop)

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(until_stopped())

    def _load(self) -> LoadedPredictor | None:
        """The predictor, or `None` after the supervisor was told why there is none."""
        try:
            with self._recording():
                return load_predictor(self._loader, self._generation, self._options, self._wait_if_held)
        except PredictorError as error:
            self._control.send(LoadFailed(str(error), error.traceback))
        return None

    def _recording(self) -> AbstractContextManager[object]:
        if not self._options.swaps:
            return nullcontext()
        from predictord.worker.ran import Ran  # here, since without swaps nobody needs the planner

        self._ran = Ran(self._generation)
        return self._ran

    def _wait_if_held(self) -> None:
        if self._hold:
            self._control.send(Checked())
            self._control.receive(Build)

    def _swapping(self, predictor: LoadedPredictor) -> "Swapping | None":
        if self._ran is None:
            return None
        from predictord.worker.swapping import Swapping

        return Swapping(predictor, self._loader, self._options, self._ran)

    def _say_ready(self, predictor: LoadedPredictor, threads: list[int], far_ends: list[socket.socket]) -> None:
        self._control.send(predictor.ready(threads=threads, late_files=self._loader.late_files))
        self._control.hand_over(far_ends)

    def _serve_sync(self, predictor: LoadedPredictor) -> None:
        pairs = [socket.socketpair() for _ in range(predictor.contract.concurrency)]
        close_in_forked_children(self._control.socket, *(near for near, _ in pairs))
        swapping = self._swapping(predictor)
        known = KnownMessages()
        spins = self._options.spins and len(pairs) == 1  # several threads would keep each other from running
        servers = [SyncServer(predictor, Channel(near, known, spins=spins), swapping) for near, _ in pairs]
        far_ends = [far for _, far in pairs]
        if len(servers) == 1:
            self._say_ready(predictor, [threading.get_ident()], far_ends)
            servers[0].run()
            return
        # Daemon threads: one that hangs in user code must not keep a stopping process alive.
        threads = [threading.Thread(target=_run_or_die, args=(server,), daemon=True) for server in servers]
        for thread in threads:
            thread.start()
        self._say_ready(predictor, [thread.ident or 0 for thread in threads], far_ends)
        for thread in threads:
            thread.join()

    async def _serve_async(self, predictor: LoadedPredictor) -> None:
        from predictord.worker.async_server import serve

        pairs = [socket.socketpair() for _ in range(predictor.contract.concurrency)]
        close_in_forked_children(self._control.socket, *(near for near, _ in pairs))
        self._say_ready(predictor, [threading.get_ident()] * len(pairs), [far for _, far in pairs])
        await serve(predictor, [near for near, _ in pairs], self._swapping(predictor))


def _run_or_die(server: SyncServer) -> None:
    """A thread that ends by an error of ours would leave its request unanswered: better the whole process."""
    try:
        server.run()
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def _watch_signals(stacks_fd: int) -> None:
    os.set_inheritable(stacks_fd, False)
    faulthandler.enable(stacks_fd)
    faulthandler.register(STACK_SIGNAL, stacks_fd, all_threads=True, chain=False)
    # A handler, not SIG_IGN, which programs that the predictor starts would inherit.
    signal.signal(signal.SIGINT, lambda number, frame: None)
    signal.signal(signal.SIGTERM, _stop)


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopping
