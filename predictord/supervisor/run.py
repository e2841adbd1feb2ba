"""The supervisor: puts the parts together, runs them until told to stop, and takes them apart in order."""

import asyncio
import logging
import os
import resource
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import uvloop

from predictord.errors import ExitCode, StartError
from predictord.generation import Generation
from predictord.linux import become_subreaper
from predictord.log_files import LogFolder
from predictord.problem import Code, Problem
from predictord.runtime import RuntimeFolder
from predictord.settings import Settings
from predictord.snapshot import take_snapshot
from predictord.supervisor.access import AccessRules
from predictord.supervisor.alarm import LoopAlarm
from predictord.supervisor.console import LoadingDisplay, open_console
from predictord.supervisor.control_server import ControlServer, Handler
from predictord.supervisor.devices import Device, discover
from predictord.supervisor.dispatch import Dispatcher
from predictord.supervisor.editing import Editing
from predictord.supervisor.failure_log import FailureLog
from predictord.supervisor.fleet import Fleet
from predictord.supervisor.launcher import Launcher
from predictord.supervisor.listen import listen, urls
from predictord.supervisor.log_file import LogFile
from predictord.supervisor.log_tail import LogTail
from predictord.supervisor.proxy import Proxy
from predictord.supervisor.signals import Stop, StopSignals
from predictord.supervisor.watchdog import Watchdog
from predictord.wire import WorkerOptions

if TYPE_CHECKING:
    from predictord.supervisor.http_server import HttpServer

log = logging.getLogger("predictord")

_FLUSH_LIMIT_S = 1.0
"""How long clients may take for answers that are on their way when everything else has stopped."""
_GUARDIAN_LIMIT_S = 2.0
_OPEN_FILES = 65_536


def serve(
    settings: Settings, reread: Callable[[], Settings] | None = None, log_folder: LogFolder | None = None
) -> ExitCode:
    """Serve until stopped; blocks. Raises `SettingsError` and `StartError` before anything is loaded.

    `reread` reads the settings anew when a configuration file has changed. With a
    `log_folder` a file there is the console, and takes the place of stdout and stderr once
    the daemon is registered.
    """
    sockets = listen(settings.host, settings.port)
    log_file = None if log_folder is None else _open_log(log_folder, settings, sockets)
    log_path = None if log_file is None else log_file.path
    tail = LogTail()
    with open_console(settings.log_format, log_file or sys.stdout, tail) as loading:
        discovery = discover(settings.devices)
        for note in discovery.notes:
            log.info("%s", note, extra={"event": "devices"})
        generation = take_snapshot(settings.predictor_path, settings.class_name, settings.config)
        devices = [device for device in discovery.devices for _ in range(settings.workers_per_device)]
        _allow_many_files()
        become_subreaper()
        with (
            RuntimeFolder().register(str(settings.predictor_path), urls(sockets), log_path) as control_path,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            if log_file is not None:
                log_file.take_over()
            supervisor = Supervisor(settings, loading, tail, reread)
            return runner.run(supervisor.run(devices, generation, sockets, control_path))


class Supervisor:
    """One daemon's life."""

    def __init__(
        self,
        settings: Settings,
        loading: LoadingDisplay,
        tail: LogTail,
        reread: Callable[[], Settings] | None = None,
    ) -> None:
        self._settings = settings
        self._reread = reread
        self._tail = tail
        self._loading = loading

    async def run(
        self, devices: Sequence[Device], generation: Generation, sockets: list[socket.socket], control_path: Path
    ) -> ExitCode:
        """Start everything, wait for a reason to stop, and stop everything; returns what to exit with."""
        loop = asyncio.get_running_loop()
        self._signals = StopSignals(loop, on_hangup=lambda: self._editing.reload("SIGHUP"))
        launcher = Launcher(
            loop,
            uuid4().hex,
            os.environ,
            warm_start=self._settings.warm_start,
            startup_timeout_s=self._settings.startup_timeout_s,
        )
        self._build(loop, launcher, workers=len(devices))
        self._fleet.create(list(devices), {**generation.environment, **os.environ})
        try:
            async with asyncio.TaskGroup() as group:
                births = group.create_task(launcher.run())
                fleet = group.create_task(self._fleet.run(generation))
                control = group.create_task(ControlServer(self._make_handlers()).run(control_path))
                await asyncio.sleep(0)  # the workers load while the imports below take their time
                server = self._make_server(urls(sockets))
                events = group.create_task(self._events.run())
                serving = group.create_task(server.run_on(sockets))
                sweeping = group.create_task(self._proxy.run())
                editing = group.create_task(self._editing.run())
                notifying = group.create_task(self._notify())
                self._tell_start(generation, sockets)
                code = await self._until_stopped()
                self._loading.stop()
                code = await self._stop(server, code)
                for task in (events, notifying, editing, fleet, births, sweeping, control):
                    task.cancel()
                await asyncio.wait([serving], timeout=_FLUSH_LIMIT_S)
                serving.cancel()
        finally:
            launcher.close(_GUARDIAN_LIMIT_S)
            self._signals.ignore()
        self._failure_log.close()
        log.info("stopped", extra={"event": "stopped", "code": int(code)})
        return code

    def _build(self, loop: asyncio.AbstractEventLoop, launcher: Launcher, *, workers: int) -> None:
        settings = self._settings
        self._dispatcher = Dispatcher(
            max_queue=settings.max_queue,
            queue_timeout_s=settings.queue_timeout_s,
            clock=time.monotonic,
            outlook=lambda: self._fleet.outlook(),  # noqa: PLW0108 - the fleet is made below
        )
        self._fleet = Fleet(
            self._dispatcher,
            launcher,
            options=WorkerOptions(
                settings.concurrency,
                settings.max_batch_size,
                settings.batch_interval_s,
                swaps=settings.reload and settings.reload_mode == "auto",
                spins=len(os.sched_getaffinity(0)) > workers,
            ),
            startup_timeout_s=settings.startup_timeout_s,
            request_timeout_s=settings.request_timeout_s,
            loading=self._loading,
        )
        self._editing = Editing(settings, self._fleet, self._dispatcher, self._reread)
        self._dispatcher.on_empty = self._fleet.changed.set
        watchdog = Watchdog(time.monotonic, self._fleet.slots, self._fleet.overdue, settings.request_timeout_s)
        watchdog.alarm = LoopAlarm(loop, watchdog.tick)
        self._dispatcher.alarm = LoopAlarm(loop, self._dispatcher.tick)
        self._dispatcher.on_handed = watchdog.handed
        token = settings.token.get_secret_value() if settings.token is not None else None
        access = AccessRules(settings.allow_host, settings.allow_origin, token, settings.is_loopback)
        self._failure_log = FailureLog(loop)
        self._proxy = Proxy(
            access=access,
            dispatcher=self._dispatcher,
            max_body_bytes=settings.max_body_bytes,
            debug=settings.debug,
            failure_log=self._failure_log,
        )

    def _make_server(self, where: list[str]) -> "HttpServer":
        from predictord.supervisor.app import build_app
        from predictord.supervisor.details import Details
        from predictord.supervisor.events import Events
        from predictord.supervisor.http_server import HttpServer
        from predictord.supervisor.memory import GpuMemory
        from predictord.supervisor.metrics import Metrics
        from predictord.supervisor.status import Status

        has_gpus = any(place.device.kind == "gpu" for place in self._fleet.places)
        gpu_memory = GpuMemory(has_gpus=has_gpus)
        fleet, proxy, reloader = self._fleet, self._proxy, self._editing.reloader
        status = Status(fleet, self._dispatcher, proxy, reloader, gpu_memory, queue_limit=self._settings.max_queue)
        self._details = Details(status, fleet, proxy, reloader, gpu_memory, where)
        self._events = Events(self._details)
        metrics = Metrics(status, fleet, self._dispatcher, proxy, reloader, gpu_memory)
        has_token = self._settings.token is not None
        app = build_app(status, self._events, metrics, has_token=has_token, debug=self._settings.debug)
        return HttpServer(app, proxy)

    async def _notify(self) -> None:
        if "NOTIFY_SOCKET" in os.environ:
            from predictord.supervisor.notify import ServiceNotifier

            await ServiceNotifier(os.environ, self._fleet, self._dispatcher, self._editing.reloader).run()

    def _make_handlers(self) -> dict[str, Handler]:
        """What verbs may ask of this daemon."""
        return {
            "logs": self._tail.by_verb,
            "ready": self._ready_by_verb,
            "status": self._status_by_verb,
            "stop": self._stop_by_verb,
            "reload": self._editing.reload_by_verb,
        }

    async def _status_by_verb(self, _request: dict[str, Any]) -> dict[str, Any]:
        return await self._details.document()

    async def _stop_by_verb(self, _request: dict[str, Any]) -> dict[str, Any]:
        self._signals.ask_to_stop()
        return {"drain_timeout_s": self._settings.drain_timeout_s}

    async def _ready_by_verb(self, _request: dict[str, Any]) -> dict[str, Any]:
        """Wait until a worker can answer, or none is going to; says why."""
        fleet = self._fleet
        await fleet.until(lambda: fleet.unready() is None or fleet.outlook() is not None)
        problem = fleet.unready()
        return {"detail": problem and problem.detail, "traceback": problem and problem.traceback}

    def _tell_start(self, generation: Generation, sockets: list[socket.socket]) -> None:
        places, where = self._fleet.places, urls(sockets)
        log.info(
            "serving %s on %s",
            generation.path,
            where[0],
            extra={"event": "serving", "urls": where, "predictor": generation.path},
        )
        log.info(
            "loading %d worker%s on %s",
            len(places),
            "s" if len(places) > 1 else "",
            ", ".join(dict.fromkeys(place.device.title for place in places)),
            extra={"event": "loading", "workers": len(places)},
        )
        if not self._settings.is_loopback:
            log.warning(
                "other machines can connect; they need the token, and nothing here is encrypted",
                extra={"event": "exposed"},
            )

    async def _until_stopped(self) -> ExitCode:
        """Wait for a signal, or with `--no-reload` for a first load that fails."""
        waits_for_save = False
        while True:
            if self._signals.first is not None:
                return self._signals.first.clean
            if self._fleet.cannot_load and not waits_for_save:
                if not self._settings.reload:
                    log.error("no worker could load the predictor: stopping (--no-reload)", extra={"event": "ended"})
                    return ExitCode.CANNOT_START
                waits_for_save = True
                log.warning(
                    "no worker could load the predictor: requests get a 503 until you save one that loads",
                    extra={"event": "waiting_for_save"},
                )
            await _either(self._signals.changed, self._fleet.changed)

    async def _stop(self, server: "HttpServer", code: ExitCode) -> ExitCode:
        """Drain, stop the workers, let answers flow out, close; a second signal cuts all of it short."""
        if code is not ExitCode.CANNOT_START:
            self._tell_stop()
        self._dispatcher.drain()
        self._fleet.changed.set()
        async with asyncio.TaskGroup() as group:
            ending = group.create_task(self._end_in_order(server))
            while not ending.done():
                if self._signals.second is not None:
                    ending.cancel()
                    self._fleet.kill_all()
                    self._proxy.close_doors(abort=True)
                    server.force_exit = True
                    server.close()
                    return self._signals.second.forced
                await _either(self._signals.changed, done=ending)
        return code

    def _tell_stop(self) -> None:
        count, limit_s = self._fleet.in_hand + self._dispatcher.depth, self._settings.drain_timeout_s
        wait = f": finishing {count:,} request{'s' if count > 1 else ''}" if count else ""
        limit = f", for {limit_s:g} s at most" if count and limit_s else ""
        way_out = "; Ctrl-C again ends it at once" if count and self._signals.first is Stop.INTERRUPTED else ""
        log.info("stopping%s%s%s", wait, limit, way_out, extra={"event": "draining", "requests": count})

    async def _end_in_order(self, server: "HttpServer") -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.drain_timeout_s or None):
                await self._fleet.until(lambda: not self._dispatcher.queue and self._fleet.is_idle)
        unserved = Problem(Code.DRAINING, "the service stopped before a worker was free")
        self._dispatcher.fail_queued(unserved)
        await self._fleet.stop()
        self._dispatcher.fail_queued(unserved)  # what a worker had not read when it was stopped
        server.close()
        self._events.close()
        self._proxy.close_doors()
        with suppress(TimeoutError):
            async with asyncio.timeout(_FLUSH_LIMIT_S):
                await self._proxy.quiet.wait()
        self._proxy.close_doors(abort=True)


def _open_log(folder: LogFolder, settings: Settings, sockets: list[socket.socket]) -> LogFile:
    path = folder.log_for(settings.predictor_path, sockets[0].getsockname()[1])
    try:
        return LogFile(path)
    except OSError as error:
        raise StartError(f"cannot write the log {path}: {error.strerror}") from error


async def _either(*events: asyncio.Event, done: "asyncio.Task[None] | None" = None) -> None:
    """Wait until one of the events is set, or the task is done; clears the events."""
    waits: list[asyncio.Task[object]] = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait([*waits, *([done] if done else [])], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    for event in events:
        event.clear()


def _allow_many_files() -> None:
    """A connection is a file; raise the soft limit as far as it may go."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
