"""The load closure: all code that may run, and all names that may be looked up, between import and *ready*.

What no code ran and no code named until then cannot have shaped the predictor's state, so
new code there acts as if it had always been there. Names decide, not objects: whoever
mentions `pad` reaches every project function of that name. The closure is read from the
old sources alone; whatever belongs to it has to be the same in the new ones.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

from predictord.plan.code import Class, Code, Definition, file_name
from predictord.plan.decorators import unsafe_decorator
from predictord.plan.escapes import escape
from predictord.plan.items import ItemKind, is_literal, statements, without_bodies
from predictord.plan.mentions import names_in, opaque_part

DEFAULT_CLASS_NAMES = ("PythonPredictor", "Predictor")
CONTRACT_NAMES = ("max_batch_size", "batch_interval", "concurrency")
Ran = frozenset[tuple[str, str]]
_UNPICKLING = ("pickle", "joblib", "dill")


@dataclass(frozen=True)
class Clauses:
    """The parts of the rule; tests switch one off and have to find the harm."""

    follows_mentions: bool = True
    reads_module_level: bool = True
    joins_dunders: bool = True
    finds_escapes: bool = True
    finds_opaque: bool = True
    finds_state: bool = True


ALL_CLAUSES = Clauses()


@dataclass
class LoadClosure:
    """`mentions` has each name that load code mentions, with the place; `joined` has functions in it for other reasons.

    `opaque` is a sentence when load code may reach any name. `nodes` is all the code;
    `functions` are those of it that are defined at module or class level.
    """

    mentions: dict[str, str] = field(default_factory=dict)
    joined: dict[tuple[str, str], str] = field(default_factory=dict)
    opaque: str | None = None
    nodes: list[ast.AST] = field(default_factory=list)
    functions: dict[tuple[str, str], Definition] = field(default_factory=dict)

    def reason(self, function: Definition) -> str | None:
        """Why load code depends on a function, or `None` if it does not."""
        name = function.node.name
        if name in self.mentions and function.key not in self.joined:
            return f"{name} is named in {self.mentions[name]}"
        return self.joined.get(function.key)


def load_closure(
    code: Code, class_name: str | None, clauses: Clauses = ALL_CLAUSES, ran: Ran = frozenset()
) -> LoadClosure:
    """Everything that loading reaches; `class_name` is the predictor class if one was chosen.

    `ran` has the files and names of functions that are known to have run, whatever the source shows.
    """
    return _Reader(code, clauses).read(DEFAULT_CLASS_NAMES if class_name is None else (class_name,), ran)


class _Reader:
    def __init__(self, code: Code, clauses: Clauses) -> None:
        self._code = code
        self._clauses = clauses
        self._found = LoadClosure()
        self._fresh: list[str] = []

    def read(self, predictor_names: tuple[str, ...], ran: Ran) -> LoadClosure:
        for name in (*predictor_names, *CONTRACT_NAMES):
            self._mention(name, "the start of every worker")
        for found in self._code.classes:
            if "predict" in {item.name for item in found.body.items}:
                self._mention(found.node.name, "the start of every worker")
        if self._clauses.reads_module_level:
            for place, node in _module_level(self._code):
                self._add(node, place)
        else:
            for function in self._code.functions:
                if function.node.name == "__init__":
                    self._join(function, None)
        self._join_by_kind()
        for function in self._code.functions:
            if function.key in ran:
                self._join(function, f"{function.place} ran while loading")
        self._spread()
        while self._clauses.finds_escapes and self._follow_escapes():
            self._spread()
        return self._found

    def _mention(self, name: str, place: str) -> None:
        if name not in self._found.mentions:
            self._found.mentions[name] = place
            self._fresh.append(name)

    def _add(self, node: ast.AST, place: str) -> None:
        self._found.nodes.append(node)
        for name in names_in(node):
            self._mention(name, place)
        if self._clauses.finds_opaque and self._found.opaque is None and (part := opaque_part(node)):
            self._found.opaque = f"{part} in {place} may reach any name"

    def _join(self, function: Definition, why: str | None) -> None:
        """Take a function in; `why` is `None` when its name alone says so."""
        if why is not None:
            self._found.joined.setdefault(function.key, why)
        if function.key not in self._found.functions:
            self._found.functions[function.key] = function
            for node in statements(function.node):
                self._add(node, function.place)

    def _join_by_kind(self) -> None:
        for function in self._code.functions:
            if decorator := unsafe_decorator(self._code, function):
                self._join(function, f"{function.name} is given to @{decorator}")
            elif function.owner is None and _is_dunder(function.node.name):
                self._join(function, f"{function.name} is looked up by Python itself")
        for found in self._code.classes:
            if foreign := self._code.foreign_part(found):
                for method in self._code.methods(found):
                    self._join(method, f"{method.name}() may be called by the {foreign} of class {found.name}")

    def _spread(self) -> None:
        """Follow each new name to the functions and classes that bear it, until nothing is new."""
        while self._fresh:
            name = self._fresh.pop()
            if not self._clauses.follows_mentions and self._found.mentions[name] != "the start of every worker":
                continue
            for function in self._code.functions:
                if function.node.name == name:
                    self._join(function, None)
            for found in self._code.classes:
                if self._clauses.joins_dunders and (found.node.name == name or _unpickles(name)):
                    self._join_dunders(found)
            for source in self._code.sources.values():
                if name in source.origins:
                    self._mention(source.origins[name].rpartition(".")[2], self._found.mentions[name])

    def _join_dunders(self, found: Class) -> None:
        for method in self._code.methods(found):
            name = method.node.name
            if _is_dunder(name):
                how = "" if name == "__init__" else f", which makes or looks at {found.name}"
                self._join(method, f"{method.name}() may run while loading{how}")

    def _follow_escapes(self) -> bool:
        """Take in all methods of the classes whose objects other people's code gets; says whether that is news."""
        named = {name for name in self._code.class_names if name in self._found.mentions}
        inside = [function.node for function in self._found.functions.values()]
        culprit = escape(self._code, [*self._found.nodes, *inside], named)
        size = len(self._found.functions)
        for found in self._code.classes if culprit else ():
            if found.node.name in named:
                for method in self._code.methods(found):
                    self._join(method, f"{method.name}() may be called by {culprit}, which is given its object")
        return len(self._found.functions) > size


def _module_level(code: Code) -> Iterator[tuple[str, ast.AST]]:
    """What runs at import: active items, class heads, and what `def` lines evaluate."""
    for path, owner, item in code.items():
        body = f"the body of class {owner.name}" if owner else f"the module level of {file_name(path)}"
        match item.kind, item.node:
            case ItemKind.ACTIVE, node:
                yield body, without_bodies(node)
            case ItemKind.CLASS, ast.ClassDef() as node:
                for part in (*node.bases, *node.keywords, *node.decorator_list):
                    yield f"the head of class {node.name}", part
            case ItemKind.CONSTANT, ast.AnnAssign(annotation=annotation):
                yield body, annotation
    for function in code.functions:
        for part in evaluated_parts(function, code.sources[function.path].postpones_annotations):
            yield f"the head of {function.place}", part


def evaluated_parts(function: Definition, postpones_annotations: bool) -> list[ast.expr]:
    """Decorators, computed defaults and annotations: what runs when the function is defined."""
    arguments = function.node.args
    defaults = [*arguments.defaults, *arguments.kw_defaults]
    # Applying a decorator is a call.
    applied = [ast.Call(decorator, [], []) for decorator in function.node.decorator_list]
    parts = [*applied, *(one for one in defaults if one is not None and not is_literal(one))]
    return parts if postpones_annotations else parts + annotations_of(function.node)


def annotations_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.expr]:
    """The annotations of all parameters and of the result."""
    parameters = (child.annotation for child in ast.walk(node.args) if isinstance(child, ast.arg))
    return [one for one in (*parameters, node.returns) if one is not None]


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _unpickles(name: str) -> bool:
    return name.startswith("load") or any(part in name for part in _UNPICKLING)
