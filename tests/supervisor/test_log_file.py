"""The log file of a detached daemon: rotation, its mode, a full disk."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from predictord.supervisor.log_file import LogFile


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_it_starts_anew_beyond_its_size_and_keeps_two_older_ones(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    log = LogFile(path, max_bytes=100)
    for number in range(40):
        log.write(f"line {number:04}\n")
    log.close()
    kept = [path.with_name("a.log.2"), path.with_name("a.log.1"), path]
    assert sorted(tmp_path.iterdir()) == sorted(kept)
    assert [line for file in kept for line in lines_of(file)] == [f"line {number:04}" for number in range(10, 40)]
    assert all(file.stat().st_size <= 110 for file in kept)


def test_a_later_daemon_goes_on_with_it(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    for number in range(3):
        log = LogFile(path, max_bytes=30)
        log.write(f"daemon {number:08}\n")
        log.close()
    assert lines_of(path) == ["daemon 00000002"]
    assert lines_of(path.with_name("a.log.1")) == ["daemon 00000000", "daemon 00000001"]


def test_it_is_ours_alone_even_if_it_was_not(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.touch()
    path.chmod(0o666)
    LogFile(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_link_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        LogFile(tmp_path / "a.log")
    assert not (tmp_path / "elsewhere").exists()


TAKES_OVER = """
import os, subprocess, sys
from pathlib import Path
from predictord.supervisor.log_file import LogFile
log = LogFile(Path(sys.argv[1]), max_bytes=20)
log.take_over()
print("before", flush=True)
log.write("x" * 30 + "\\n")
log.write("written\\n")
print("after", file=sys.stderr, flush=True)
subprocess.run(["echo", "of a child"], check=True)
log.close()
os.write(2, b"at the end\\n")
"""


def test_stdout_and_stderr_follow_it_when_it_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    result = subprocess.run([sys.executable, "-c", TAKES_OVER, str(path)], capture_output=True, timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
    assert lines_of(path.with_name("a.log.1")) == ["before", "x" * 30]
    assert lines_of(path) == ["written", "after", "of a child", "at the end"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_costs_lines_that_are_counted(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("this machine lets nobody mount")
    try:
        ballast = disk / "ballast"
        log = LogFile(disk / "a.log")
        log.write("first\n")
        ballast.write_bytes(bytes(60 << 10))
        for _ in range(3):
            log.write("x" * 8000 + "\n")
        ballast.unlink()
        log.write("last\n")
        log.close()
        shown = lines_of(disk / "a.log")
        assert shown[0] == "first"
        assert shown[-1] == "last"
        assert shown[-2].endswith("lines are missing here: the disk was full")
    finally:
        subprocess.run(["umount", str(disk)], check=True)
