"""What changed between the files of two generations, or why that cannot be put into a living worker."""

import ast
import copy
from collections.abc import Iterator

from predictord.plan.additions import Additions
from predictord.plan.bindings import names_evaluated, require_bound_above
from predictord.plan.change import Action, Change, Refused
from predictord.plan.closure import LoadClosure, annotations_of, evaluated_parts
from predictord.plan.code import Class, Code, Definition, file_name
from predictord.plan.items import (
    Body,
    Function,
    Item,
    ItemKind,
    document_of,
    first_line,
    functions_in,
    is_literal,
    without_bodies,
)
from predictord.plan.state import REQUEST_FUNCTIONS
from predictord.plan.trees import structure_of


def changes_between(old: Code, new: Code, closure: LoadClosure) -> list[Change]:
    """Every change to a definition, in the order of the new files; raises `Refused` for the first that cannot be."""
    differ = _Differ(old, new, closure)
    for path, source in new.sources.items():
        if source is not old.sources[path]:
            differ.compare(path, old.sources[path].body, source.body, None)
    return differ.changes


class _Differ:
    def __init__(self, old: Code, new: Code, closure: LoadClosure) -> None:
        self._old = old
        self._new = new
        self._closure = closure
        self._additions = Additions(old, new, closure)
        self._definitions = {id(one.node): one for code in (old, new) for one in code.functions}
        self.changes: list[Change] = []

    def compare(self, path: str, old: Body, new: Body, owner: Class | None) -> None:
        """Compare a module's or class's body."""
        if old.document != new.document:
            self._document(path, owner.name if owner else "", owner)
        self._compare_order(path, old, new, owner)
        prefix = f"{owner.name}." if owner else ""
        names = dict.fromkeys(item.name for item in (*new.items, *old.items) if item.name)
        for name in names:
            before, after = old.named(name), new.named(name)
            if not before or not after:
                for item in before:
                    self._additions.judge_removed(path, owner, item)
                for item in after:
                    self._additions.judge_new(path, owner, item)
                self.changes += [_change(one, path, prefix, is_new=False) for one in before]
                self.changes += [_change(one, path, prefix, is_new=True) for one in after]
            elif [one.kind for one in before] != [one.kind for one in after]:
                raise Refused(f"{prefix}{name} is defined in another way")
            else:
                for one, other in zip(before, after, strict=True):
                    self._compare_items(path, one, other, owner)
        actives = ([one.node for one in body.items if one.kind is ItemKind.ACTIVE] for body in (old, new))
        for one, other in zip(*actives, strict=True):
            pairs = zip(functions_in(one), functions_in(other), strict=True)
            for (_, before_node), (_, after_node) in pairs:
                self._compare_functions(before_node, after_node)

    def _compare_items(self, path: str, old: Item, new: Item, owner: Class | None) -> None:
        if _same(old.node, new.node):
            return
        match old.node, new.node:
            case (
                ast.FunctionDef() | ast.AsyncFunctionDef() as one,
                ast.FunctionDef() | ast.AsyncFunctionDef() as other,
            ):
                self._compare_functions(one, other)
            case ast.ClassDef(), ast.ClassDef() if old.body is not None and new.body is not None:
                found = next(one for one in self._new.classes if one.node is new.node)
                self.compare(path, old.body, new.body, found)
            case ast.Assign() | ast.AnnAssign(), ast.Assign() | ast.AnnAssign():
                self._additions.require_free(path, old.name, owner)
                if _annotation(old.node) != _annotation(new.node):
                    raise Refused(f"the annotation of {old.name} changed")
                name = f"{owner.name}.{new.name}" if owner else new.name
                self.changes.append(Change(Action.REVALUED, path, name, new.node.lineno))
            case _:
                self._additions.judge_removed(path, owner, old)
                self._additions.judge_new(path, owner, new)
                self.changes.append(Change(Action.IMPORTED, path, new.name, new.node.lineno))

    def _compare_functions(self, old_node: Function, new_node: Function) -> None:
        if _same(old_node, new_node):
            return
        old, new = self._definitions[id(old_node)], self._definitions[id(new_node)]
        if document_of(old_node) != document_of(new_node) and _same(_undocumented(old_node), _undocumented(new_node)):
            self._document(old.path, old.name, None, line=first_line(new_node))
            return
        if why := self._closure.reason(old):
            raise Refused(why)
        if not all(map(_same, old_node.decorator_list, new_node.decorator_list)) or len(old_node.decorator_list) != len(
            new_node.decorator_list
        ):
            raise Refused(f"the decorators of {old.place} changed")
        if old_node.name in REQUEST_FUNCTIONS and type(old_node) is not type(new_node):
            raise Refused(f"{old.place} changes between def and async def, and its server with it")
        if old_node.decorator_list and not _same(old_node.args, new_node.args):
            # functools.wraps has copied the old signature, which the contract check reads.
            raise Refused(f"{old.place} has decorators, and its parameters changed")
        if old_node.decorator_list and _needs_class(old_node) is not _needs_class(new_node):
            raise Refused(f"{old.place} has decorators, and begins or ends to use super()")
        self._judge_head(old, new)
        if document_of(old_node) != document_of(new_node):
            self._document(old.path, old.name, None, line=first_line(new_node))
        self.changes.append(Change(Action.CHANGED, old.path, old.name, first_line(new_node)))

    def _judge_head(self, old: Definition, new: Definition) -> None:
        defaults = defaults_of(old.node)
        for name, default in defaults_of(new.node).items():
            if not is_literal(default) and not (name in defaults and _same(default, defaults[name])):
                raise Refused(f"the default of {name} in {new.place} is computed")
        if self._new.sources[new.path].postpones_annotations:
            return
        known = {ast.dump(one) for one in annotations_of(old.node)}
        fresh = [one for one in annotations_of(new.node) if ast.dump(one) not in known]
        require_bound_above(self._new, new.path, fresh, new.node.lineno)

    def _document(self, path: str, name: str, owner: Class | None, line: int = 0) -> None:
        for reader in ("__doc__", "getdoc"):
            if reader in self._closure.mentions:
                raise Refused(f"a docstring changed, and {reader} is named in {self._closure.mentions[reader]}")
        if owner is not None and (foreign := self._new.foreign_part(owner)):
            raise Refused(f"the docstring of {owner.name} changed, which its {foreign} may have read")
        if (path, name) in self._closure.joined and owner is None and name:
            raise Refused(self._closure.joined[path, name])
        self.changes.append(Change(Action.DOCUMENTED, path, name, line))

    def _compare_order(self, path: str, old: Body, new: Body, owner: Class | None) -> None:
        """Refuse if what runs at import differs, or runs in another order relative to what it may depend on."""
        common = {item.name for item in old.items} & {item.name for item in new.items}
        reshaped = {
            name
            for name in common
            for one, other in zip(old.named(name), new.named(name), strict=False)
            if isinstance(one.node, Function) and isinstance(other.node, Function)
            if not _same(_without_body(one.node), _without_body(other.node))
        }
        before = list(self._fixed(path, self._old, old, common - reshaped))
        after = list(self._fixed(path, self._new, new, common - reshaped))
        where = f"class {owner.name}" if owner else file_name(path)
        texts, other_texts = [text for text, _ in before], [text for text, _ in after]
        for known, items, fate in ((texts, after, "new"), (other_texts, before, "gone")):
            for text, node in items:
                if text not in known:
                    raise Refused(f"`{_excerpt(node)}` in {where} runs at import, and is {fate}")
        for (text, node), (other_text, _) in zip(before, after, strict=False):
            if text != other_text:
                raise Refused(f"`{_excerpt(node)}` in {where} may matter at import, and moved")
        if len(before) != len(after):
            raise Refused(f"the module level of {where} runs something another number of times")

    def _fixed(self, path: str, code: Code, body: Body, names: set[str]) -> Iterator[tuple[str, ast.stmt]]:
        """The items that keep their place: what runs, and what that may look at."""
        for item in body.items:
            match item.node:
                case node if item.kind is ItemKind.ACTIVE:
                    yield ast.dump(without_bodies(node)), node
                case ast.ClassDef() as node if item.name in names:
                    head = [*node.bases, *node.keywords, *node.decorator_list]
                    yield " ".join((f"class {node.name}", *map(ast.dump, head))), node
                case ast.FunctionDef() | ast.AsyncFunctionDef() as node if item.name in names:
                    if item.name in self._closure.mentions or self._evaluates(path, code, node):
                        yield f"def {item.name}", node
                case node if item.name in names and item.name in self._closure.mentions:
                    yield item.name, node

    def _evaluates(self, path: str, code: Code, node: Function) -> bool:
        source = code.sources[path]
        parts = evaluated_parts(self._definitions[id(node)], source.postpones_annotations)
        return bool(names_evaluated(source.body, parts))


def defaults_of(node: Function) -> dict[str, ast.expr]:
    """The default of each parameter that has one."""
    arguments = node.args
    by_position = [*arguments.posonlyargs, *arguments.args]
    count = len(arguments.defaults)
    found = dict(zip((one.arg for one in by_position[len(by_position) - count :]), arguments.defaults, strict=True))
    found |= {one.arg: value for one, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if value}
    return found


def _change(item: Item, path: str, prefix: str, *, is_new: bool) -> Change:
    if item.kind is ItemKind.IMPORT:
        action = Action.IMPORTED if is_new else Action.FORGOTTEN
    else:
        action = Action.ADDED if is_new else Action.REMOVED
    return Change(action, path, prefix + item.name, first_line(item.node))


def _same(one: ast.AST, other: ast.AST) -> bool:
    return structure_of(one) == structure_of(other)


def _without_body(node: Function) -> ast.AST:
    return _with_body(node, [])


def _undocumented(node: Function) -> ast.AST:
    return _with_body(node, node.body[1:] if document_of(node) is not None else node.body)


def _with_body(node: Function, body: list[ast.stmt]) -> ast.AST:
    other = copy.copy(node)
    other.body = body
    return other


def _needs_class(node: Function) -> bool:
    return any(isinstance(child, ast.Name) and child.id in ("super", "__class__") for child in ast.walk(node))


def _annotation(node: ast.stmt) -> str | None:
    return ast.dump(node.annotation) if isinstance(node, ast.AnnAssign) else None


def _excerpt(node: ast.stmt) -> str:
    return ast.unparse(without_bodies(node)).splitlines()[0][:60] if not hasattr(node, "name") else f"{node.name}"
