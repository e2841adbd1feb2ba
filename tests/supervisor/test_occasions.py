"""Causes to look at files: events, and where there are none, a look every two seconds."""

import asyncio
import os
import resource
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

import pytest
import uvloop

from predictord.supervisor.occasions import Occasions
from predictord.supervisor.watch_list import WatchList

QUIET_S = 0.3


def run(test: Callable[[], Awaitable[None]]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(test())  # type: ignore[arg-type]


async def assert_quiet(causes: object) -> "asyncio.Task[None]":
    """No cause comes for a while; returns the one that is awaited."""
    task: asyncio.Task[None] = asyncio.ensure_future(anext(causes))  # type: ignore[call-overload]
    await asyncio.sleep(QUIET_S)
    assert not task.done()
    return task


def save(path: Path, text: str) -> None:
    new = path.with_name("new")
    new.write_text(text)
    new.replace(path)


def test_what_concerns_nobody_is_no_cause_and_a_save_is(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a")

    async def test() -> None:
        occasions = Occasions(lambda: WatchList([str(path)], []))
        async with aclosing(occasions.come()) as causes:
            await anext(causes)
            task = await assert_quiet(causes)
            (tmp_path / "b.txt").write_text("b")
            await asyncio.sleep(QUIET_S)
            assert not task.done()
            save(path, "b")
            await asyncio.wait_for(task, 1)
            occasions.renew()
            await asyncio.wait_for(anext(causes), 1)

    run(test)


def test_a_folder_that_was_made_anew_is_watched_again(tmp_path: Path) -> None:
    path = tmp_path / "project/a.py"
    path.parent.mkdir()
    path.write_text("a")

    async def test() -> None:
        async with aclosing(Occasions(lambda: WatchList([str(path)], [])).come()) as causes:
            await anext(causes)
            for number in range(3):
                path.unlink()
                path.parent.rmdir()
                path.parent.mkdir()  # often with the same inode number
                await asyncio.wait_for(anext(causes), 1)
                await asyncio.sleep(QUIET_S)
                save(path, str(number))
                await asyncio.wait_for(anext(causes), 1)

    run(test)


def test_a_save_without_an_event_is_found_by_looking(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text("a")

    def make_list() -> WatchList:
        found = WatchList([str(path)], [])
        found.folders = {}  # as on a file system without events
        return found

    async def test() -> None:
        async with aclosing(Occasions(make_list).come()) as causes:
            await anext(causes)
            task = await assert_quiet(causes)
            save(path, "b")
            await asyncio.wait_for(task, 5)

    run(test)


def test_without_watches_it_looks_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.py"
    path.write_text("a")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    watch_list = WatchList([str(path)], [])

    def make_list() -> WatchList:  # what follows it opens the watch
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        return watch_list

    async def test() -> None:
        async with aclosing(Occasions(make_list).come()) as causes:
            await anext(causes)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert f"cannot watch {tmp_path} ([Errno 24] Too many open files); looking every 2 s" in caplog.text
            save(path, "b")
            await asyncio.wait_for(anext(causes), 5)

    try:
        run(test)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_idling_is_nearly_free_and_leaves_nothing_open(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text("a")

    async def test() -> None:
        before = len(os.listdir("/proc/self/fd"))
        async with aclosing(Occasions(lambda: WatchList([str(path)], [])).come()) as causes:
            await anext(causes)
            task = await assert_quiet(causes)
            began = time.process_time()
            await asyncio.sleep(4.5)
            assert (time.process_time() - began) / 4.5 < 0.005
            task.cancel()
            await asyncio.wait([task])
        assert len(os.listdir("/proc/self/fd")) == before

    run(test)
