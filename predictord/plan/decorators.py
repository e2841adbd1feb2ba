"""Decorators through which a function can be changed in place: they call it, and look at nothing else of it."""

import ast

from predictord.plan.code import Code, Definition
from predictord.plan.items import Function, functions_in

_HARMLESS = {
    "staticmethod", "classmethod", "property",
    "functools.lru_cache", "functools.cache",
    "contextlib.contextmanager", "contextlib.asynccontextmanager",
    "abc.abstractmethod", "typing.override", "typing.final",
    "torch.no_grad", "torch.inference_mode",
}  # fmt: skip
_MEMO = {"functools.lru_cache", "functools.cache"}
_PROPERTY_PARTS = {"setter", "getter", "deleter"}


def unsafe_decorator(code: Code, function: Definition) -> str | None:
    """The first decorator that may do more with the function than call it, or `None`."""
    for decorator in function.node.decorator_list:
        if not _is_harmless(code, function, decorator):
            return ast.unparse(decorator)
    return None


def is_memo(code: Code, function: Definition) -> bool:
    """Whether the function's answers are kept by `lru_cache`."""
    source = code.sources[function.path]
    return any(source.dotted(_target(decorator)) in _MEMO for decorator in function.node.decorator_list)


def _target(decorator: ast.expr) -> ast.expr:
    return decorator.func if isinstance(decorator, ast.Call) else decorator


def _is_harmless(code: Code, function: Definition, decorator: ast.expr) -> bool:
    target = _target(decorator)
    dotted = code.sources[function.path].dotted(target) or ""
    tail = dotted.rpartition(".")[2]
    own = [found for found in code.functions if found.node.name == tail]
    if own or tail in code.class_names:
        is_one = len(own) == 1 and own[0].owner is None and not own[0].node.decorator_list
        return is_one and isinstance(target, ast.Name) and _merely_calls(own[0].node, decorator)
    if isinstance(target, ast.Attribute) and target.attr in _PROPERTY_PARTS:
        return isinstance(target.value, ast.Name) and target.value.id == function.node.name
    return dotted in _HARMLESS


def _merely_calls(wrapper: Function, decorator: ast.expr) -> bool:
    """Whether an author's own decorator uses the function only to call it from within another, later."""
    if isinstance(decorator, ast.Call):
        inner = [found for node in wrapper.body for _, found in functions_in(node)]
        returned = [node.value for node in wrapper.body if isinstance(node, ast.Return)]
        if len(inner) != 1 or [ast.unparse(value) for value in returned if value] != [inner[0].name]:
            return False
        wrapper = inner[0]
    parameters = wrapper.args.args
    if len(parameters) != 1 or wrapper.args.vararg or wrapper.args.kwonlyargs or wrapper.decorator_list:
        return False
    name = parameters[0].arg
    return all(_only_called(node, name, is_later=False) for node in wrapper.body)


def _only_called(node: ast.AST, name: str, is_later: bool) -> bool:
    match node:
        case ast.Name(id=found):
            return found != name
        case ast.Call(func=ast.Name(id=found), args=arguments, keywords=keywords) if found == name and is_later:
            return all(_only_called(part, name, is_later) for part in [*arguments, *keywords])
        case (
            ast.FunctionDef(body=body, decorator_list=decorators)
            | ast.AsyncFunctionDef(body=body, decorator_list=decorators)
        ):
            kept = [one for one in decorators if ast.unparse(one) not in (f"functools.wraps({name})", f"wraps({name})")]
            return all(_only_called(part, name, False) for part in [node.args, *kept]) and all(
                _only_called(part, name, True) for part in body
            )
    return all(_only_called(child, name, is_later) for child in ast.iter_child_nodes(node))
