"""Which files are a predictor's own code, and which of them its source imports.

The walk reads text and never runs anything: the supervisor takes snapshots, and user
code must not run there. What only running code can know (`sys.path` changes, computed
names) the workers report as late files.
"""

import ast
import errno
import os
import stat
import sys
import warnings
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib.machinery import EXTENSION_SUFFIXES
from typing import NamedTuple

from predictord.errors import PredictorError

MAX_SOURCE_BYTES = 4 << 20
"""A longer source file is data in disguise; parsing it would take seconds and a gigabyte."""

MAX_PROJECT_BYTES = 32 << 20
"""All source files of one generation together; half of what a message to a worker may hold."""

_FOREIGN_FOLDERS = {"site-packages", "dist-packages"}
_IMPORT_FUNCTIONS = {"import_module", "__import__"}


class Import(NamedTuple):
    """One import in a source file: `from ..a import b` is `Import(2, "a.b")`, and `b` may be no module."""

    level: int
    name: str


class Project:
    """The folder of a predictor, and what below it is the author's own code."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._own_folders = {folder: True}
        installed = {sys.prefix, sys.base_prefix, os.path.dirname(os.__file__)}
        self._foreign = {path for path in installed if path != folder}

    def owns(self, path: str) -> bool:
        """Whether an absolute path of a source file is the author's: below the folder, and not installed there."""
        return path.endswith(".py") and self._owns_folder(os.path.dirname(path))

    def _owns_folder(self, folder: str) -> bool:
        known = self._own_folders.get(folder)
        if known is None:
            parent, name = os.path.split(folder)
            known = parent != folder and self._owns_folder(parent) and not self._is_foreign(folder, name)
            self._own_folders[folder] = known
        return known

    def _is_foreign(self, folder: str, name: str) -> bool:
        return (
            name.startswith(".")
            or name in _FOREIGN_FOLDERS
            or folder in self._foreign
            or os.path.exists(f"{folder}/pyvenv.cfg")
        )


def read_source(path: str) -> bytes:
    """The bytes of a source file; `OSError` if it is no readable regular file, `PredictorError` if it is too large."""
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):  # opening a named pipe would wait for a writer
        number = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
        raise OSError(number, os.strerror(number), path)
    with open(path, "rb") as file:
        source = file.read(MAX_SOURCE_BYTES + 1)
    if len(source) > MAX_SOURCE_BYTES:
        raise PredictorError(
            f"{path} is longer than the {MAX_SOURCE_BYTES >> 20} MiB that a source file may have; "
            "keep data in a file of its own and read that in __init__"
        )
    return source


@lru_cache(maxsize=1024)  # most files are the same in the next snapshot, and parsing stops all other threads
def imports_of(source: bytes) -> tuple[Import, ...]:
    """Every import that a source file names, wherever in it; none if it does not parse, which a worker will report."""
    return tuple(_imports_in(source))


def _imports_in(source: bytes) -> Iterator[Import]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an invalid escape is told by the worker that compiles it
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Import(0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            prefix = f"{node.module}." if node.module else ""
            yield from (Import(node.level, prefix + alias.name) for alias in node.names)
        elif isinstance(node, ast.Call):
            yield from _import_by_call(node)


def _import_by_call(call: ast.Call) -> Iterator[Import]:
    function = call.func
    name = getattr(function, "attr", None) or getattr(function, "id", None)
    if name in _IMPORT_FUNCTIONS and call.args and isinstance(call.args[0], ast.Constant):
        literal = call.args[0].value
        if isinstance(literal, str):
            relative = literal.lstrip(".")
            yield Import(len(literal) - len(relative), relative)


def read_project(predictor: str, also: tuple[str, ...] = ()) -> dict[str, bytes]:
    """The predictor's file and all project files that it imports, directly or not, each read exactly once.

    `also` are further files to start from, skipped where they are gone. Raises `OSError`
    if the predictor itself cannot be read, `PredictorError` if there is too much code.
    """
    return _Walk(predictor, also).files()


def folders_named(predictor: str, files: Mapping[str, bytes]) -> Iterator[str]:
    """The folders that imports in these files name as packages, there or not: a missing module may yet appear."""
    for path, source in files.items():
        for level, name in imports_of(source):
            folder = _start(os.path.dirname(predictor), path, level)
            for part in name.split("."):
                folder = f"{folder}/{part}"
                yield folder


def _start(top: str, path: str, level: int) -> str:
    """The folder in which an import of the file at `path` begins to search."""
    if level == 0:
        return top
    for _ in range(level):
        path = os.path.dirname(path)
    return path


class _Walk:
    def __init__(self, predictor: str, also: tuple[str, ...]) -> None:
        self._folder = os.path.dirname(predictor)
        self._project = Project(self._folder)
        self._seen: dict[str, bytes | None] = {predictor: read_source(predictor)}
        self._to_parse = [predictor]
        self._bytes = 0
        for path in also:
            self._read(path)

    def files(self) -> dict[str, bytes]:
        for path in self._to_parse:  # grows while it is walked
            for level, name in imports_of(self._seen[path] or b""):
                self._follow(_start(self._folder, path, level), name)
        return {path: source for path, source in self._seen.items() if source is not None}

    def _follow(self, base: str, dotted: str) -> None:
        """Take every module on the way: `import a.b` runs `a/__init__.py` too."""
        for part in dotted.split("."):
            if not part or "/" in part:  # import_module() takes any text
                return
            base = f"{base}/{part}"
            if self._read(f"{base}/__init__.py"):
                continue
            if self._read(f"{base}.py") or not os.path.isdir(base):
                return

    def _read(self, path: str) -> bool:
        if path not in self._seen:
            source = self._seen[path] = self._read_own(path)
            if source is not None:
                self._to_parse.append(path)
                self._count(path, len(source))
        return self._seen[path] is not None

    def _read_own(self, path: str) -> bytes | None:
        if not self._project.owns(path):
            return None
        try:
            source = read_source(path)
        except (OSError, ValueError):
            return None  # not there, or not readable: the worker's import says so
        # Python prefers a compiled extension module to the source that it was made of
        is_compiled = any(os.path.exists(path.removesuffix(".py") + suffix) for suffix in EXTENSION_SUFFIXES)
        return None if is_compiled else source

    def _count(self, path: str, size: int) -> None:
        self._bytes += size
        if self._bytes > MAX_PROJECT_BYTES:
            raise PredictorError(
                f"the source files that the predictor imports are longer than {MAX_PROJECT_BYTES >> 20} MiB together "
                f"(up to {path}); keep data in files of its own"
            )
