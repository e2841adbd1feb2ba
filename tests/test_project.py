"""What counts as a project file, and which files a source names."""

import os
import sys
from pathlib import Path

import pytest

from predictord.errors import PredictorError
from predictord.project import MAX_SOURCE_BYTES, Import, Project, imports_of, read_project, read_source


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def names(folder: Path, also: tuple[str, ...] = ()) -> list[str]:
    """The files of the project of `predictor.py`, relative and sorted."""
    files = read_project(str(folder / "predictor.py"), also)
    return sorted(os.path.relpath(path, folder) for path in files)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import a, b.c as d", [Import(0, "a"), Import(0, "b.c")]),
        ("from a.b import c, d", [Import(0, "a.b.c"), Import(0, "a.b.d")]),
        ("from a import *", [Import(0, "a.*")]),
        ("from . import a", [Import(1, "a")]),
        ("from ..a import b", [Import(2, "a.b")]),
        ("def f():\n  import a", [Import(0, "a")]),
        ("try:\n  import a\nexcept ImportError:\n  import b", [Import(0, "a"), Import(0, "b")]),
        ("if x:\n  pass\nelse:\n  import a", [Import(0, "a")]),
        ("importlib.import_module('a.b')", [Import(0, "a.b")]),
        ("import_module('..a', __package__)", [Import(2, "a")]),
        ("__import__('a')", [Import(0, "a")]),
        ("import_module(name); import_module(3); import_module()", []),
        ("def broken(:", []),
        ("# coding: latin-1\nimport a  # \xe9", [Import(0, "a")]),
        ("x = '\\d'\nimport a", [Import(0, "a")]),
        ("(" * 5000, []),
        ("import a\0", []),
    ],
)
def test_imports_of_a_source(source: str, expected: list[Import]) -> None:
    assert list(imports_of(source.encode("latin-1"))) == expected


@pytest.mark.parametrize(
    ("name", "owned"),
    [
        ("helper.py", True),
        ("pkg/deep/helper.py", True),
        ("../helper.py", False),
        ("data.json", False),
        (".hidden/helper.py", False),
        ("pkg/.cache/helper.py", False),
        ("lib/site-packages/helper.py", False),
        ("environment/lib/helper.py", False),
        ("prefix/lib/helper.py", False),
    ],
)
def test_which_files_are_the_authors(name: str, owned: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"project/environment/pyvenv.cfg": ""})
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "project/prefix"))
    folder = str(tmp_path / "project")
    assert Project(folder).owns(os.path.normpath(f"{folder}/{name}")) is owned


def test_a_project_may_itself_lie_in_a_hidden_or_installed_folder(tmp_path: Path) -> None:
    folder = f"{tmp_path}/.cache/site-packages"
    assert Project(folder).owns(f"{folder}/helper.py")


def test_the_walk_follows_what_python_would_run(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "predictor.py": "import a.b.c, json, missing.x\nfrom pkg import sub, value\nimport space.inner",
            "a/__init__.py": "from . import sibling",
            "a/sibling.py": "from .b import c",
            "a/b/__init__.py": "",
            "a/b/c.py": "def f():\n    from ...top import x\n    from ..late import y",
            "a/late.py": "import predictor",
            "a/unused.py": "",
            "pkg/__init__.py": "value = 1",
            "pkg/sub.py": "",
            "pkg.py": "the package goes first",
            "space/inner.py": "",
        },
    )
    assert names(tmp_path) == [
        "a/__init__.py",
        "a/b/__init__.py",
        "a/b/c.py",
        "a/late.py",
        "a/sibling.py",
        "pkg/__init__.py",
        "pkg/sub.py",
        "predictor.py",
        "space/inner.py",
    ]


def test_the_walk_leaves_out_what_is_installed_unreadable_or_no_file(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "predictor.py": "import env.lib, folder, pipe, fast, broken, loop\nimport_module('pkg/sub')",
            "pkg/sub.py": "",
            "env/pyvenv.cfg": "",
            "env/lib.py": "",
            "folder.py/x": "",
            "fast.py": "",
            "fast.abi3.so": "",
            "broken.py": "def (",
        },
    )
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "loop.py").symlink_to("loop.py")
    assert names(tmp_path) == ["broken.py", "predictor.py"]


def test_the_walk_starts_from_late_files_too(tmp_path: Path) -> None:
    write(tmp_path, {"predictor.py": "", "late.py": "import helper", "helper.py": ""})
    late = (str(tmp_path / "late.py"), str(tmp_path / "gone.py"), "/etc/other.py")
    assert names(tmp_path, late) == ["helper.py", "late.py", "predictor.py"]


def test_too_much_source_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"predictor.py": "import helper", "helper.py": "#" * (MAX_SOURCE_BYTES + 1)})
    with pytest.raises(PredictorError, match=r"helper\.py is longer than the 4 MiB"):
        names(tmp_path)
    (tmp_path / "helper.py").write_text("#" * 100)
    monkeypatch.setattr("predictord.project.MAX_PROJECT_BYTES", 99)
    with pytest.raises(PredictorError, match=r"together \(up to .*helper\.py\)"):
        names(tmp_path)


def test_a_folder_or_pipe_is_no_source(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.py")
    with pytest.raises(OSError, match=r"Invalid argument: .*pipe\.py"):
        read_source(str(tmp_path / "pipe.py"))
    with pytest.raises(IsADirectoryError):
        read_source(str(tmp_path))
