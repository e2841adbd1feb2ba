"""Whether requests leave something behind that later requests see: a counter, a history, a model loaded on demand.

If they do, a worker that took new code in place differs from one that ran it from the
start. What library objects keep inside themselves is not looked at.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from predictord.plan.closure import LoadClosure
from predictord.plan.code import Code, Definition
from predictord.plan.items import Function, is_literal, statements
from predictord.plan.lifetimes import Given, Lifetime, Lifetimes, parameters_of, tail
from predictord.plan.mentions import names_in, opaque_part
from predictord.plan.trees import nodes_in

REQUEST_FUNCTIONS = ("predict", "post_predict")

_BUILDERS = {"__init__", "__new__", "__post_init__", "__init_subclass__", "__set_name__", "__class_getitem__"}
"""They write to an object that is only being made, or run at import."""
_MUTATORS = {
    "append", "extend", "insert", "remove", "pop", "popleft", "appendleft", "clear", "sort", "reverse", "update",
    "setdefault", "add", "discard", "popitem", "put", "put_nowait", "get_nowait", "setattr", "delattr", "__setattr__",
    "__setitem__", "heappush", "heappop", "heapreplace", "heappushpop", "next", "__next__", "send", "shuffle",
    "move_to_end", "subtract", "rotate", "exec", "eval",
}  # fmt: skip
_LEAVE_NOTHING = {
    "print", "debug", "info", "warning", "error", "exception", "critical", "log", "flush", "sleep", "synchronize",
}  # fmt: skip
_ITERATORS = {"iter", "count", "cycle", "map", "filter", "zip", "enumerate", "reversed", "open", "chain", "islice"}


def state_written(code: Code, closure: LoadClosure) -> str | None:
    """A sentence naming what request code writes and where; `None` if each request leaves nothing behind."""
    given = Given()
    scopes = list(_scopes(code, closure, given))
    total = -1
    while total != given.total():
        total = given.total()
        for scope in scopes:
            scope.spread()
    may_iterate = _makes_iterators(closure)
    return next((found for scope in scopes for found in scope.writes(may_iterate)), None)


def reachable(code: Code, names: set[str]) -> set[tuple[str, str]]:
    """The keys of all functions that code with these names can reach, by name and transitively."""
    found: set[tuple[str, str]] = set()
    seen: set[str] = set()
    while names:
        seen |= names
        names = names | {
            dotted.rpartition(".")[2]
            for source in code.sources.values()
            for name, dotted in source.origins.items()
            if name in names
        }
        builders = {found.name + "." + name for found in code.classes if found.node.name in names for name in _BUILDERS}
        joined = [one for one in code.functions if one.node.name in names or one.name in builders]
        joined = [one for one in joined if one.key not in found]
        found.update(one.key for one in joined)
        names = ({name for one in joined for name in names_in(one.node)} | names) - seen
    return found


def _scopes(code: Code, closure: LoadClosure, given: Given) -> Iterator["_Scope"]:
    """All request code: what requests call, Python calls for them, or loading has put away for later."""
    captured = {name for node in closure.nodes for name in _captured(code, node, in_class_body=True)}
    dunders = {
        one.node.name for one in code.functions if one.node.name.startswith("__") and one.node.name not in _BUILDERS
    }
    keys = reachable(code, {*REQUEST_FUNCTIONS, *captured, *dunders})
    if any(one.key in keys and opaque_part(one.node) for one in code.functions):
        keys = {one.key for one in code.functions if one.key not in closure.functions or one.key in keys}
    for function in code.functions:
        if function.key in keys:
            is_called_with_kept = function.node.name in captured | dunders or _has_mutable_default(function.node)
            yield _Scope(code, function, given, is_called_with_kept)
    for node in closure.nodes:
        for inner in (child for child in nodes_in(node) if isinstance(child, Function | ast.Lambda)):
            yield _Scope(code, inner, given, True)


@dataclass
class _Scope:
    """One function that may run in a request."""

    code: Code
    function: Definition | Function | ast.Lambda
    given: Given
    is_called_with_kept: bool

    def __post_init__(self) -> None:
        node = self.function.node if isinstance(self.function, Definition) else self.function
        self._name = getattr(node, "name", "")
        worst = Lifetime.KEPT if self.is_called_with_kept else Lifetime.REQUEST
        self._parameters = parameters_of(node)
        names = dict.fromkeys(self._parameters, worst)
        if isinstance(self.function, Definition) and self.function.owner is not None and self._parameters:
            names[self._parameters[0]] = Lifetime.REQUEST if self._name in _BUILDERS else Lifetime.KEPT
        body = [node.body] if isinstance(node, ast.Lambda) else statements(node)
        self._lifetimes = Lifetimes(self.code, body, names, self.given)

    def spread(self) -> None:
        """Take in what calls give to this function, and tell what this function gives to others."""
        for name in self._parameters:
            taken = self.given.parameters.get((self._name, name), Lifetime.REQUEST)
            self._lifetimes.names[name] = max(taken, self._lifetimes.names[name])
        self._lifetimes.settle()
        for node in self._lifetimes.nodes:
            match node:
                case ast.Return(value=ast.expr() as value) | ast.Yield(value=ast.expr() as value):
                    _raise(self.given.results, self._name, self._lifetimes.of(value))
                case ast.Call():
                    self._give(node)

    def _give(self, call: ast.Call) -> None:
        """Carry the arguments of a call to the parameters of every project function that it may go to."""
        name = tail(call.func)
        name = "__init__" if name in self.code.class_names else name
        values = [(None, one) for one in call.args] + [(keyword.arg, keyword.value) for keyword in call.keywords]
        for function in self.code.named(name):
            parameters = parameters_of(function.node)
            by_position = parameters[1:] if function.owner is not None and not _is_static(function) else parameters
            for position, (keyword, value) in enumerate(values):
                if keyword in parameters:
                    taking = [str(keyword)]
                elif keyword is None and position < len(by_position) and not isinstance(value, ast.Starred):
                    taking = [by_position[position]]
                else:
                    taking = parameters
                for parameter in taking:
                    _raise(self.given.parameters, (name, parameter), self._lifetimes.of(value))
        for captured in {one for argument in values for one in _captured(self.code, argument[1])}:
            for function in self.code.named(captured):
                for parameter in parameters_of(function.node):
                    _raise(self.given.parameters, (captured, parameter), Lifetime.KEPT)

    def writes(self, may_iterate: bool) -> Iterator[str]:
        """What this function writes that outlives a request, as sentences."""
        name = self.function.name if isinstance(self.function, Definition) else self._name or "a lambda"
        for node in self._lifetimes.nodes:
            if what := self._written(node) or (self._consumed(node) if may_iterate else None):
                yield f"requests change {what} in {name}()"

    def _written(self, node: ast.AST) -> str | None:  # noqa: PLR0911 (a table of the grammar)
        of = self._lifetimes.of
        match node:
            case (
                ast.Attribute(value=value, ctx=ast.Store() | ast.Del())
                | ast.Subscript(value=value, ctx=ast.Store() | ast.Del())
            ) if of(value) is Lifetime.KEPT:
                return ast.unparse(node)
            case ast.AugAssign(target=ast.Name(id=name) as target) if of(_loaded(target)) is Lifetime.KEPT:
                return name
            case ast.Global(names=names):
                return names[0]
            case ast.Nonlocal(names=names) if not isinstance(self.function, Definition):
                return names[0]
            case ast.Call() if self._mutates(node):
                return ast.unparse(node.func)
            case ast.Expr(value=ast.Call() as call) | ast.Expr(value=ast.Await(value=ast.Call() as call)):
                return ast.unparse(call.func) if self._acts_on_kept(call) else None
        return None

    def _mutates(self, call: ast.Call) -> bool:
        """Whether a call changes what outlives the request, or gives it code of ours to remember answers of."""
        receiver = call.func.value if isinstance(call.func, ast.Attribute) else None
        if receiver is None or self._is_module(receiver):
            return tail(call.func) in _MUTATORS and self._lifetimes.arguments(call) is Lifetime.KEPT
        if self._lifetimes.of(receiver) is not Lifetime.KEPT or self._is_own(call):
            return False
        return tail(call.func) in _MUTATORS or _gives_code(self.code, call)

    def _acts_on_kept(self, call: ast.Call) -> bool:
        """Whether a call whose result nobody uses is given, or made on, something that outlives the request."""
        if tail(call.func) in _LEAVE_NOTHING or self._is_own(call):
            return False
        receiver = call.func.value if isinstance(call.func, ast.Attribute) else None
        if receiver is not None and not self._is_module(receiver):
            if self._lifetimes.of(receiver) is Lifetime.KEPT:
                return True
            if tail(call.func) in _MUTATORS:  # of a container that dies with the request
                return False
        return self._lifetimes.arguments(call) is Lifetime.KEPT

    def _consumed(self, node: ast.AST) -> str | None:
        """An iterator made while loading may be used up by requests."""
        match node:
            case ast.For(iter=value) | ast.AsyncFor(iter=value) | ast.comprehension(iter=value):
                return ast.unparse(value) if self._lifetimes.of(value) is not Lifetime.REQUEST else None
            case ast.Call(func=ast.Name(id=name)) if name in _ITERATORS or name in ("list", "tuple", "sorted", "sum"):
                return ast.unparse(node) if self._lifetimes.arguments(node) is not Lifetime.REQUEST else None
        return None

    def _is_module(self, receiver: ast.expr) -> bool:
        """Whether a call goes to a function of a module, whose insides are not looked at."""
        known = {name for source in self.code.sources.values() for name in source.origins}
        return isinstance(receiver, ast.Name) and receiver.id in known and receiver.id not in self._parameters

    def _is_own(self, call: ast.Call) -> bool:
        """Whether a call goes to project code, which is looked at itself."""
        if isinstance(call.func, ast.Attribute):
            base = ast.unparse(call.func.value)
            is_ours = base in ("self", "cls", "super()") or self._is_module(call.func.value)
            return is_ours and call.func.attr in self.code.function_names
        return tail(call.func) in self.code.function_names


def _captured(code: Code, node: ast.AST, *, in_class_body: bool = False) -> Iterator[str]:
    """Project functions that code mentions without calling them; a bare name is a method's only in a class body."""
    called = {id(child.func) for child in nodes_in(node) if isinstance(child, ast.Call)}
    for child in nodes_in(node):
        if (
            not isinstance(child, ast.Name | ast.Attribute)
            or id(child) in called
            or not isinstance(child.ctx, ast.Load)
        ):
            continue
        is_bare = isinstance(child, ast.Name) and not in_class_body
        if any(function.owner is None or not is_bare for function in code.named(tail(child))):
            yield tail(child)


def _gives_code(code: Code, call: ast.Call) -> bool:
    """Whether a call is given a project function or a lambda to keep, or to call with what it likes."""
    values = [*call.args, *(keyword.value for keyword in call.keywords)]
    return any(
        any(_captured(code, value)) or any(isinstance(child, ast.Lambda) for child in nodes_in(value))
        for value in values
    )


def _makes_iterators(closure: LoadClosure) -> bool:
    """Whether load code puts away or returns what can be iterated only once."""
    parts = [*closure.nodes, *(function.node for function in closure.functions.values())]
    nodes = [child for part in parts for child in nodes_in(part)]
    if any(isinstance(node, ast.Yield | ast.YieldFrom) for node in nodes):
        return True
    kept = (node.value for node in nodes if isinstance(node, ast.Assign | ast.AnnAssign | ast.Return))
    return any(
        isinstance(value, ast.GeneratorExp) or (isinstance(value, ast.Call) and tail(value.func) in _ITERATORS)
        for value in kept
    )


def _has_mutable_default(node: Function) -> bool:
    defaults = [one for one in (*node.args.defaults, *node.args.kw_defaults) if one is not None]
    return any(isinstance(one, ast.List | ast.Dict | ast.Set) or not is_literal(one) for one in defaults)


def _loaded(name: ast.Name) -> ast.Name:
    return ast.Name(name.id, ast.Load())


def _is_static(function: Definition) -> bool:
    return any(ast.unparse(one) == "staticmethod" for one in function.node.decorator_list)


def _raise(lifetimes: dict[Any, Lifetime], name: Any, to: Lifetime) -> None:
    lifetimes[name] = max(to, lifetimes.get(name, Lifetime.REQUEST))
