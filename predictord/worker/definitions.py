"""Making from new source what a module or class would have got from it at import, without running the rest."""

import ast
import copy
import importlib.util
import sys
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any

from predictord.plan.code import Definition
from predictord.plan.diff import defaults_of
from predictord.plan.items import Function

_FUTURE_ANNOTATIONS = 0x1000000
"""`CO_FUTURE_ANNOTATIONS`."""


class Maker:
    """Evaluates parts of one file's new source as its living module sees them.

    `made` has what this swap adds to the module and is not there yet.
    """

    def __init__(self, module: ModuleType, postpones_annotations: bool) -> None:
        self._module = module
        self._flags = _FUTURE_ANNOTATIONS if postpones_annotations else 0
        self.made: dict[str, Any] = {}

    def value(self, expression: ast.expr) -> Any:
        """The value of a literal, or of a name that is bound above."""
        wrapped = ast.fix_missing_locations(ast.Expression(copy.deepcopy(expression)))
        return eval(self._compile(wrapped, "eval"), self._names())  # noqa: S307 (the author's own source)

    def imported(self, node: ast.Import | ast.ImportFrom, name: str) -> Any:
        """What an import binds, of modules that are loaded or belong to the standard library. Raises `LookupError`."""
        module = self.module_of(node)
        if module not in sys.modules and module.partition(".")[0] not in sys.stdlib_module_names:
            raise LookupError(f"{module} is not loaded")
        names = self._names()
        exec(self._compile(ast.Module([node], []), "exec"), names)  # noqa: S102
        return names[name]

    def class_(self, node: ast.ClassDef) -> Any:
        """A new class; its methods see the module itself."""
        names = dict(self.made)
        exec(self._compile(ast.Module([node], []), "exec"), vars(self._module), names)  # noqa: S102
        return names[node.name]

    def function(self, definition: Definition, code: CodeType, owner: type | None) -> Any:
        """A new function with its decorators."""
        node = definition.node
        defaults, keyword_defaults = self.defaults(node, {}, {})
        cells = tuple(CellType(owner) for _ in code.co_freevars)
        found: Any = FunctionType(code, vars(self._module), node.name, defaults, cells)
        found.__kwdefaults__ = keyword_defaults
        found.__annotations__ = self.annotations(node, {}, {})
        for decorator in reversed(node.decorator_list):
            found = self.value(decorator)(found)
        return found

    def defaults(
        self, node: Function, old: dict[str, ast.expr], live: dict[str, Any]
    ) -> tuple[tuple[Any, ...] | None, dict[str, Any] | None]:
        """Defaults by position and by keyword; those whose source is as in `old` keep their live value."""
        found = {
            name: live[name] if name in live and _same(old.get(name), value) else self.value(value)
            for name, value in defaults_of(node).items()
        }
        keywords = {one.arg for one in node.args.kwonlyargs}
        by_position = tuple(value for name, value in found.items() if name not in keywords)
        return by_position or None, {name: found[name] for name in found if name in keywords} or None

    def annotations(self, node: Function, old: dict[str, ast.expr], live: dict[str, Any]) -> dict[str, Any]:
        """Annotations by parameter; those whose source is as in `old` keep their live value."""
        return {
            name: live[name]
            if name in live and _same(old.get(name), value)
            else (ast.unparse(value) if self._flags else self.value(value))
            for name, value in annotations_by_name(node).items()
        }

    def _names(self) -> dict[str, Any]:
        return {**vars(self._module), **self.made}

    def _compile(self, tree: ast.Module | ast.Expression, mode: str) -> CodeType:
        path = self._module.__file__ or ""
        code: CodeType = compile(tree, path, mode, flags=self._flags, dont_inherit=True)
        return code

    def module_of(self, node: ast.Import | ast.ImportFrom) -> str:
        """The full name of the module that an import of one name loads."""
        if isinstance(node, ast.Import):
            return node.names[0].name
        return importlib.util.resolve_name("." * node.level + (node.module or ""), self._module.__package__)


def annotations_by_name(node: Function) -> dict[str, ast.expr]:
    """The annotation of each parameter that has one, in Python's order, and of `return`."""
    arguments = node.args
    ordered = [*arguments.posonlyargs, *arguments.args, arguments.vararg, *arguments.kwonlyargs, arguments.kwarg]
    found = {one.arg: one.annotation for one in ordered if one is not None and one.annotation is not None}
    return found | ({"return": node.returns} if node.returns is not None else {})


def live_defaults(function: FunctionType) -> dict[str, Any]:
    """The default values that a living function has, by parameter."""
    code, defaults = function.__code__, function.__defaults__ or ()
    names = code.co_varnames[: code.co_argcount]
    return dict(zip(names[len(names) - len(defaults) :], defaults, strict=True)) | (function.__kwdefaults__ or {})


def _same(one: ast.expr | None, other: ast.expr) -> bool:
    return one is not None and ast.dump(one) == ast.dump(other)
