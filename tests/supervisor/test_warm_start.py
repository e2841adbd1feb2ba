"""Which zygote makes the next worker, when generations, `.env` and packages change."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from predictord.generation import Generation
from predictord.supervisor.warm_start import WarmStart
from predictord.supervisor.zygote import Recipe, Zygote


class FakeZygote:
    def __init__(self, recipe: Recipe, loop: asyncio.AbstractEventLoop) -> None:
        self.recipe = recipe
        self.warmed = loop.create_future()
        self.ready_at = 0.0
        self.stopped = False

    @property
    def is_ready(self) -> bool:
        return self.warmed.done() and self.warmed.result() == "" and not self.stopped

    def stop(self) -> None:
        self.stopped = True


class Nursery:
    """A `WarmStart` over fakes, which are kept in the order of their making."""

    def __init__(self, loop: asyncio.AbstractEventLoop, folder: Path) -> None:
        self.made: list[FakeZygote] = []
        self.folder = folder
        self._loop = loop
        self.warm_start = WarmStart(loop, self._start)

    def _start(self, recipe: Recipe) -> Zygote:
        self.made.append(FakeZygote(recipe, self._loop))
        return cast(Zygote, self.made[-1])

    def choose(self, number: int, source: str, **environment: str) -> int | None:
        """The place in `made` of the zygote chosen for a worker of this generation."""
        path = str(self.folder / "predictor.py")
        chosen = self.warm_start.choose(Generation(number, path, None, {path: source.encode()}, {}, {}), environment)
        return None if chosen is None else self.made.index(cast(FakeZygote, chosen))

    def warm(self, index: int, obstacle: str = "") -> None:
        """Let this zygote have imported, or not."""
        self.made[index].warmed.set_result(obstacle)
        self._loop.run_until_complete(asyncio.sleep(0))

    @property
    def alive(self) -> list[int]:
        return [index for index, zygote in enumerate(self.made) if not zygote.stopped]


@pytest.fixture
def nursery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nursery]:
    installed = tmp_path / "site-packages"
    installed.mkdir()
    for name in ("one", "two"):
        (installed / f"{name}.py").touch()
    (installed / "one-1.0.dist-info").mkdir()
    monkeypatch.syspath_prepend(str(installed))
    loop = asyncio.new_event_loop()
    yield Nursery(loop, tmp_path)
    loop.close()


def test_workers_of_one_generation_share_one_whatever_their_device(nursery: Nursery) -> None:
    assert nursery.choose(1, "import one", CUDA_VISIBLE_DEVICES="GPU-1") == 0
    assert nursery.choose(1, "import one", CUDA_VISIBLE_DEVICES="GPU-2") == 0
    nursery.warm(0)
    assert nursery.choose(2, "import one  # changed") == 0
    assert len(nursery.made) == 1


def test_while_one_more_module_is_imported_the_old_one_serves(nursery: Nursery) -> None:
    nursery.choose(1, "import one")
    nursery.warm(0)
    assert nursery.choose(2, "import one, two") == 0
    assert nursery.made[1].recipe.modules == ("one", "two")
    nursery.warm(1)
    assert nursery.choose(2, "import one, two") == 1
    assert nursery.alive == [1]


def test_with_another_environment_the_old_one_is_of_no_use(nursery: Nursery) -> None:
    nursery.choose(1, "import one", HF_HOME="/a")
    nursery.warm(0)
    assert nursery.choose(2, "import one", HF_HOME="/b") == 1
    assert nursery.alive == [1]


def test_with_other_packages_the_old_one_is_of_no_use(nursery: Nursery) -> None:
    nursery.choose(1, "import one")
    nursery.warm(0)
    os.utime(nursery.folder / "site-packages" / "one-1.0.dist-info", (1, 1))
    assert nursery.choose(1, "import one") == 1
    assert nursery.alive == [1]


def test_a_worker_of_the_old_generation_replaces_nothing(nursery: Nursery) -> None:
    nursery.choose(2, "import two")
    nursery.warm(0)
    assert nursery.choose(1, "import one") == 0
    assert nursery.choose(1, "import one", HF_HOME="/other") is None
    assert len(nursery.made) == 1


def test_saves_in_a_hurry_leave_one_importing(nursery: Nursery) -> None:
    nursery.choose(1, "import one")
    nursery.warm(0)
    nursery.choose(2, "import one, two")
    assert nursery.choose(3, "import two") == 0
    assert nursery.alive == [0, 2]


def test_one_that_is_of_no_use_is_not_tried_again(nursery: Nursery, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "predictord")
    nursery.choose(1, "import one")
    nursery.warm(0, "an import started a thread (ticker)")
    assert nursery.choose(1, "import one") is None
    assert nursery.choose(2, "import one  # changed") is None
    assert caplog.messages == ["no warm start: an import started a thread (ticker)"]
    assert nursery.choose(3, "import two") == 1


def test_without_packages_there_is_none(nursery: Nursery) -> None:
    nursery.choose(1, "import one")
    nursery.warm(0)
    assert nursery.choose(2, "import json") is None
    assert nursery.alive == []


def test_none_is_made_after_the_end(nursery: Nursery) -> None:
    nursery.choose(1, "import one")
    nursery.warm_start.close()
    assert nursery.choose(1, "import one") is None
    assert nursery.alive == []
