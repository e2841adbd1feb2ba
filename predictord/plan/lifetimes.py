"""How long values live that a function handles: one request, or longer. Names decide; flow does not matter."""

import ast
import builtins
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum

from predictord.plan.code import Code
from predictord.plan.items import Function
from predictord.plan.trees import nodes_in

_BUILTINS = frozenset(dir(builtins))
_ACCESSORS = {"get", "items", "values", "setdefault", "pop", "popitem", "popleft", "__getitem__"}
_PICKS = {"next", "max", "min", "getattr", "vars"}
_SHALLOW_COPIES = {
    "list",
    "tuple",
    "sorted",
    "reversed",
    "zip",
    "enumerate",
    "map",
    "filter",
    "dict",
    "set",
    "iter",
    "copy",
}


_BINDING = (
    ast.Assign, ast.AnnAssign, ast.NamedExpr, ast.AugAssign, ast.For, ast.AsyncFor, ast.comprehension, ast.withitem,
    ast.ExceptHandler, ast.MatchAs, ast.MatchStar, ast.MatchMapping, ast.alias, ast.FunctionDef,
    ast.AsyncFunctionDef, ast.Lambda, ast.Call,
)  # fmt: skip


class Lifetime(IntEnum):
    """What a value may lead to."""

    REQUEST = 0
    HOLDS = 1
    """Made by this request, but with parts that outlive it."""
    KEPT = 2
    """Outlives the request."""


@dataclass
class Given:
    """What functions get and give, by function name, and by parameter; the worst of all calls."""

    parameters: dict[tuple[str, str], Lifetime] = field(default_factory=dict)
    results: dict[str, Lifetime] = field(default_factory=dict)

    def total(self) -> int:
        """Grows with every change, so that a fixed point can be seen."""
        return sum(self.parameters.values()) + sum(self.results.values())


class Lifetimes:
    """The lifetimes of all names of one function body; `names` starts with its parameters."""

    def __init__(self, code: Code, nodes: Iterable[ast.AST], names: dict[str, Lifetime], given: Given) -> None:
        self._code = code
        self._given = given
        self.nodes = [child for node in nodes for child in nodes_in(node)]
        self._binding = [node for node in self.nodes if isinstance(node, _BINDING)]
        self.names = names
        shared = {name for node in self.nodes if isinstance(node, ast.Global) for name in node.names}
        for name in shared:
            names[name] = Lifetime.KEPT
        self.settle()

    def settle(self) -> None:
        """Follow assignments until nothing changes any more."""
        while True:
            before = dict(self.names)
            for node in self._binding:
                for name, lifetime in self._bindings(node):
                    self.names[name] = max(lifetime, self.names.get(name, Lifetime.REQUEST))
            if before == self.names:
                return

    def of(self, node: ast.AST | None) -> Lifetime:  # noqa: PLR0911 (a table of the grammar)
        """The lifetime of an expression's value."""
        match node:
            case ast.Name(id=name):
                return self.names.get(name, self._of_outer(name))
            case ast.Attribute(value=value) | ast.Subscript(value=value):
                return _part(self.of(value))
            case ast.Call():
                return self._of_call(node)
            case ast.IfExp(body=one, orelse=other):
                return max(self.of(one), self.of(other))
            case ast.BoolOp(values=values):
                return max(map(self.of, values))
            case ast.NamedExpr(value=value) | ast.Await(value=value) | ast.Starred(value=value):
                return self.of(value)
            case ast.List() | ast.Tuple() | ast.Set() | ast.Dict() | ast.BinOp():
                return self._of_whole(list(ast.iter_child_nodes(node)))
            case ast.ListComp(elt=part) | ast.SetComp(elt=part) | ast.GeneratorExp(elt=part):
                return self._of_whole([part])
            case ast.DictComp(key=key, value=value):
                return self._of_whole([key, value])
        return Lifetime.REQUEST

    def _of_outer(self, name: str) -> Lifetime:
        is_plain = name in self._code.plain_values or (name in _BUILTINS and name not in self._code.bound_names)
        return Lifetime.REQUEST if is_plain else Lifetime.KEPT

    def arguments(self, call: ast.Call) -> Lifetime:
        """The longest lifetime of what a call is given."""
        values = [*call.args, *(keyword.value for keyword in call.keywords)]
        return max(map(self.of, values), default=Lifetime.REQUEST)

    def _of_whole(self, parts: list[ast.AST]) -> Lifetime:
        values = [part for part in parts if isinstance(part, ast.expr)]
        return min(Lifetime.HOLDS, max(map(self.of, values), default=Lifetime.REQUEST))

    def _of_call(self, call: ast.Call) -> Lifetime:
        name = tail(call.func)
        if name in self._given.results:
            return self._given.results[name]
        if name in self._code.class_names or name in _SHALLOW_COPIES:
            receiver = self.of(call.func.value) if name == "copy" and isinstance(call.func, ast.Attribute) else 0
            return min(Lifetime.HOLDS, max(self.arguments(call), Lifetime(receiver)))
        if name in _PICKS:
            return _part(self.arguments(call))
        if name in _ACCESSORS and isinstance(call.func, ast.Attribute):
            return max(_part(self.of(call.func.value)), self.arguments(call))
        return Lifetime.REQUEST

    def _bindings(self, node: ast.AST) -> Iterator[tuple[str, Lifetime]]:
        match node:
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    yield from _targets(target, self.of(value))
            case ast.AnnAssign(target=target, value=ast.expr() as value) | ast.NamedExpr(target=target, value=value):
                yield from _targets(target, self.of(value))
            case ast.AugAssign(target=target, value=value):
                yield from _targets(target, min(Lifetime.HOLDS, self.of(value)))
            case (
                ast.For(target=target, iter=value)
                | ast.AsyncFor(target=target, iter=value)
                | ast.comprehension(target=target, iter=value)
            ):
                yield from _targets(target, _part(self.of(value)))
            case ast.withitem(context_expr=value, optional_vars=ast.expr() as target):
                yield from _targets(target, self.of(value))
            case ast.ExceptHandler(name=str(name)):
                yield name, Lifetime.REQUEST
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
                yield name, Lifetime.KEPT
            case ast.alias(name=name, asname=asname):
                yield asname or name.partition(".")[0], Lifetime.KEPT
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                yield from ((name, Lifetime.KEPT) for name in parameters_of(node))
                if not isinstance(node, ast.Lambda):
                    yield node.name, Lifetime.REQUEST
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name))) if name in self.names:
                yield name, min(Lifetime.HOLDS, self.arguments(node))


def tail(callee: ast.expr) -> str:
    """The last name of what is called."""
    return callee.attr if isinstance(callee, ast.Attribute) else getattr(callee, "id", "")


def parameters_of(node: Function | ast.Lambda) -> list[str]:
    """The names of all parameters, in order."""
    return [child.arg for child in nodes_in(node.args) if isinstance(child, ast.arg)]


def _part(whole: Lifetime) -> Lifetime:
    return Lifetime.KEPT if whole is not Lifetime.REQUEST else Lifetime.REQUEST


def _targets(target: ast.expr, lifetime: Lifetime) -> Iterator[tuple[str, Lifetime]]:
    match target:
        case ast.Name(id=name):
            yield name, lifetime
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            for part in parts:
                yield from _targets(part, _part(lifetime))
        case ast.Starred(value=value):
            yield from _targets(value, lifetime)
        case ast.Attribute(value=value) | ast.Subscript(value=value):
            root = value
            while isinstance(root, ast.Attribute | ast.Subscript):
                root = root.value
            if isinstance(root, ast.Name) and lifetime is not Lifetime.REQUEST:
                yield root.id, Lifetime.HOLDS
