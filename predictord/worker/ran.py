"""Records which functions really ran while the predictor was loaded: the second net under the plan.

The plan reads from the source what loading reaches. A library that looks code up by data
(a configuration file that names a method) is beyond it, so each function that loading
should not reach is compiled with a mark in front for as long as loading lasts. Functions
that loading does reach stay as they are: compilers such as torch's may look at them.
"""

import ast
import builtins
import gc
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import CodeType, FunctionType, ModuleType, TracebackType
from typing import Any

from predictord.generation import Generation
from predictord.plan.closure import load_closure
from predictord.plan.code import Code
from predictord.plan.items import document_of
from predictord.worker.code_pairs import compile_source, in_step

_MARK = "__predictord_ran__"


class Ran:
    """Wrap it around loading: `with Ran(generation) as ran: load_predictor(...)`."""

    def __init__(self, generation: Generation) -> None:
        self._ran: set[str] = set()
        self._foreseen: set[tuple[str, str]] = set()
        self._files = generation.files
        self._marked: dict[str, dict[int, str]] = {}
        self._compiled: dict[str, CodeType] = {}
        self._names: set[str] = set()
        try:
            code = Code(generation.files)
            closure = load_closure(code, generation.class_name)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return  # loading will say so
        for function in code.functions:
            marks = self._marked.setdefault(function.path, {})
            if closure.reason(function) is None:
                marks[function.node.lineno] = function.name
            else:
                self._foreseen.add(function.key)

    def did(self, path: str, name: str) -> bool:
        """Whether a function ran while loading, or may have, since nobody watched it."""
        return path not in self._compiled or (path, name) in self._foreseen | self.unforeseen

    @property
    def unforeseen(self) -> frozenset[tuple[str, str]]:
        """Files and names of the functions that ran though the source does not show it."""
        return frozenset((path, name) for path, _, name in (one.rpartition(":") for one in self._ran))

    def __enter__(self) -> "Ran":
        setattr(builtins, _MARK, self._ran.add)
        sys.meta_path.insert(0, self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sys.meta_path.remove(self)
        # By name, since to look at every module would be to copy the memory that a zygote shares.
        found = map(sys.modules.get, self._names)
        modules = [module for module in found if isinstance(module, ModuleType)]
        clean: dict[CodeType, CodeType] = {}
        for path, marked in self._compiled.items():
            clean.update(in_step(marked, compile_source(path, self._files[path])))
        for function in gc.get_referrers(*map(vars, modules)) if modules else ():
            if type(function) is FunctionType and function.__code__ in clean:
                function.__code__ = clean[function.__code__]

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module as the other finders do; a project file's loader compiles with marks."""
        for finder in [one for one in sys.meta_path if one is not self and hasattr(one, "find_spec")]:
            spec: ModuleSpec | None = finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.origin in self._marked and isinstance(spec.loader, SourceFileLoader):
                    spec.loader.source_to_code = self._compile  # type: ignore[assignment, method-assign]
                    self._names.add(fullname)
                return spec
        return None

    def _compile(self, data: bytes, path: str, **_: Any) -> CodeType:
        compile(data, path, "exec", dont_inherit=True)  # tells its warnings
        marked = compile_source(path, self._with_marks(data, path))
        self._compiled[path] = marked
        return marked

    def _with_marks(self, data: bytes, path: str) -> ast.Module:
        tree = ast.parse(data)
        marks = self._marked[path]
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.lineno in marks:
                call = ast.parse(f"{_MARK}({f'{path}:{marks[node.lineno]}'!r})").body[0]
                for part in ast.walk(call):
                    ast.copy_location(part, node)
                node.body.insert(0 if document_of(node) is None else 1, call)
        return tree
