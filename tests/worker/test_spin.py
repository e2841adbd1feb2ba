from collections.abc import Callable
from itertools import count

from predictord.worker.spin import LOOK_EVERY, REST, SPIN_S, Spin


class Socket:
    """Counts how it is polled; something is there after so many looks."""

    def __init__(self, looks: int | None) -> None:
        self.looks = looks
        self.looked = 0
        self.slept = 0

    def poll(self, timeout_ms: int | None) -> list[int]:
        if timeout_ms is None:
            self.slept += 1
            return [1]
        self.looked += 1
        return [1] if self.looks is not None and self.looked % self.looks == 0 else []


def clock() -> Callable[[], float]:
    """Ten looks take as long as a worker waits awake."""
    return (number * SPIN_S / 10 for number in count()).__next__


def test_what_comes_soon_is_found_awake() -> None:
    socket = Socket(looks=3)
    spin = Spin(socket.poll, cores=lambda: 2, clock=clock())
    for _ in range(10):
        spin.wait()
    assert (socket.looked, socket.slept) == (30, 0)


def test_after_a_wait_in_vain_the_next_ones_sleep_at_once() -> None:
    socket = Socket(looks=None)
    spin = Spin(socket.poll, cores=lambda: 2, clock=clock())
    spin.wait()
    looked = socket.looked
    assert looked and socket.slept == 1
    for _ in range(REST):
        spin.wait()
    assert (socket.looked, socket.slept) == (looked, 1 + REST)
    spin.wait()
    assert socket.looked > looked


def test_who_shares_its_only_core_sleeps() -> None:
    socket, cores = Socket(looks=1), [2]
    spin = Spin(socket.poll, cores=lambda: cores[0], clock=clock())
    spin.wait()
    cores[0] = 1
    for _ in range(2 * LOOK_EVERY):
        spin.wait()
    assert (socket.looked, socket.slept) == (LOOK_EVERY, LOOK_EVERY + 1)
    cores[0] = 2
    spin.wait()
    assert socket.looked == LOOK_EVERY + 1
