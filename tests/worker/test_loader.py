"""Loading a generation's code, each time in a process of its own, as a worker would.

Each test writes a project, takes its snapshot, changes the disk if it likes, and runs
the predictor's `answer()` in a child whose own main has no `__name__` guard.
"""

import json
import os
import py_compile
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import msgspec
import pytest

from predictord.generation import Generation
from predictord.snapshot import take_snapshot

DRIVER = """
import json, os, sys, traceback
import msgspec
from predictord.generation import Generation
from predictord.worker.loader import Loader

with open(os.environ["GENERATION"], "rb") as file:
    loader = Loader(msgspec.msgpack.decode(file.read(), type=Generation))
try:
    loader.enter()
    answer = loader.load().answer()
except BaseException as error:
    where = f"{error.filename}:{error.lineno}" if isinstance(error, SyntaxError) else None
    text = f"{type(error).__name__}: {error}"
    print(json.dumps({"error": text, "where": where, "traceback": traceback.format_exc()}))
else:
    late = {os.path.basename(path): source.decode() for path, source in loader.late_files.items()}
    print(json.dumps({"answer": answer, "late": late}))
"""


class Project:
    """A folder with a predictor, and a worker-like process to run it in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "project"
        self.scratch = folder / "scratch"
        self.scratch.mkdir()
        (self.scratch / "driver.py").write_text(DRIVER)

    def write(self, name: str, source: str | bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source if isinstance(source, bytes) else textwrap.dedent(source).encode())
        return path

    def snapshot(self, name: str = "predictor.py") -> Generation:
        return take_snapshot(self.folder / name, None, {})

    def run(self, generation: Generation, *, pythonpath: str = "") -> dict[str, Any]:
        (self.scratch / "generation").write_bytes(msgspec.msgpack.encode(generation))
        environment = {
            **os.environ,
            "GENERATION": str(self.scratch / "generation"),
            "PYTHONPATH": f"{self.scratch}:{pythonpath}",
        }
        child = subprocess.run(
            [sys.executable, "-P", "-m", "driver"],
            env=environment,
            cwd="/",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert child.stderr == ""
        result: dict[str, Any] = json.loads(child.stdout)
        return result

    def answer(self, source: str, name: str = "predictor.py") -> Any:
        """What `answer()` of this source returns."""
        self.write(name, source)
        result = self.run(self.snapshot(name))
        assert "answer" in result, result
        return result["answer"]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_the_process_looks_like_a_script_in_the_folder(project: Project) -> None:
    project.write("data.txt", "beside")
    answer = project.answer("""
        import sys, __main__
        def answer():
            return {
                "file": __file__, "name": __name__, "registered": sys.modules[__name__].answer is answer,
                "path": sys.path[0], "argv": sys.argv, "relative": open("data.txt").read(),
                "main": [hasattr(__main__, "__file__"), __main__.__spec__, hasattr(__main__, "loader")],
            }
    """)
    assert answer == {
        "file": f"{project.folder}/predictor.py",
        "name": "predictor",
        "registered": True,
        "path": str(project.folder),
        "argv": [f"{project.folder}/predictor.py"],
        "relative": "beside",
        "main": [False, None, False],
    }


def test_packages_relative_imports_namespaces_resources_and_reload(project: Project) -> None:
    project.write("pkg/__init__.py", "from .sub import value\n")
    project.write("pkg/sub.py", "from . import deep\nvalue = deep.value + 1\n")
    project.write("pkg/deep.py", "value = 1\n")
    project.write("pkg/words.txt", "resource")
    project.write("space/inner.py", "value = 3\n")
    project.write(
        "predictor.py",
        """
        import importlib, importlib.resources, pkgutil
        import pkg, space.inner
        def answer():
            pkg.value = None
            return [
                importlib.reload(pkg).value, space.inner.value, [list(pkg.__path__), pkg.__file__],
                importlib.resources.files("pkg").joinpath("words.txt").read_text(),
                pkgutil.get_data("pkg", "words.txt").decode(),
            ]
    """,
    )
    locations = [[f"{project.folder}/pkg"], f"{project.folder}/pkg/__init__.py"]
    assert project.run(project.snapshot()) == {"answer": [2, 3, locations, "resource", "resource"], "late": {}}


def test_the_snapshot_is_loaded_whatever_the_disk_says(project: Project) -> None:
    project.write(
        "predictor.py",
        """
        import importlib, helper, pkg.sub, space.inner
        def answer():
            import request_time
            values = [module.value for module in (helper, pkg.sub, space.inner, request_time)]
            return [*values, importlib.reload(helper).value]
    """,
    )
    for name in ("helper.py", "pkg/__init__.py", "pkg/sub.py", "space/inner.py", "request_time.py"):
        project.write(name, "value = 'old'\n")
    generation = project.snapshot()
    project.write("helper.py", "value = 'new'\n")
    project.write("helper/__init__.py", "value = 'newer'\n")
    project.write("request_time.py", "broken (")
    project.write("predictor.py", "broken (")
    shutil.rmtree(project.folder / "pkg")
    shutil.rmtree(project.folder / "space")
    assert project.run(generation) == {"answer": ["old"] * 5, "late": {}}


def test_an_empty_file_in_the_snapshot_stays_empty(project: Project) -> None:
    project.write("predictor.py", "import helper\ndef answer(): return hasattr(helper, 'value')\n")
    project.write("helper.py", "")
    generation = project.snapshot()
    project.write("helper.py", "value = 1\n")
    assert project.run(generation) == {"answer": False, "late": {}}


def test_late_files_are_read_once_and_reported(project: Project) -> None:
    project.write("at_import.py", "value = 1\n")
    project.write("at_request.py", "value = 2\n")
    project.write("lib/found_by_path.py", "value = 3\n")
    project.write(
        "predictor.py",
        """
        import importlib, sys
        sys.path.append("lib")
        name = "at_import"
        first = importlib.import_module(name)
        def answer():
            open("at_import.py", "w").write("value = 'changed'")
            second = importlib.import_module("at_" + "request")
            third = importlib.import_module("found_by" + "_path")
            return [importlib.reload(first).value, second.value, third.value]
    """,
    )
    assert project.run(project.snapshot()) == {
        "answer": [1, 2, 3],
        "late": {"at_import.py": "value = 1\n", "at_request.py": "value = 2\n", "found_by_path.py": "value = 3\n"},
    }


def test_no_bytecode_of_project_files_is_used_or_written(project: Project) -> None:
    helper = project.write("helper.py", "value = 'old'\n")
    py_compile.compile(str(helper))
    cached = set(helper.parent.rglob("*.pyc"))
    before = helper.stat()
    helper.write_text("value = 'new'\n")  # of the same size
    os.utime(helper, ns=(before.st_atime_ns, before.st_mtime_ns))
    project.write("late.py", "value = 1\n")
    assert project.answer("""
        import importlib, helper
        late = importlib.import_module("".join("late"))
        def answer():
            return helper.value
    """) == "new"  # fmt: skip
    assert set(project.folder.rglob("*.pyc")) == cached


def test_tracebacks_and_sources_show_what_runs(project: Project) -> None:
    project.write(
        "predictor.py",
        """
        import inspect, linecache, traceback
        def answer():
            linecache.checkcache()
            try:
                raise_here()
            except ZeroDivisionError:
                return [inspect.getsource(raise_here), traceback.format_exc()]
        form_feed = "\x0c"
        def raise_here():
            return 1 / 0  # the old line
    """,
    )
    generation = project.snapshot()
    project.write("predictor.py", "\n\n# another file by now\n" * 20)
    source, trace = project.run(generation)["answer"]
    assert source == "def raise_here():\n    return 1 / 0  # the old line\n"
    assert f'File "{project.folder}/predictor.py", line 11, in raise_here\n    return 1 / 0  # the old line' in trace


def test_errors_while_importing_show_no_frame_between_the_authors_files(project: Project) -> None:
    project.write("predictor.py", "import helper\n")
    project.write("helper.py", "1 / 0\n")
    trace = project.run(project.snapshot())["traceback"]
    assert trace.endswith(
        f'  File "{project.folder}/predictor.py", line 1, in <module>\n    import helper\n'
        f'  File "{project.folder}/helper.py", line 1, in <module>\n    1 / 0\n    ~~^~~\n'
        "ZeroDivisionError: division by zero\n"
    )


@pytest.mark.parametrize(
    "source",
    [
        b"# coding: latin-1\ndef answer(): return '\xe9'\n",
        "\ufeffdef answer(): return 'é'\n".encode(),
        b"#!/usr/bin/env python\n# -*- coding: cp1252 -*-\ndef answer(): return '\xe9'\n",
        "def answer():\r\n    return 'é'\r\n".encode(),
    ],
    ids=["latin-1", "byte-order mark", "cp1252", "carriage returns"],
)
def test_source_encodings_are_honoured(source: bytes, project: Project) -> None:
    project.write("predictor.py", source)
    assert project.run(project.snapshot())["answer"] == "é"


@pytest.mark.parametrize(
    ("source", "line", "message"),
    [
        (b"\ndef broken(:\n", 2, "invalid syntax"),
        (b"\n\nx = 1\0\n", 3, "null bytes"),
        (b"x = 1\ny = '\xff'\n", 2, "'utf-8' codec can't decode byte 0xff"),
        (b"# coding: klingon\n", 0, "unknown encoding: klingon"),
        (b"(" * 1000, 1, "too many nested parentheses"),
    ],
    ids=["syntax", "null byte", "not UTF-8", "unknown encoding", "nesting"],
)
def test_broken_sources_keep_file_and_line(source: bytes, line: int, message: str, project: Project) -> None:
    project.write("predictor.py", "import helper")
    project.write("helper.py", source)
    result = project.run(project.snapshot())
    assert result["where"] == f"{project.folder}/helper.py:{line}"
    assert result["error"].startswith("SyntaxError")
    assert message in result["error"]


def test_a_module_that_is_too_large_is_named(project: Project) -> None:
    project.write("predictor.py", "import importlib\nimportlib.import_module('hu' + 'ge')")
    project.write("huge.py", b"#" * 5_000_000)
    error = project.run(project.snapshot())["error"]
    assert error.startswith(f"PredictorError: {project.folder}/huge.py is longer than")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("json.py", "other code already knows a module named 'json'"),
        ("msgspec.py", "other code already knows a module named 'msgspec'"),
        ("tarfile.py", "other code already knows a module named 'tarfile'"),
        ("__main__.py", "other code already knows a module named '__main__'"),
        ("my.predictor.py", "without further dots"),
        ("predictor", "has to be called NAME.py"),
    ],
)
def test_names_that_python_could_not_import_are_refused(name: str, message: str, project: Project) -> None:
    project.write(name, "def answer(): return 1")
    error = project.run(project.snapshot(name))["error"]
    assert error.startswith(f"PredictorError: cannot import {project.folder}/{name}: ")
    assert message in error


def test_a_package_of_the_same_name_is_refused(project: Project) -> None:
    project.write("predictor/__init__.py", "")
    project.write("predictor.py", "import predictor.sub")
    assert "finds" in project.run(project.snapshot())["error"]


def test_a_folder_that_is_gone_is_named(project: Project) -> None:
    path = project.write("predictor.py", "")
    generation = project.snapshot()
    path.unlink()
    project.folder.rmdir()
    assert "PredictorError: cannot enter the predictor's folder" in project.run(generation)["error"]


def test_installed_modules_keep_pythons_order(project: Project, tmp_path: Path) -> None:
    site = tmp_path / "site"
    (site / "both").mkdir(parents=True)
    (site / "both/__init__.py").write_text("value = 'installed'")
    (site / "shared").mkdir()
    (site / "shared/installed.py").write_text("value = 'installed'")
    (site / "first.py").write_text("value = 'first'")
    project.write("first.py", "value = 'project'")
    project.write("faulthandler.py", "raise SystemExit('built-in modules cannot be shadowed')")
    project.write("both.py", "value = 'project'")
    project.write("shared/own.py", "value = 'own'")
    project.write(
        "predictor.py",
        """
        import both, faulthandler, shared.installed, shared.own, sys
        def answer():
            sys.path.insert(0, "../site")
            import first
            return [both.value, shared.installed.value, shared.own.value, first.value]
    """,
    )
    result = project.run(project.snapshot(), pythonpath=str(site))
    assert result["answer"] == ["project", "installed", "own", "first"]


MULTIPROCESSING = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
import helper

class Payload:
    def __init__(self, value):
        self.value = value

def work(payload):
    return Payload(helper.double(payload.value))

def put(queue, value):
    queue.put(Payload(value))

def answer():
    context = multiprocessing.get_context(METHOD)
    with context.Pool(2) as pool:
        answers = [item.value for item in pool.map(work, [Payload(1), Payload(2)])]
    queue = context.Queue()
    process = context.Process(target=put, args=(queue, 3))
    process.start()
    answers.append(queue.get(timeout=30).value)
    process.join(30)
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        answers.append(executor.submit(work, Payload(4)).result(30).value)
    return answers
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("name", ["predictor.py", "my-predictor.py"])
def test_multiprocessing_works_from_the_predictor(method: str, name: str, project: Project) -> None:
    project.write("helper.py", "def double(value): return 2 * value\n")
    assert project.answer(f"METHOD = {method!r}\n{MULTIPROCESSING}", name) == [2, 4, 3, 8]


def test_the_loader_imports_nothing_heavy() -> None:
    program = (
        "import msgspec, sys; before = set(sys.modules); import predictord.worker.loader;"
        "print(*sorted(name for name in set(sys.modules) - before if not name.startswith('predictord')))"
    )
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert set(child.stdout.split()) <= {"errno", "importlib._abc", "importlib.util"}
