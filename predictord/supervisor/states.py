"""The states of a worker, and which may follow which.

starting ──► ready ◄──► busy        busy: at least one request in hand
   │           │          │
   │           └──► draining ◄──────┘   takes nothing new, finishes what it holds
   ▼                   ▼
backoff / failed ◄─────┘            backoff: starts again by itself after a delay
                                    failed: starts again when the code changes
"""

from enum import StrEnum


class WorkerState(StrEnum):
    """What `/status` says of a worker."""

    STARTING = "starting"
    READY = "ready"
    BUSY = "busy"
    DRAINING = "draining"
    BACKOFF = "backoff"
    FAILED = "failed"


class ServiceState(StrEnum):
    """What `/status` says of the whole; the first that fits, in this order."""

    DRAINING = "draining"
    FAILED = "failed"
    RELOADING = "reloading"
    STARTING = "starting"
    DEGRADED = "degraded"
    READY = "ready"


MOVES: dict[WorkerState, frozenset[WorkerState]] = {
    WorkerState.STARTING: frozenset({WorkerState.READY, WorkerState.DRAINING, WorkerState.BACKOFF, WorkerState.FAILED}),
    WorkerState.READY: frozenset({WorkerState.DRAINING, WorkerState.BACKOFF}),
    WorkerState.DRAINING: frozenset({WorkerState.STARTING, WorkerState.BACKOFF}),
    WorkerState.BACKOFF: frozenset({WorkerState.STARTING}),
    WorkerState.FAILED: frozenset({WorkerState.STARTING}),
}
"""Allowed moves of the stored state; `busy` is `ready` with something in hand."""


def service_state(workers: list[WorkerState], *, draining: bool, reloading: bool, can_wait: bool) -> ServiceState:
    """The state of the whole from its workers'; `can_wait` is false when requests are refused at once."""
    able = [state in (WorkerState.READY, WorkerState.BUSY) for state in workers]
    if draining:
        return ServiceState.DRAINING
    if not any(able) and not can_wait:
        return ServiceState.FAILED
    if reloading:
        return ServiceState.RELOADING
    if not any(able):
        return ServiceState.STARTING
    return ServiceState.READY if all(able) else ServiceState.DEGRADED
