"""Where logs are, and which is whose."""

import os
from pathlib import Path

import pytest

from predictord.errors import StartError
from predictord.log_files import LogFolder, last_lines


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"XDG_STATE_HOME": "/var/state"}, "/var/state/predictord"),
        ({"XDG_STATE_HOME": "relative"}, "~/.local/state/predictord"),
        ({"XDG_STATE_HOME": ""}, "~/.local/state/predictord"),
        ({}, "~/.local/state/predictord"),
    ],
)
def test_the_folder(environ: dict[str, str], folder: str) -> None:
    assert LogFolder(environ).path == Path(folder).expanduser()


@pytest.fixture
def folder(tmp_path: Path) -> LogFolder:
    return LogFolder({"XDG_STATE_HOME": str(tmp_path / "state")})


def write(folder: LogFolder, predictor: str, port: int, age_s: int) -> Path:
    path = folder.log_for(Path(predictor), port)
    path.touch()
    then = path.stat().st_mtime - age_s
    os.utime(path, (then, then))
    return path


def test_logs_are_told_apart_by_path_and_port(folder: LogFolder) -> None:
    a = write(folder, "/a/predictor.py", 8000, 30)
    b = write(folder, "/b/predictor.py", 8000, 20)
    c = write(folder, "/a/predictor.py", 8001, 10)
    assert len({a, b, c}) == 3
    assert folder.find("/a/predictor.py", None) == c
    assert folder.find("/a/predictor.py", 8000) == a
    assert folder.find(None, 8000) == b
    assert folder.find(None, None) == c
    assert folder.find("/b/predictor.py", 8001) is None
    assert folder.find("/c/predictor.py", None) is None


def test_nothing_is_found_where_nothing_is(folder: LogFolder) -> None:
    assert folder.find(None, None) is None


def test_only_the_newest_twenty_stay_with_their_older_parts(folder: LogFolder) -> None:
    oldest = write(folder, "/a/predictor.py", 1, 1000)
    part = oldest.with_name(f"{oldest.name}.1")
    part.touch()
    for port in range(2, 21):
        write(folder, "/a/predictor.py", port, 1000 - port)
    assert oldest.exists()
    write(folder, "/a/predictor.py", 21, 0)
    assert not oldest.exists()
    assert not part.exists()
    assert len(list(folder.path.iterdir())) == 20


def test_a_folder_that_cannot_be_made_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartError, match="set XDG_STATE_HOME to another"):
        LogFolder({"XDG_STATE_HOME": str(tmp_path / "file")}).log_for(Path("/a.py"), 1)


def test_last_lines_reach_back_into_older_parts(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    (tmp_path / "a.log.2").write_text("1\n2\n")
    (tmp_path / "a.log.1").write_text("3\n4\n")
    path.write_text("5\n6\n")
    assert last_lines(path, 0) == []
    assert last_lines(path, 1) == ["6"]
    assert last_lines(path, 3) == ["4", "5", "6"]
    assert last_lines(path, 99) == ["1", "2", "3", "4", "5", "6"]
