"""The daemon's numbers as Prometheus' metric families; names and units keep to its conventions."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from platform import python_version
from typing import Any

from prometheus_client import ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from predictord.supervisor.distribution import Distribution
from predictord.supervisor.past_reloads import PastReloads
from predictord.supervisor.states import ServiceState, WorkerState
from predictord.supervisor.tally import Tally

_DURATIONS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_BATCH_SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)
_RELOAD_KINDS = ("swap", "replace", "none", "failed")


@dataclass(frozen=True)
class Families(Collector):
    """What one scrape shows; `document` and `gpus` are what `/status` and `/events` say at the same moment."""

    document: dict[str, Any]
    gpus: Sequence[dict[str, Any]]
    tally: Tally
    batch_sizes: Mapping[int, int]
    past_reloads: PastReloads

    def collect(self) -> Iterator[Metric]:
        """All families."""
        yield from self._whole()
        yield from self._requests()
        yield from self._workers()
        yield from self._reloads()
        yield from self._gpus()
        yield from ProcessCollector(registry=None).collect()

    def _whole(self) -> Iterator[Metric]:
        document = self.document
        build = {"version": document["version"], "python_version": python_version()}
        yield InfoMetricFamily("predictord_build", "The versions that run.", value=build)
        states = {state.value: float(state == document["state"]) for state in ServiceState}
        yield _gauges("predictord_state", "1 for the state of the daemon, 0 for the others.", "state", states)
        yield GaugeMetricFamily("predictord_generation", "The generation that serves.", document["generation"])

    def _requests(self) -> Iterator[Metric]:
        tally, requests, queue = self.tally, self.document["requests"], self.document["queue"]
        ended = CounterMetricFamily(
            "predictord_requests",
            "Predictions that have ended, by HTTP status and problem code; 499 is a client that left.",
            labels=["code", "problem"],
        )
        for (status, problem), count in sorted(tally.requests().items()):
            ended.add_metric([str(status), problem], count)
        yield ended
        refusals = "Requests refused before they were predictions, by problem code."
        yield _counters("predictord_refusals", refusals, "problem", tally.refusals)
        yield GaugeMetricFamily(
            "predictord_requests_in_flight", "Predictions that workers hold.", requests["in_flight"]
        )
        yield GaugeMetricFamily("predictord_queue_depth", "Predictions that wait for a worker.", queue["depth"])
        yield GaugeMetricFamily("predictord_queue_limit", "Predictions that may wait (--max-queue).", queue["limit"])
        total = "From a request's last byte to the end of its answer."
        yield _durations("predictord_request_duration_seconds", total, tally.total_s)
        waited = "How long a prediction waited for a worker, of those that came to one."
        yield _durations("predictord_queue_duration_seconds", waited, tally.queue_s)
        ran = "How long the worker took for a prediction, or until a stream's first item."
        yield _durations("predictord_predict_duration_seconds", ran, tally.predict_ms, per_s=1e3)
        yield _batches(self.batch_sizes)

    def _workers(self) -> Iterator[Metric]:
        workers = self.document["workers"]
        states = Counter(worker["state"] for worker in workers)
        counts = {state.value: states[state.value] for state in WorkerState}
        yield _gauges("predictord_workers", "Workers by their state.", "state", counts)
        for family, name, key, text in (
            (_counters, "predictord_worker_requests", "requests", "Predictions that a worker had when they ended."),
            (_counters, "predictord_worker_restarts", "restarts", "Times that a worker was started again."),
            (_gauges, "predictord_worker_resident_memory_bytes", "rss_bytes", "Memory of a worker's process."),
            (_gauges, "predictord_worker_gpu_memory_bytes", "vram_bytes", "GPU memory of a worker's process."),
        ):
            values = {str(worker["id"]): worker[key] for worker in workers if worker[key] is not None}
            yield family(name, text, "worker", values)

    def _reloads(self) -> Iterator[Metric]:
        totals = {kind: self.past_reloads.totals.get(kind) for kind in _RELOAD_KINDS}
        counts = {kind: total.count if total is not None else 0 for kind, total in totals.items()}
        yield _counters(
            "predictord_reloads", "Reloads by what was done; failed ones are none of the others.", "kind", counts
        )
        durations = SummaryMetricFamily(
            "predictord_reload_duration_seconds", "From a reload's begin to its end, by kind.", labels=["kind"]
        )
        for kind, total in totals.items():
            durations.add_metric([kind], counts[kind], total.duration_s if total is not None else 0.0)
        yield durations

    def _gpus(self) -> Iterator[Metric]:
        for name, key, text in (
            ("predictord_gpu_memory_used_bytes", "used_bytes", "GPU memory in use, by whomever."),
            ("predictord_gpu_memory_size_bytes", "total_bytes", "GPU memory that there is."),
            ("predictord_gpu_utilization_ratio", "utilization", "Share of the last moments in which a kernel ran."),
        ):
            family = GaugeMetricFamily(name, text, labels=["gpu", "uuid"])
            for gpu in self.gpus:
                if gpu[key] is not None:
                    family.add_metric([str(gpu["index"]), gpu["uuid"]], gpu[key])
            yield family


def _gauges(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _counters(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _durations(name: str, text: str, distribution: Distribution, *, per_s: float = 1.0) -> Metric:
    counts = distribution.below([bound * per_s for bound in _DURATIONS_S])
    return _histogram(name, text, _DURATIONS_S, counts, distribution.count, distribution.sum / per_s)


def _batches(sizes: Mapping[int, int]) -> Metric:
    counts = [sum(count for size, count in sizes.items() if size <= bound) for bound in _BATCH_SIZES]
    total = sum(size * count for size, count in sizes.items())
    text = "Predictions that a worker was handed at once, of workers that take batches."
    return _histogram("predictord_batch_size", text, _BATCH_SIZES, counts, sum(sizes.values()), total)


def _histogram(
    name: str, text: str, bounds: Sequence[float], counts: Sequence[int], count: int, total: float
) -> Metric:
    buckets = [(str(bound), below) for bound, below in zip(bounds, counts, strict=True)]
    return HistogramMetricFamily(name, text, buckets=[*buckets, ("+Inf", count)], sum_value=total)
