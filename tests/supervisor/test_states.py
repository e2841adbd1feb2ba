import pytest

from predictord.supervisor.states import MOVES, ServiceState, WorkerState, service_state

STARTING, READY, BUSY, DRAINING, BACKOFF, FAILED = WorkerState


@pytest.mark.parametrize(
    ("workers", "draining", "reloading", "can_wait", "state"),
    [
        ([READY], False, False, True, ServiceState.READY),
        ([READY, BUSY], False, False, True, ServiceState.READY),
        ([BUSY, STARTING], False, False, True, ServiceState.DEGRADED),
        ([READY, BACKOFF], False, False, True, ServiceState.DEGRADED),
        ([READY, FAILED], False, False, True, ServiceState.DEGRADED),
        ([READY, DRAINING], False, False, True, ServiceState.DEGRADED),
        ([STARTING, STARTING], False, False, True, ServiceState.STARTING),
        ([BACKOFF], False, False, True, ServiceState.STARTING),
        ([BACKOFF], False, False, False, ServiceState.FAILED),
        ([FAILED, FAILED], False, False, False, ServiceState.FAILED),
        ([FAILED, STARTING], False, False, True, ServiceState.STARTING),
        ([READY], True, False, True, ServiceState.DRAINING),
        ([FAILED], True, False, False, ServiceState.DRAINING),
        ([READY], False, True, True, ServiceState.RELOADING),
        ([READY], True, True, True, ServiceState.DRAINING),
        ([FAILED], False, True, False, ServiceState.FAILED),
        ([STARTING], False, True, True, ServiceState.RELOADING),
    ],
)
def test_state_of_the_whole(
    workers: list[WorkerState], draining: bool, reloading: bool, can_wait: bool, state: ServiceState
) -> None:
    assert service_state(workers, draining=draining, reloading=reloading, can_wait=can_wait) is state


def test_moves() -> None:
    assert {(before.value, after.value) for before, moves in MOVES.items() for after in moves} == {
        ("starting", "ready"),
        ("starting", "draining"),
        ("starting", "backoff"),
        ("starting", "failed"),
        ("ready", "draining"),
        ("ready", "backoff"),
        ("draining", "starting"),
        ("draining", "backoff"),
        ("backoff", "starting"),
        ("failed", "starting"),
    }
