import sys
from pathlib import Path

import pytest

from predictord.imports import environment_change, installed_imports, is_installed


@pytest.fixture
def search(tmp_path: Path) -> list[str]:
    """Folders of an author, of a PYTHONPATH, and of installed packages."""
    for file in (
        "project/mine.py",
        "project/shadow.py",
        "shared/editable.py",
        "lib/site-packages/heavy/__init__.py",
        "lib/site-packages/shadow.py",
        "lib/site-packages/space/part/__init__.py",
        "lib/site-packages/orjson.py",
    ):
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("raise SystemExit('never run')")
    return [str(tmp_path / folder) for folder in ("project", "shared", "lib/site-packages")]


@pytest.mark.parametrize(
    ("source", "modules"),
    [
        ("import heavy", ("heavy",)),
        ("import heavy.inner as x", ("heavy.inner",)),
        ("from heavy import *", ("heavy",)),
        ("from heavy.inner import thing", ("heavy.inner.thing",)),
        ("import space.part", ("space.part",)),
        ("def later():\n    import heavy", ("heavy",)),
        ("import heavy, orjson, os, mine, editable, missing", ("heavy", "orjson")),
        ("import orjson", ()),
        ("import os, sqlite3", ()),
        ("import shadow", ()),
        ("from . import heavy", ()),
        ("import heavy (", ()),
    ],
)
def test_installed_modules_are_found(search: list[str], source: str, modules: tuple[str, ...]) -> None:
    assert installed_imports({"/p/predictor.py": source.encode()}, search) == modules


def test_what_is_installed() -> None:
    assert is_installed("numpy", sys.path)
    assert not is_installed("predictord", sys.path)  # an editable install
    assert not is_installed("json", sys.path)
    assert not is_installed("", sys.path)


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("import os\nos.environ['A'] = 'b'", 2),
        ("from os import environ\nenviron['A'] = 'b'", 2),
        ("import os\nx = 1\nos.environ.setdefault('A', 'b')\nos.environ['B'] = 'c'", 3),
        ("import os\nos.environ.update(A='b')", 2),
        ("import os\nos.environ |= {'A': 'b'}", 2),
        ("import os\ndef f():\n    del os.environ['A']", 3),
        ("import os\nos.putenv('A', 'b')", 2),
        ("from dotenv import load_dotenv\nload_dotenv()", 2),
        ("import os\nx = os.environ['A'], os.environ.get('B'), {**os.environ}", None),
        ("settings = {}\nsettings.update(environ=1)", None),
        ("import os\nos.environ['A' = 'b'", None),
    ],
)
def test_changes_of_the_environment_are_found(source: str, line: int | None) -> None:
    assert environment_change(source.encode()) == line
