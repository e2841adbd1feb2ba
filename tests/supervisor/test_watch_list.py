"""Which entries of which folders decide what a path means."""

import os
from pathlib import Path

import pytest

from predictord.supervisor.watch_list import WatchList, route


@pytest.fixture
def top(tmp_path: Path) -> Path:
    (tmp_path / "v1").mkdir()
    (tmp_path / "v1/predictor.py").write_text("")
    (tmp_path / "current").symlink_to("v1")
    (tmp_path / "absolute").symlink_to(tmp_path / "current")
    (tmp_path / "v1/link.py").symlink_to("../current/predictor.py")
    (tmp_path / "dangling.py").symlink_to("gone/predictor.py")
    (tmp_path / "loop").symlink_to("loop")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "stops"),
    [
        ("v1/predictor.py", ["v1/predictor.py"]),
        ("v1/./../v1//predictor.py", ["v1/predictor.py"]),
        ("current/predictor.py", ["current", "v1/predictor.py"]),
        ("absolute/predictor.py", ["absolute", "current", "v1/predictor.py"]),
        ("absolute/../v1/predictor.py", ["absolute", "current", "v1/predictor.py"]),
        ("v1/link.py", ["v1/link.py", "current", "v1/predictor.py"]),
        ("dangling.py", ["dangling.py", "gone/predictor.py"]),
        ("gone/deep/predictor.py", ["gone/deep/predictor.py"]),
    ],
)
def test_the_route_of_a_path_names_each_link_and_the_end(path: str, stops: list[str], top: Path) -> None:
    assert route(f"{top}/{path}") == [f"{top}/{stop}" for stop in stops]


def test_a_loop_of_links_ends(top: Path) -> None:
    assert set(route(f"{top}/loop/x.py")) == {f"{top}/loop", f"{top}/loop/x.py"}


def test_folders_are_watched_only_where_they_hold_something_that_matters(top: Path) -> None:
    (top / "v1/unrelated").mkdir()
    (top / "package").mkdir()
    watch_list = WatchList(
        [f"{top}/current/predictor.py", f"{top}/gone/x.txt"], [f"{top}/package", f"{top}/v1/missing"]
    )
    assert sorted(os.path.relpath(folder, top) for folder in watch_list.folders) == [".", "package", "v1"]
    concerned = ["current", "v1/predictor.py", "v1/new_module.py", "v1/missing", "gone/x.txt"]
    assert all(watch_list.concerns(f"{top}/{path}") for path in concerned)
    assert not any(watch_list.concerns(f"{top}/{path}") for path in ["v1/notes.txt", "v1/predictor.py~", "v1/4913"])


def test_a_folder_made_anew_has_to_be_watched_anew(top: Path) -> None:
    before = WatchList([f"{top}/v1/predictor.py"], [])
    (top / "v1").rename(top / "old")
    (top / "v1").mkdir()
    after = WatchList([f"{top}/v1/predictor.py"], [])
    assert before.is_stale() and not after.is_stale()
    assert before.folders.keys() == after.folders.keys()
    assert before.folders != after.folders
