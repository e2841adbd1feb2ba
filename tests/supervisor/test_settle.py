"""Whether somebody is still writing a file."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from predictord.supervisor.settle import patience_s


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "predictor.py"
    path.write_text("saved")
    return path


def test_a_closed_file_is_settled_at_once(path: Path) -> None:
    assert patience_s(str(path)) == 0
    with path.open():
        assert patience_s(str(path)) == 0


@pytest.mark.parametrize("mode", ["w", "a", "r+"])
def test_a_file_open_for_writing_waits(mode: str, path: Path) -> None:
    with path.open(mode):
        assert patience_s(str(path)) == 5
    assert patience_s(str(path)) == 0


def test_a_link_is_as_settled_as_its_target(path: Path) -> None:
    link = path.with_name("link.py")
    link.symlink_to(path)
    with path.open("a"):
        assert patience_s(str(link)) == 5


def test_what_knows_no_lease_has_to_stay_the_same_for_a_while(path: Path) -> None:
    os.mkfifo(path.with_name("pipe"))
    for other in (path.with_name("gone"), path.parent, path.with_name("pipe")):
        assert patience_s(str(other)) == 0.3, other


@pytest.mark.parametrize("number", [errno.EACCES, errno.EINVAL], ids=["not the owner", "no leases"])
def test_refusals_that_say_nothing_of_writers(number: int, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    assert patience_s(str(path)) == 0.3


def test_a_writer_that_meets_the_lease_does_not_end_us(path: Path) -> None:
    # Hammers the file with writers, so that some of them come while the lease is held.
    writer = f"for _ in range(20000): open({str(path)!r}, 'a').close()"
    asker = f"""
import subprocess, sys
from predictord.supervisor.settle import patience_s
writer = subprocess.Popen([sys.executable, '-c', {writer!r}])
seen = set()
while writer.poll() is None:
    seen.add(patience_s({str(path)!r}))
sys.exit(writer.returncode or seen != {{0.0, 5.0}})
"""
    subprocess.run([sys.executable, "-c", asker], check=True, timeout=60)
