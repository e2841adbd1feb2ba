"""What the kernel tells of folders, as paths."""

import errno
import os
import resource
import select
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from predictord.supervisor.folder_events import FolderEvents


@contextmanager
def watched(*folders: Path) -> Iterator[FolderEvents]:
    events = FolderEvents(map(str, folders))
    try:
        yield events
    finally:
        events.close()


def seen(events: FolderEvents) -> set[Path]:
    """The paths of all events so far; the kernel tells them before the call that makes them returns."""
    found: set[Path] = set()
    while select.select([events], [], [], 0)[0]:
        found.update(map(Path, events.read()))
    return found


def test_each_way_to_change_an_entry_is_told(tmp_path: Path) -> None:
    path, other = tmp_path / "ä b.py", tmp_path / "other"
    with watched(tmp_path) as events:
        assert seen(events) == set()
        path.write_text("a")
        assert seen(events) == {path}
        path.rename(other)
        assert seen(events) == {path, other}
        other.replace(path)
        assert seen(events) == {path, other}
        path.chmod(0o600)
        assert seen(events) == {path}
        path.unlink()
        assert seen(events) == {path}
        path.symlink_to("nowhere")
        assert seen(events) == {path}


def test_a_write_is_told_when_its_writer_lets_go(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text("a")
    with watched(tmp_path) as events:
        with path.open("w") as file:
            file.write("b")
            file.flush()
            assert seen(events) == set()
        assert seen(events) == {path}


def test_reading_is_no_event(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("a")
    with watched(tmp_path) as events:
        (tmp_path / "a.py").read_text()
        os.listdir(tmp_path)
        assert seen(events) == set()
        assert events.read() == []


def test_a_folder_that_goes_away_is_told_itself(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    with watched(first, second, tmp_path / "missing", Path(__file__)) as events:
        first.rename(tmp_path / "third")
        assert seen(events) == {first}
        second.rmdir()
        assert seen(events) == {second}


def test_when_events_were_lost_all_folders_are_told(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    with watched(first, second) as events:
        one, other = first / "a", first / "b"
        one.touch()
        for _ in range(most // 2 + 1):
            one.rename(other)
            other.rename(one)
        assert {first, second} <= seen(events)


def test_it_says_when_the_kernel_watches_no_more(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        with pytest.raises(OSError) as raised:
            FolderEvents([str(tmp_path)])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert raised.value.errno == errno.EMFILE
