"""What all tests share: orphans come to us, and a failed test shows its daemon's log."""

import signal
from collections.abc import Generator

import pytest

from predictord.linux import become_subreaper
from tests.daemon import Daemon

# A shell starts what it runs in the background with Ctrl-C ignored, and what tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _subreaper() -> None:
    become_subreaper()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        report.sections += [(f"log of daemon {daemon.pid}", "\n".join(daemon.log[-200:])) for daemon in Daemon.open]
    return report
