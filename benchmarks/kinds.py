"""The kinds of benchmark: what is served, what is done to it, and what the numbers mean."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from benchmarks import processes, reloads, streams, wrk
from benchmarks.connection import Connection, post
from benchmarks.server import Server

MIB = 1 << 20


class Metric(NamedTuple):
    """One row of the results."""

    key: str
    label: str
    unit: str
    more_is_better: bool = False


class Effort(NamedTuple):
    """How long each measurement takes."""

    duration_s: float
    requests: int


Measured = dict[str, float]


@dataclass(frozen=True)
class Kind:
    """One start of each server; `measure` gives a number for each of the metrics, or leaves out what does not apply."""

    name: str
    title: str
    app: str
    metrics: tuple[Metric, ...]
    measure: Callable[[Server, Effort], Measured]
    workers: int = 1
    flags: tuple[str, ...] = ()
    """Those that `predictord serve` gets."""


def measure_start(server: Server, effort: Effort) -> Measured:
    time.sleep(1)  # what a server does after its first answer is over then
    return {"start": server.start_s * 1e3, "memory": processes.pss_mib(server.pids())}


def measure_echo(server: Server, effort: Effort) -> Measured:
    pids, cores = server.pids(), sorted(os.sched_getaffinity(0))
    with Connection(server.port) as connection:
        connection.latency(server.request, effort.requests // 5 + 1)
        with processes.pinned(pids, cores[-1], cores[-1]):
            latency = connection.latency(server.request, effort.requests)
    with processes.pinned(pids, cores[-1], cores[0]):
        one_core = wrk.load(server, 16, effort.duration_s)
    sixteen = wrk.load(server, 16, effort.duration_s)
    sixty_four = wrk.load(server, 64, effort.duration_s)
    return {
        "p50": latency.p50_ms,
        "p99": latency.p99_ms,
        "one_core": one_core.requests_per_s,
        "cpu": one_core.server_cpu_us,
        "c16": sixteen.requests_per_s,
        "c64": sixty_four.requests_per_s,
        "c64_p99": sixty_four.p99_ms,
    }


def measure_sixteen_clients(server: Server, effort: Effort) -> Measured:
    return {"c16": wrk.load(server, 16, effort.duration_s).requests_per_s}


def measure_batch(server: Server, effort: Effort) -> Measured:
    load = wrk.load(server, 64, effort.duration_s)
    return {"c64": load.requests_per_s, "p99": load.p99_ms}


def measure_async(server: Server, effort: Effort) -> Measured:
    load = wrk.load(server, 200, effort.duration_s)
    return {"c200": load.requests_per_s, "p99": load.p99_ms}


def measure_many_workers(server: Server, effort: Effort) -> Measured:
    load = wrk.load(server, 64, effort.duration_s)
    measured = {"c64": load.requests_per_s}
    if server.name == "predictord":
        measured["carries"] = 1e6 / load.supervisor_cpu_us
    return measured


def measure_streams(server: Server, effort: Effort) -> Measured:
    streams.load(server, 1, 0)
    alone = streams.load(server, 1, effort.duration_s / 3)
    together = streams.load(server, 16, effort.duration_s)
    return {
        "first_alone": alone.first_token_ms,
        "tokens": together.tokens_per_s,
        "first": together.first_token_ms,
    }


def measure_bodies(server: Server, effort: Effort) -> Measured:
    measured = {}
    with Connection(server.port) as connection:
        for mib in (1, 10):
            request = post(server.port, bytes(mib * MIB), "application/octet-stream")
            connection.latency(request, 3)
            measured[f"mib{mib}"] = connection.latency(request, 10 + effort.requests // (20 * mib)).p50_ms
        pids = server.pids()
        for pid in pids:
            processes.forget_peak(pid)
        idle = {pid: processes.rss_mib(pid) for pid in pids}
        connection.latency(post(server.port, bytes(100 * MIB), "application/octet-stream"), 1)
        measured["mib100_peak"] = max(processes.peak_mib(pid) - idle[pid] for pid in pids)
    return measured


def measure_reloads(server: Server, effort: Effort) -> Measured:
    return {
        "swap": reloads.time_reloads(server, "predicted", '"predicted": ', 5),
        "replace": reloads.time_reloads(server, "loaded", "self.loaded = ", 3),
    }


_C16 = Metric("c16", "16 clients", "requests/s", more_is_better=True)
_C64 = Metric("c64", "64 clients", "requests/s", more_is_better=True)
_STREAM = (
    Metric("tokens", "16 clients", "tokens/s", more_is_better=True),
    Metric("first", "16 clients, time to the first token", "ms"),
    Metric("first_alone", "1 client, time to the first token", "ms"),
)

KINDS = (
    Kind(
        "start",
        "start, with an echo",
        "Echo",
        (
            Metric("start", "start to the first answer", "ms"),
            Metric("memory", "memory of all processes (PSS)", "MiB"),
        ),
        measure_start,
    ),
    Kind(
        "echo",
        "echo",
        "Echo",
        (
            Metric("one_core", "16 clients, the whole server on one core", "requests/s", more_is_better=True),
            Metric("cpu", "CPU of all processes, a request", "µs"),
            Metric("p50", "one after another on one core, median", "ms"),
            Metric("p99", "one after another on one core, 99th percentile", "ms"),
            _C16,
            _C64,
            Metric("c64_p99", "64 clients, 99th percentile", "ms"),
        ),
        measure_echo,
    ),
    Kind("echo-2", "echo, 2 workers", "Echo", (_C16,), measure_sixteen_clients, workers=2),
    Kind(
        "echo-8",
        "echo, 8 workers",
        "Echo",
        (_C64, Metric("carries", "what a core of the supervisor can carry", "requests/s", more_is_better=True)),
        measure_many_workers,
        workers=8,
    ),
    Kind("sleep", "10 ms of sleep", "Sleep", (_C16,), measure_sixteen_clients),
    Kind("sleep-2", "10 ms of sleep, 2 workers", "Sleep", (_C16,), measure_sixteen_clients, workers=2),
    Kind(
        "batch",
        "batches of up to 16, 10 ms each",
        "Batch",
        (_C64, Metric("p99", "64 clients, 99th percentile", "ms")),
        measure_batch,
    ),
    Kind(
        "async",
        "10 ms of `asyncio.sleep`",
        "Async",
        (
            Metric("c200", "200 clients", "requests/s", more_is_better=True),
            Metric("p99", "200 clients, 99th percentile", "ms"),
        ),
        measure_async,
        flags=("--concurrency", "256"),
    ),
    Kind("stream", "streams of 1,000 tokens", "Stream", _STREAM, measure_streams),
    Kind(
        "stream-16",
        "streams of 1,000 tokens, 16 at once",
        "Stream",
        _STREAM,
        measure_streams,
        flags=("--concurrency", "16"),
    ),
    Kind(
        "bodies",
        "bodies, in and out again",
        "Raw",
        (
            Metric("mib1", "1 MiB", "ms"),
            Metric("mib10", "10 MiB", "ms"),
            Metric("mib100_peak", "100 MiB: most memory that one process takes more", "MiB"),
        ),
        measure_bodies,
    ),
    Kind(
        "reload",
        "from a save to the first new answer",
        "Versioned",
        (Metric("swap", "`predict` changed", "ms"), Metric("replace", "`__init__` changed", "ms")),
        measure_reloads,
    ),
)
