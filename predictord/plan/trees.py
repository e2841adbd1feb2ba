"""What is asked of syntax trees again and again; an answer is kept for as long as its tree is.

Files that did not change keep their trees from one plan to the next, and so what was found out.
"""

import ast
from collections.abc import Callable
from functools import wraps
from typing import TypeVar
from weakref import WeakKeyDictionary

Answer = TypeVar("Answer")


def remembered(ask: Callable[[ast.AST], Answer]) -> Callable[[ast.AST], Answer]:
    """Ask only once of each node; an answer must not hold the node, or neither would ever go."""
    answers: WeakKeyDictionary[ast.AST, Answer] = WeakKeyDictionary()

    @wraps(ask)
    def answer(node: ast.AST) -> Answer:
        try:
            return answers[node]
        except KeyError:
            found = answers[node] = ask(node)
            return found

    return answer


def nodes_in(node: ast.AST) -> tuple[ast.AST, ...]:
    """A node and all below it, from the top."""
    return node, *_below(node)


@remembered
def structure_of(node: ast.AST) -> str:
    """What a node says, wherever it stands: equal for two that mean the same."""
    return ast.dump(node)


@remembered
def _below(node: ast.AST) -> tuple[ast.AST, ...]:
    _, *others = ast.walk(node)
    return tuple(others)
