"""Saves as editors, shells and git make them, on real files, seen by a watcher on uvloop."""

import asyncio
import itertools
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
import uvloop

from predictord.generation import Generation
from predictord.settings import Settings
from predictord.snapshot import take_snapshot
from predictord.supervisor.watcher import Change, ChangeKind, Watcher

VIM = shutil.which("vim") or shutil.which("vim.tiny") or "vim is not installed"
QUIET_S = 0.7
"""Long enough for a second report of the same save to come."""


class Watching:
    """A watcher at work on a loop in a thread; what it reports piles up."""

    def __init__(self, predictor: Path, **settings: Any) -> None:
        self.settings = Settings(predictor_path=predictor, **settings)
        self.predictor = predictor
        self.late: tuple[str, ...] = ()
        self.changes: list[Change] = []
        self.stop_s = 0.0
        self._numbers = itertools.count(2)
        self._has_looked = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def take(self) -> Generation:
        try:
            return take_snapshot(self.settings.predictor_path, None, self.settings.config, late_files=self.late)
        finally:
            self._has_looked.set()

    def __enter__(self) -> "Watching":
        self.watcher = Watcher(self.settings, self.take(), self.take, lambda: next(self._numbers))
        self._has_looked.clear()
        self._thread.start()
        assert self._has_looked.wait(10)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        began = time.monotonic()
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(10)
        self.stop_s = time.monotonic() - began

    def _run(self) -> None:
        with suppress(asyncio.CancelledError), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            self._loop = runner.get_loop()
            runner.run(self._collect())

    async def _collect(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        async with aclosing(self.watcher.changes()) as changes:
            async for change in changes:
                self.changes.append(change)

    def follow(self, generation: Generation, settings: Settings | None = None) -> None:
        self._has_looked.clear()
        self._loop.call_soon_threadsafe(self.watcher.follow, generation, settings)
        assert self._has_looked.wait(10)

    def wait_for(self, count: int, limit_s: float = 10) -> Change:
        """The last of `count` changes, when that many have come."""
        deadline = time.monotonic() + limit_s
        while len(self.changes) < count:
            assert time.monotonic() < deadline, self.changes
            time.sleep(0.005)
        return self.changes[count - 1]

    def source_of(self, count: int) -> str:
        """The predictor's source in the last of `count` changes."""
        generation = self.wait_for(count).generation
        assert generation is not None, self.changes[count - 1]
        return generation.files[generation.path].decode()

    def assert_quiet(self, count: int) -> None:
        """No more than `count` changes have come, and none does."""
        time.sleep(QUIET_S)
        assert len(self.changes) == count, self.changes


@pytest.fixture
def predictor(tmp_path: Path) -> Path:
    path = tmp_path / "project" / "predictor.py"
    path.parent.mkdir()
    path.write_text("version = 0\n")
    return path


@pytest.fixture
def watching(predictor: Path) -> Iterator[Watching]:
    with Watching(predictor) as watching:
        yield watching


def shell(path: Path, command: str) -> None:
    subprocess.run(["bash", "-ec", command], cwd=path.parent, check=True, timeout=30, capture_output=True)


def save_in_place(path: Path, text: str) -> None:
    with path.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def save_by_rename(path: Path, text: str) -> None:
    temporary = path.with_name(".goutputstream-XYZ")
    temporary.write_text(text)
    temporary.rename(path)


def save_with_vim(path: Path, text: str, *options: str) -> None:
    commands = [f"set {option}" for option in options] + [f"%s/.*/{text.strip()}/", "wq"]
    arguments = [part for command in commands for part in ("-c", command)]
    subprocess.run([VIM, "-u", "NONE", "-es", *arguments, path.name], cwd=path.parent, check=True, timeout=30)


def save_with_vim_in_place(path: Path, text: str) -> None:
    save_with_vim(path, text, "backupcopy=yes")


def save_with_vim_renaming(path: Path, text: str) -> None:
    save_with_vim(path, text, "backup", "writebackup", "backupcopy=no", "swapfile")


def save_with_sed(path: Path, text: str) -> None:
    shell(path, f"sed -i 's/.*/{text.strip()}/' {path.name}")


def save_with_git(path: Path, text: str) -> None:
    branch = text.strip().replace(" ", "")
    if not (path.parent / ".git").exists():
        shell(path, "git init -q; git config user.name a; git config user.email a@b; git add .; git commit -qm 0")
        for number in range(1, 4):
            # Made in a second working tree, so that this one sees nothing of it.
            content = f"version = {number}\n"
            shell(path, f"git worktree add -q -b version={number} ../tree{number}")
            (path.parent / f"../tree{number}/predictor.py").write_text(content)
            shell(path, f"cd ../tree{number}; git commit -qam {number}; git checkout -q --detach")
    shell(path, f"git checkout -q {branch}")


def save_with_a_gap(path: Path, text: str) -> None:
    path.unlink()
    time.sleep(0.1)
    path.write_text(text)


def save_with_the_clock_of_before(path: Path, text: str) -> None:
    before = path.stat()
    save_in_place(path, text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size


def save_into_the_past(path: Path, text: str) -> None:
    save_by_rename(path, text)
    os.utime(path, (0, 0))


SAVES: list[Callable[[Path, str], None]] = [
    save_in_place,
    save_by_rename,
    save_with_vim,
    save_with_vim_in_place,
    save_with_vim_renaming,
    save_with_sed,
    save_with_git,
    save_with_a_gap,
    save_with_the_clock_of_before,
    save_into_the_past,
]


@pytest.mark.parametrize("save", SAVES)
def test_each_save_is_one_change(save: Callable[[Path, str], None], predictor: Path, watching: Watching) -> None:
    for number in (1, 2, 3):
        save(predictor, f"version = {number}\n")
        assert watching.source_of(number) == f"version = {number}\n"
    watching.assert_quiet(3)
    assert [change.kind for change in watching.changes] == [ChangeKind.CODE] * 3
    assert [change.generation.number for change in watching.changes if change.generation] == [2, 3, 4]
    assert {change.paths for change in watching.changes} == {(str(predictor),)}


@pytest.mark.parametrize("is_folder", [False, True], ids=["file", "folder"])
def test_each_swap_of_a_link_is_one_change(is_folder: bool, tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"v{number}").mkdir()
        (tmp_path / f"v{number}/predictor.py").write_text(f"version = {number}\n")
    link = tmp_path / ("current" if is_folder else "current.py")
    suffix = "" if is_folder else "/predictor.py"
    link.symlink_to(f"v0{suffix}")
    with Watching(link / "predictor.py" if is_folder else link) as watching:
        for number in (1, 2, 3):
            shell(link, f"ln -sfn v{number}{suffix} {link.name}")
            assert watching.source_of(number) == f"version = {number}\n"
        (tmp_path / "v3/predictor.py").write_text("version = 4\n")
        assert watching.source_of(4) == "version = 4\n"
        watching.assert_quiet(4)


def test_a_deleted_predictor_is_a_problem_until_it_is_back(predictor: Path, watching: Watching) -> None:
    for number in (1, 2, 3):
        predictor.unlink()
        change = watching.wait_for(2 * number - 1)
        assert (change.kind, change.generation) == (ChangeKind.PROBLEM, None)
        assert change.problem == f"cannot read the predictor {predictor}: No such file or directory"
        time.sleep(3)
        predictor.write_text(f"version = {number}\n")
        assert watching.source_of(2 * number) == f"version = {number}\n"
    watching.assert_quiet(6)
    predictor.unlink()
    watching.wait_for(7)
    predictor.write_text("version = 3\n")
    assert watching.wait_for(8).paths == ()
    assert watching.source_of(8) == "version = 3\n"


@pytest.mark.parametrize("fault", ["too large", "a directory", "a pipe"])
def test_what_cannot_be_taken_is_a_problem_once(fault: str, predictor: Path, watching: Watching) -> None:
    predictor.unlink()
    if fault == "too large":
        predictor.write_bytes(b"#" * 50_000_000)
    elif fault == "a directory":
        predictor.mkdir()
    else:
        os.mkfifo(predictor)
    assert watching.wait_for(1).kind is ChangeKind.PROBLEM
    watching.assert_quiet(1)
    predictor.rmdir() if predictor.is_dir() else predictor.unlink()
    predictor.write_text("version = 1\n")
    assert watching.source_of(2) == "version = 1\n"


def test_broken_code_is_a_change_as_any_other(predictor: Path, watching: Watching) -> None:
    for number, source in enumerate((b"def (\n", b"", b"a\0b", b"\xff\xfe"), start=1):
        predictor.write_bytes(source)
        generation = watching.wait_for(number).generation
        assert generation is not None and generation.files == {str(predictor): source}


def test_what_changes_no_content_is_no_change(predictor: Path, watching: Watching) -> None:
    for _ in range(3):
        os.utime(predictor)
        save_in_place(predictor, "version = 0\n")
        save_by_rename(predictor, "version = 0\n")
        for name in ("predictor.py~", ".predictor.py.swp", "4913", "other.py", "notes.txt", "#predictor.py#"):
            predictor.with_name(name).write_text("x")
            predictor.with_name(name).unlink()
        time.sleep(0.1)
    watching.assert_quiet(0)


@pytest.mark.parametrize("half", ["version = 1\n", "def broken("])
def test_half_a_save_is_never_seen(half: str, predictor: Path, watching: Watching) -> None:
    for number in (1, 2, 3):
        with predictor.open("w") as file:
            file.write(half)
            file.flush()
            time.sleep(0.4)
            file.write(f"#{number}\n")
        assert watching.source_of(number) == f"{half}#{number}\n"
    watching.assert_quiet(3)


@pytest.mark.parametrize(("saves", "pause_s"), [(100, 0.02), (20, 0.1)])
def test_of_many_saves_few_are_changes_and_the_last_is_one(
    saves: int, pause_s: float, predictor: Path, watching: Watching
) -> None:
    began = time.monotonic()
    for number in range(1, saves + 1):
        SAVES[number % 2](predictor, f"version = {number}\n")
        time.sleep(pause_s)
    elapsed = time.monotonic() - began
    deadline = time.monotonic() + 5
    while not watching.changes or watching.source_of(len(watching.changes)) != f"version = {saves}\n":
        assert time.monotonic() < deadline, watching.changes
        time.sleep(0.01)
    count = len(watching.changes)
    assert count <= elapsed / 0.3 + 2
    watching.assert_quiet(count)


def test_going_back_to_the_old_content_is_a_change(predictor: Path, watching: Watching) -> None:
    save_in_place(predictor, "version = 1\n")
    watching.wait_for(1)
    save_in_place(predictor, "version = 0\n")
    assert watching.source_of(2) == "version = 0\n"
    watching.assert_quiet(2)


def test_a_save_is_seen_soon(predictor: Path, watching: Watching) -> None:
    time.sleep(0.5)
    began = time.monotonic()
    save_by_rename(predictor, "version = 1\n")
    watching.wait_for(1)
    assert time.monotonic() - began < 0.5


def test_modules_are_followed_as_they_come_and_go(predictor: Path, watching: Watching) -> None:
    helper, deep = predictor.parent / "there/helper.py", predictor.parent / "pkg/deep.py"
    helper.parent.mkdir()
    helper.write_text("a = 1\n")
    save_in_place(predictor, "import there.helper, pkg.deep\n")
    watching.wait_for(1)
    watching.assert_quiet(1)
    save_in_place(helper, "a = 2\n")
    assert watching.wait_for(2).paths == (str(helper),)
    watching.assert_quiet(2)
    deep.parent.mkdir()
    time.sleep(0.3)
    deep.write_text("a = 1\n")
    assert watching.wait_for(3).paths == (str(deep),)
    save_by_rename(deep, "a = 2\n")
    assert watching.wait_for(4).paths == (str(deep),)
    shutil.rmtree(deep.parent)
    assert watching.wait_for(5).paths == (str(deep),)
    deep.parent.mkdir()
    deep.write_text("a = 3\n")
    assert watching.wait_for(6).paths == (str(deep),)
    save_by_rename(deep, "a = 4\n")
    assert watching.wait_for(7).paths == (str(deep),)
    watching.assert_quiet(7)


def test_late_files_are_watched_once_they_are_followed(predictor: Path, watching: Watching) -> None:
    late = predictor.parent / "plugins/late.py"
    late.parent.mkdir()
    late.write_text("a = 1\n")
    watching.late = (str(late),)
    watching.follow(watching.take())
    watching.assert_quiet(0)
    late.write_text("a = 2\n")
    assert watching.wait_for(1).paths == (str(late),)
    watching.assert_quiet(1)


def test_a_project_that_was_moved_away_and_made_anew_is_seen(predictor: Path, watching: Watching) -> None:
    predictor.parent.rename(predictor.parent.with_name("old"))
    predictor.parent.mkdir()
    predictor.write_text("version = 1\n")
    changes = [watching.source_of(1)]
    save_in_place(predictor, "version = 2\n")
    changes.append(watching.source_of(2))
    assert changes == ["version = 1\n", "version = 2\n"]


def test_the_environment_file_is_watched(predictor: Path, watching: Watching) -> None:
    path = predictor.with_name(".env")
    path.write_text("MODEL=tiny\n")
    change = watching.wait_for(1)
    assert (change.kind, change.paths) == (ChangeKind.CODE, (str(path),))
    assert change.generation is not None and change.generation.environment == {"MODEL": "tiny"}
    path.write_bytes(b"MODEL=\xff\n")
    assert watching.wait_for(2).problem.startswith(f"{path} is not UTF-8")
    path.unlink()
    assert watching.wait_for(3).generation is not None


def test_settings_and_further_files_say_what_they_ask_for(predictor: Path, tmp_path: Path) -> None:
    config, prompt, prompts = tmp_path / "config.yaml", tmp_path / "a/b/prompt.txt", tmp_path / "prompts"
    config.write_text("a: 1")
    prompts.mkdir()
    with Watching(predictor, config_file=config, watch=(prompt, prompts)) as watching:
        steps = [
            (config, ChangeKind.CONFIG),
            (predictor.with_name("predictord.toml"), ChangeKind.CONFIG),
            (prompts / "one.txt", ChangeKind.WATCHED),
            (prompt, ChangeKind.WATCHED),
        ]
        for number, (path, kind) in enumerate(steps, start=1):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("a: 2")
            change = watching.wait_for(number)
            assert (change.kind, change.paths) == (kind, (str(path),))
            os.utime(path)
        watching.assert_quiet(len(steps))


def test_new_settings_bring_new_files_without_a_change(predictor: Path, tmp_path: Path) -> None:
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("one")
    with Watching(predictor) as watching:
        watching.assert_quiet(0)
        watching.follow(watching.take(), Settings(predictor_path=predictor, watch=(prompt,)))
        watching.assert_quiet(0)
        prompt.write_text("two")
        assert watching.wait_for(1).kind is ChangeKind.WATCHED


def test_a_save_just_before_new_settings_are_followed_is_not_missed(predictor: Path, tmp_path: Path) -> None:
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("one")
    with Watching(predictor, watch=(prompt,)) as watching:
        watching.assert_quiet(0)
        prompt.write_text("two")  # while the settings were read anew
        watching.follow(watching.take(), Settings(predictor_path=predictor, watch=(prompt,)))
        assert watching.wait_for(1).kind is ChangeKind.WATCHED


def test_it_idles_at_next_to_no_cost_and_stops_at_once(predictor: Path) -> None:
    with Watching(predictor) as watching:
        time.sleep(0.5)
        began = time.process_time()
        time.sleep(3)
        assert (time.process_time() - began) / 3 < 0.02
    assert watching.stop_s < 0.3
