"""Loading a generation's code: imports of project files come from the snapshot, whatever the disk says now.

The predictor is imported under its file's stem, from its folder at `sys.path[0]`, so
that processes which it starts (multiprocessing with spawn or forkserver) find it by
that name; under a made-up name they would hang.
"""

import importlib
import io
import linecache
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import decode_source, spec_from_file_location
from types import ModuleType
from typing import NoReturn

from predictord.errors import PredictorError
from predictord.generation import Generation
from predictord.project import Project, read_source


class Loader:
    """Imports one generation's predictor into this process; once, since a module's name is taken by it.

    `late_files` are the project files that were not in the snapshot and that an import
    found on disk; imports while serving add to it.
    """

    def __init__(self, generation: Generation) -> None:
        self._path = generation.path
        self._folder = os.path.dirname(generation.path)
        self.sources = Sources(self._folder, generation.files)
        self._finder = _Finder(self.sources)
        self.late_files = self.sources.late_files

    def enter(self) -> None:
        """Make this process look as if the predictor had been run as a script from its folder."""
        try:
            os.chdir(self._folder)
        except OSError as error:
            raise PredictorError(f"cannot enter the predictor's folder {self._folder}: {error.strerror}") from error
        sys.path.insert(0, self._folder)
        sys.argv = [self._path]
        # Without __file__ and __spec__: children of multiprocessing would run our own main again.
        sys.modules["__main__"] = ModuleType("__main__")
        # After the finders of built-in and frozen modules, which no file on the path can shadow.
        sys.meta_path.insert(sys.meta_path.index(PathFinder), self._finder)

    def load(self) -> ModuleType:
        """Import the predictor; what its code raises goes through, `PredictorError` if its name cannot be imported."""
        stem, suffix = os.path.splitext(os.path.basename(self._path))
        if suffix != ".py" or "." in stem:
            self._refuse("a predictor's file is imported by name and has to be called NAME.py, without further dots")
        if stem in sys.modules or stem in sys.stdlib_module_names:
            self._refuse(f"other code already knows a module named {stem!r}; give the file another name")
        spec = importlib.util.find_spec(stem)
        if spec is None or spec.origin != self._path:
            found = spec.origin if spec else "nothing"
            self._refuse(f"`import {stem}` finds {found} instead; give one of them another name")
        return importlib.import_module(stem)

    def _refuse(self, reason: str) -> NoReturn:
        raise PredictorError(f"cannot import {self._path}: {reason}")


class Sources:
    """The bytes of project files: as in the snapshot, else as first read from disk."""

    def __init__(self, folder: str, files: dict[str, bytes]) -> None:
        self._project = Project(folder)
        self._folder = folder
        self.late_files: dict[str, bytes] = {}
        self.adopt(files)

    def adopt(self, files: dict[str, bytes]) -> None:
        """Take what is imported from now on from these files (a swap)."""
        self._files = files
        self._folders = {parent for path in files for parent in _parents(path, self._folder)}

    def owns(self, path: str) -> bool:
        """Whether a file belongs to the project."""
        return path in self._files or self._project.owns(path)

    def has(self, path: str) -> bool:
        """Whether the snapshot holds this file."""
        return path in self._files

    def has_folder(self, folder: str) -> bool:
        """Whether the snapshot holds a file below this folder."""
        return folder in self._folders

    def known(self) -> dict[str, bytes]:
        """All files but late ones that nothing has imported here."""
        return {**self.late_files, **self._files}

    def read(self, path: str) -> bytes:
        """The file's bytes; a late one is read from disk once. Raises OSError."""
        if path in self._files:
            return self._files[path]
        if path not in self.late_files:
            self.late_files[path] = read_source(path)  # under the import system's lock for this module
        return self.late_files[path]


def _parents(path: str, folder: str) -> list[str]:
    parents = []
    while len(path := os.path.dirname(path)) > len(folder):
        parents.append(path)
    return parents


class _Finder:
    """Finds modules as `PathFinder` does, but project files in the snapshot before those on disk."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a module, by the protocol of `sys.meta_path`."""
        entries = list(sys.path if path is None else path)
        tail = fullname.rpartition(".")[2]
        for position, entry in enumerate(entries):
            spec = self._from_snapshot(fullname, f"{entry}/{tail}")
            if spec is not None:
                earlier = self._from_disk(fullname, entries[:position], target)
                return earlier if earlier is not None and earlier.loader is not None else spec
        return self._from_disk(fullname, entries, target) or self._namespace(fullname, tail, entries)

    def _from_snapshot(self, fullname: str, base: str) -> ModuleSpec | None:
        if self._sources.has(package := f"{base}/__init__.py"):
            return self._spec(fullname, package, [base])
        if self._sources.has(module := f"{base}.py"):
            return self._spec(fullname, module, None)
        return None

    def _from_disk(self, fullname: str, entries: Sequence[str], target: ModuleType | None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, entries, target)
        # A subclass is somebody's import hook, which has its own reasons.
        if (
            spec is not None
            and spec.origin
            and type(spec.loader) is SourceFileLoader
            and self._sources.owns(spec.origin)
        ):
            return self._spec(fullname, spec.origin, spec.submodule_search_locations)
        return spec

    def _spec(self, fullname: str, path: str, locations: list[str] | None) -> ModuleSpec | None:
        loader = _SnapshotLoader(fullname, path, self._sources)
        return spec_from_file_location(fullname, path, loader=loader, submodule_search_locations=locations)

    def _namespace(self, fullname: str, tail: str, entries: list[str]) -> ModuleSpec | None:
        """A package without `__init__.py` whose folder is in the snapshot only."""
        folders = [folder for entry in entries if self._sources.has_folder(folder := f"{entry}/{tail}")]
        if not folders:
            return None
        spec = ModuleSpec(fullname, None, is_package=True)
        spec.submodule_search_locations = folders
        return spec


class _SnapshotLoader(SourceFileLoader):
    """Python's own loader of source files, reading from the snapshot and knowing no bytecode cache."""

    def __init__(self, fullname: str, path: str, sources: Sources) -> None:
        super().__init__(fullname, path)
        self._sources = sources

    def path_stats(self, path: str) -> NoReturn:
        """Refuse: without a modification time Python neither reads nor writes bytecode."""
        raise OSError

    def get_data(self, path: str) -> bytes:
        """The bytes of the module's source, or of a resource beside it."""
        if path != self.path:
            return super().get_data(path)
        source = self._sources.read(path)
        if b"\0" in source:  # what compile() raises for it names no file
            line = source.count(b"\n", 0, source.index(b"\0")) + 1
            raise SyntaxError("source code cannot contain null bytes", (path, line, None, None))
        _remember_lines(path, source)
        return source


def _remember_lines(path: str, source: bytes) -> None:
    """Let tracebacks and `inspect.getsource` show what runs."""
    try:
        lines = io.StringIO(decode_source(source)).readlines()
    except (SyntaxError, UnicodeDecodeError):
        return  # compile() tells it with file and line
    linecache.cache[path] = (len(source), None, lines, path)  # no time: never compared with the disk
