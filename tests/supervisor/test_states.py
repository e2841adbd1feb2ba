import pytest

from predictord.supervisor.states import MOVES, ServiceState, WorkerState, service_state

STARTING, READY, BUSY, DRAINING, BACKOFF, FAILED = WorkerState


@pytest.mark.parametrize(
    ("workers", "draining", "can_wait", "state"),
    [
        ([READY], False, True, ServiceState.READY),
        ([READY, BUSY], False, True, ServiceState.READY),
        ([BUSY, STARTING], False, True, ServiceState.DEGRADED),
        ([READY, BACKOFF], False, True, ServiceState.DEGRADED),
        ([READY, FAILED], False, True, ServiceState.DEGRADED),
        ([READY, DRAINING], False, True, ServiceState.DEGRADED),
        ([STARTING, STARTING], False, True, ServiceState.STARTING),
        ([BACKOFF], False, True, ServiceState.STARTING),
        ([BACKOFF], False, False, ServiceState.FAILED),
        ([FAILED, FAILED], False, False, ServiceState.FAILED),
        ([FAILED, STARTING], False, True, ServiceState.STARTING),
        ([READY], True, True, ServiceState.DRAINING),
        ([FAILED], True, False, ServiceState.DRAINING),
    ],
)
def test_state_of_the_whole(workers: list[WorkerState], draining: bool, can_wait: bool, state: ServiceState) -> None:
    assert service_state(workers, draining=draining, can_wait=can_wait) is state


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
