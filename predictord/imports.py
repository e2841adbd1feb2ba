"""Which installed modules a predictor's code imports, and what speaks against importing them ahead of it.

Like project.py, this reads source text and the names of files, and never runs anything.
"""

import ast
import os
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from importlib.machinery import PathFinder

from predictord.project import imports_of

_SITE_FOLDERS = ("site-packages", "dist-packages")

# What predictord needs itself is small: a worker that imports no more starts soonest by itself.
_LIGHT = {"anyio", "click", "dotenv", "httpx", "msgspec", "orjson", "predictord", "pydantic", "rich", "starlette"}
_LIGHT |= {"typing_extensions", "uvicorn", "uvloop", "yaml"}
_CHANGES = ("clear", "pop", "popitem", "setdefault", "update")
_CHANGE_FUNCTIONS = ("load_dotenv", "putenv", "unsetenv")


def installed_imports(files: Mapping[str, bytes], search: Sequence[str]) -> tuple[str, ...]:
    """The dotted names under installed packages that the files import; `from a import b` is `a.b`.

    `search` is the worker's `sys.path`. The standard library is left out: what is heavy
    there comes with the packages. Empty unless one of the packages is likely to be slow.
    """
    names = {name.removesuffix(".*") for source in files.values() for level, name in imports_of(source) if level == 0}
    tops = {top for top in map(_top, names) if top not in sys.stdlib_module_names and is_installed(top, search)}
    if tops <= _LIGHT:
        return ()
    return tuple(sorted(name for name in names if _top(name) in tops))


def is_installed(name: str, search: Sequence[str]) -> bool:
    """Whether importing this top-level name runs files of site-packages alone, and not an author's (editable) ones."""
    try:
        spec = PathFinder.find_spec(name, list(search))
    except (ImportError, ValueError):
        return False
    if spec is None:
        return False
    places = [spec.origin] if spec.origin else list(spec.submodule_search_locations or ())
    return bool(places) and all(any(f"/{folder}/" in place for folder in _SITE_FOLDERS) for place in places)


def installed_packages() -> dict[str, int]:
    """The `*.dist-info` folders on `sys.path` and their modification times: differs after pip has done something."""
    found = {}
    for folder in sys.path:
        if os.path.basename(folder) in _SITE_FOLDERS and os.path.isdir(folder):
            with os.scandir(folder) as entries:
                found.update({e.path: e.stat().st_mtime_ns for e in entries if e.name.endswith(".dist-info")})
    return found


def environment_change(source: bytes) -> int | None:
    """The first line that changes this process's environment variables, which later imports may read."""
    if b"environ" not in source and not any(name.encode() in source for name in _CHANGE_FUNCTIONS):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None  # the worker that loads it says so
    return min(_changing_lines(ast.walk(tree)), default=None)


def _changing_lines(nodes: Iterable[ast.AST]) -> list[int]:
    return [getattr(node, "lineno", 0) for node in nodes if _changes_environment(node)]


def _changes_environment(node: ast.AST) -> bool:
    if isinstance(node, ast.Subscript):  # os.environ["A"] = "b", del os.environ["A"]
        return not isinstance(node.ctx, ast.Load) and _tail(node.value) == "environ"
    if isinstance(node, ast.AugAssign):
        return _tail(node.target) == "environ"
    if isinstance(node, ast.Call):
        function = node.func
        on_environ = isinstance(function, ast.Attribute) and _tail(function.value) == "environ"
        return _tail(function) in (_CHANGES if on_environ else _CHANGE_FUNCTIONS)
    return False


def _tail(node: ast.expr) -> str | None:
    return getattr(node, "attr", None) or getattr(node, "id", None)


def _top(name: str) -> str:
    return name.partition(".")[0]
