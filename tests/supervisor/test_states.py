import pytest

from predictord.supervisor.states import MOVES, ServiceState, WorkerState, service_state

STARTING, READY, BUSY, DRAINING, BACKOFF, FAILED = WorkerState


@pytest.mark.parametrize(
    ("workers", "can_wait", "state"),
    [
        ([READY], True, ServiceState.READY),
        ([READY, BUSY], True, ServiceState.READY),
        ([BUSY, STARTING], True, ServiceState.DEGRADED),
        ([READY, BACKOFF], True, ServiceState.DEGRADED),
        ([READY, FAILED], True, ServiceState.DEGRADED),
        ([READY, DRAINING], True, ServiceState.DEGRADED),
        ([STARTING, STARTING], True, ServiceState.STARTING),
        ([BACKOFF], True, ServiceState.STARTING),
        ([BACKOFF], False, ServiceState.FAILED),
        ([FAILED, FAILED], False, ServiceState.FAILED),
        ([FAILED, STARTING], True, ServiceState.STARTING),
    ],
)
def test_state_of_the_whole(workers: list[WorkerState], can_wait: bool, state: ServiceState) -> None:
    reloading = state if state is ServiceState.FAILED else ServiceState.RELOADING
    assert service_state(workers, draining=False, reloading=False, can_wait=can_wait) is state
    assert service_state(workers, draining=False, reloading=True, can_wait=can_wait) is reloading
    assert service_state(workers, draining=True, reloading=True, can_wait=can_wait) is ServiceState.DRAINING


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
