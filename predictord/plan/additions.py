"""Whether a name may be added, removed or bound anew in a living module or class."""

import ast
import sys

from predictord.plan.bindings import bound_by_active, is_star_imported, require_bound_above
from predictord.plan.change import Refused
from predictord.plan.closure import LoadClosure, annotations_of
from predictord.plan.code import Class, Code, file_name
from predictord.plan.items import Body, Function, Item, ItemKind, is_literal

_SIDE_EFFECTS = {"antigravity", "this", "idlelib", "turtle", "turtledemo", "tkinter", "site", "rlcompleter", "readline"}
_PLAIN_DECORATORS = {
    "staticmethod", "classmethod", "property", "functools.lru_cache", "functools.cache",
    "contextlib.contextmanager", "contextlib.asynccontextmanager",
}  # fmt: skip


class Additions:
    """Judges names that exist in one generation only, or with another value; raises `Refused`."""

    def __init__(self, old: Code, new: Code, closure: LoadClosure) -> None:
        self._old = old
        self._new = new
        self._closure = closure
        self._imported_at_load = {
            name.partition(".")[0]
            for _, _, item in old.items()
            if item.kind in (ItemKind.IMPORT, ItemKind.ACTIVE)
            for node in ast.walk(item.node)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names])
        }

    def require_free(self, path: str, name: str, owner: Class | None) -> None:
        """Refuse a name that load code may have looked up, or whose binding others copy or watch."""
        if name in self._closure.mentions:
            raise Refused(f"{name} is named in {self._closure.mentions[name]}")
        if name.startswith("__") and name.endswith("__"):
            raise Refused(f"Python itself looks up {name}")
        if name == "predict":
            raise Refused("the predictor class is found by its predict()")
        for code in (self._old, self._new):
            body = _body_of(code, path, owner)
            if name in bound_by_active(body) or len(body.named(name)) > 1:
                raise Refused(f"{name} is bound more than once in {owner.name if owner else file_name(path)}")
            if owner is None and is_star_imported(code, path):
                raise Refused(f"{file_name(path)} is imported with *")
        if owner is not None:
            self._require_plain(owner)

    def judge_new(self, path: str, owner: Class | None, item: Item) -> None:
        """Refuse an item that cannot be made now as it would have been made at import."""
        self.require_free(path, item.name, owner)
        match item.node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() as node:
                self._judge_function(path, node)
            case ast.ClassDef() as node if owner is None and item.body is not None:
                self._judge_class(path, node, item.body)
            case ast.Assign():
                pass
            case ast.Import() | ast.ImportFrom() as node if owner is None:
                self._judge_import(node)
            case _:
                raise Refused(f"{item.name} is new and would have been set at import")

    def judge_removed(self, path: str, owner: Class | None, item: Item) -> None:
        """Refuse to remove what others may still hold or import."""
        self.require_free(path, item.name, owner)
        if item.kind is ItemKind.CLASS:
            raise Refused(f"class {item.name} was removed, and objects of it may exist")
        for other, source in self._new.sources.items():
            for node in ast.walk(source.tree):
                if isinstance(node, ast.ImportFrom) and item.name in {one.name for one in node.names} and other != path:
                    raise Refused(f"{item.name} was removed, and {file_name(other)} still imports the name")

    def _judge_function(self, path: str, node: Function) -> None:
        source = self._new.sources[path]
        for decorator in node.decorator_list:
            target = decorator.func if isinstance(decorator, ast.Call) else decorator
            dotted = source.dotted(target) or ""
            if dotted not in _PLAIN_DECORATORS or dotted in self._new.function_names | self._new.class_names:
                raise Refused(f"@{ast.unparse(decorator)} of the new {node.name}() runs code")
            require_bound_above(self._new, path, [target], node.lineno)
        for default in (*node.args.defaults, *node.args.kw_defaults):
            if default is not None and not is_literal(default):
                raise Refused(f"the new {node.name}() has a computed default")
        if not source.postpones_annotations:
            require_bound_above(self._new, path, annotations_of(node), node.lineno)

    def _judge_class(self, path: str, node: ast.ClassDef, body: Body) -> None:
        source = self._new.sources[path]
        found = next(one for one in self._new.classes if one.node is node)
        if node.keywords or self._new.foreign_part(found) or not self._has_plain_bases(found):
            raise Refused(f"the new class {node.name} has a base, metaclass or decorator that runs code")
        heads = [*node.bases, *(one.func if isinstance(one, ast.Call) else one for one in node.decorator_list)]
        require_bound_above(self._new, path, heads, node.lineno)
        for item in body.items:
            match item.node:
                case ast.FunctionDef() | ast.AsyncFunctionDef() as method if item.name != "predict":
                    self._judge_function(path, method)
                case ast.AnnAssign(annotation=annotation, value=value) if value is None or is_literal(value):
                    if not source.postpones_annotations:
                        require_bound_above(self._new, path, [annotation], node.lineno)
                case ast.Assign() if item.kind is ItemKind.CONSTANT:
                    pass
                case _:
                    raise Refused(f"the body of the new class {node.name} runs code")

    def _judge_import(self, node: ast.Import | ast.ImportFrom) -> None:
        module = node.names[0].name if isinstance(node, ast.Import) else node.module or ""
        top = module.partition(".")[0]
        is_own = isinstance(node, ast.ImportFrom) and node.level > 0
        is_own = is_own or any(path.endswith((f"/{top}.py", f"/{top}/__init__.py")) for path in self._old.sources)
        if not is_own and top in sys.stdlib_module_names and top not in _SIDE_EFFECTS:
            return
        if not is_own and top not in self._imported_at_load:
            raise Refused(f"`{ast.unparse(node)}` would load a module that no worker has loaded")

    def _require_plain(self, owner: Class) -> None:
        found = next((one for one in self._old.classes if (one.path, one.name) == (owner.path, owner.name)), owner)
        if self._old.foreign_part(found) or found.node.decorator_list or not self._has_plain_bases(found):
            raise Refused(f"class {owner.name} has a base, metaclass or decorator that may watch its attributes")
        if any(one.body.named("__slots__") or one.body.named("__init_subclass__") for one in self._family(found)):
            raise Refused(f"class {owner.name} was built with __slots__ or __init_subclass__")

    def _family(self, found: Class) -> list[Class]:
        source = self._old.sources[found.path]
        bases = [source.dotted(base) or "" for base in found.node.bases]
        own = [one for dotted in bases for one in self._old.classes_meant(found.path, dotted) if one is not found]
        return [found, *(ancestor for one in own for ancestor in self._family(one))]

    def _has_plain_bases(self, found: Class) -> bool:
        code = self._new if found in self._new.classes else self._old
        for base in found.node.bases:
            dotted = code.sources[found.path].dotted(base) or ""
            own = code.classes_meant(found.path, dotted)
            is_builtin = not own and dotted != "abc.ABC" and not dotted.startswith("typing.")
            if not (is_builtin or all(one is not found and self._has_plain_bases(one) for one in own)):
                return False
        return not found.node.keywords


def _body_of(code: Code, path: str, owner: Class | None) -> Body:
    if owner is None:
        return code.sources[path].body
    found = next((one for one in code.classes if (one.path, one.name) == (path, owner.name)), owner)
    return found.body
