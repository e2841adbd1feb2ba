"""Predictors and edits made at random, full of the ways in which load code can depend on a function."""
# ruff: noqa: E501 (a table of one-line snippets)

import random
import re
from collections.abc import Callable
from typing import NamedTuple

from predictord.generation import Generation
from tests.plan.generations import generation

Random = random.Random

INIT: list[str] = [
    "self.x = {k}", "self.x = {k}", "self.x = self.{m}({k})", "self.x = {f}({k})", "self.x = A", "self.x = self.T",
    "self.f = self.{m}", "self.f = functools.partial(self.{m})", "self.f = lambda v: self.{m}(v)",
    "self.f = lambda v: v + {k}", "self.x = getattr(self, '{m}')({k})", "self.x = getattr(self, 'm' + '{d}')({k})",
    "self.x = operator.methodcaller('{m}', {k})(self)", "self.x = eval('self.{m}')({k})", "self.x = '{{0.p}}'.format(self)",
    "self.x = hasattr(self, 'extra')", "self.x = hasattr(self, 'm4')", "self.x = sorted(n for n in vars(type(self)) if n[0] != '_')",
    "self.box = Box({k})", "self.x = Box({k}).area()", "self.x = len(Box({k}))", "self.x = len(self)", "self.x = Box({k})({k})",
    "self.x = caselib.hooked(self)", "self.x = caselib.hooked(Box({k}))", "b = Box({k})\n        self.x = caselib.hooked(b)",
    "self.x = caselib.hooked(make({k}))", "caselib.kept = self", "self.x = caselib.by_data()", "self.x = caselib.by_data()",
    "self.x = self.predict({k})", "self.x = pickle.loads(pickle.dumps(Box({k})))[0]", "self.g = gen({k})", "self.g = iter(range({k}, 99))",
    "t = threading.Thread(target=self.note, args=({k},)); t.start(); t.join()", "self.c = closure({k})", "self.x = self.p",
    "self.x = Point().norm()", "self.x = memo({k})", "self.x = self.cached", "self.x = {f}.__doc__", "self.x = {f}.__defaults__",
    "self.x = inspect.signature(self.{m}).parameters.__len__()", "from helper import {h} as alias; self.x = alias({k})",
    "self.x = helper.{h}({k})", "self.x = globals()['{f}']({k})", "self.x = self.kind({k})", "self.x = self.fixed({k})",
    "match Point():\n            case Point(x=0): self.x = 0\n            case _: self.x = {k}", "self.x = Child({k}).area()",
    "self.x = [self.{m}(i) for i in range({k})]", "self.x = decorated({k})", "self.x = type(self).m0(self, {k})",
]  # fmt: skip
HIDDEN: list[str] = [
    "self.x = caselib.by_data()", "self.x = caselib.hooked(self)", "self.x = caselib.hooked(make({k}))",
    "b = Box({k})\n        self.x = caselib.hooked(b)", "self.x = len(Box({k}))", "self.x = Box({k})({k})", "self.x = len(self)",
    "self.x = getattr(self, 'm' + '{d}')({k})", "self.x = eval('self.' + 'm{d}')({k})", "self.x = self.m0({k})",
]  # fmt: skip
"""The ways of INIT that the source shows least."""
PREDICT: list[str] = [
    "self.{m}(p)", "self.{m}(p)", "{f}(p)", "{f}(p)", "helper.{h}(p)", "A", "B", "self.T", "self.f(p)", "self.box.area()",
    "Box(p).area()", "len(Box(p))", "Box(p)(p)", "self.p", "self.kind(p)", "self.fixed(p)", "memo(p)", "memo2(p)", "decorated(p)",
    "closure(p)()", "Point(p).norm()", "Point().norm()", "self.cached", "next(self.g)", "self.c()", "conditional(p)", "kw()", "kw(p)",
    "getattr(self, 'm' + '{d}')(p)", "sorted([{f}(p), {k}])", "Child(p).area()", "self.label()", "list(gen(p))[:2]", "self.x", "C", "D",
    "self.wrapped(p)", "self.lazy(p)", "bump(p)", "grow(p)", "self.count(p)", "self.remember(p)", "self.registered(p)", "len([p, {k}])",
    "SEEN.setdefault('k', []).append(p) or len(SEEN['k'])", "make(p).area()", "hasattr(self, 'extra')", "self.late(p)", "{f}.__defaults__",
    "star(p)", "S", "len([i for i in zip(self.g, 'abc')])", "type(self).__doc__", "caselib.kept is not None and caselib.kept.m0(p)",
]  # fmt: skip
TOP: list[str] = [
    "C = A * {k}", "C = {k}", "D = f0({k})", "g0 = f1", "D = [f2(i) for i in range({k})]", "f1 = mark(f1)", "D = len('x' * {k})",
    "Predictor.m1 = lambda self, v: v + {k}", "if A > {k}:\n    D = {k}", "for D in range({k}): pass", "D = Box({k}).area()",
    "caselib.registry.append(f0)", "D = {{'f': f1}}['f']({k})", "globals()['D'] = {k}",
]  # fmt: skip
HELPER = """
import functools
A = {k}
S = {k}
SEEN = {{}}

def h0(v):
    return h1(v) + {k}

def h1(v):
    return v * {k} + A

def star(v):
    return v + {k}
"""
BODY = """
import caselib, functools, inspect, operator, pickle, threading
import helper
from helper import A, h0{star}
from dataclasses import dataclass
B = {k}
SEEN = {{}}
TOTAL = {k}

def mark(function):
    @functools.wraps(function)
    def inside(*a):
        return function(*a) + {k}
    return inside

def register(function):
    {registering}
    return function

def f0(v):
    return f1(v) + {k}

def f1(v, w={k}):
    return f2(v) * {k} + w

def f2(v):
    "Doc {k}."
    return v + {const}

@functools.lru_cache
def memo(v):
    return {f}(v) + {k}

@functools.lru_cache(maxsize=None)
def memo2(v):
    return v + B + {k}

@mark
def decorated(v):
    return v + {k}

def kw(v={k}, *, w={default}):
    return v + w

def gen(v):
    yield v
    yield f2(v)
    yield {k}

def closure(v):
    n = {k}
    def inside():
        {nonlocal}
        return v + n
    return inside

def make(v):
    return Box(v)

def bump(v):
    {bump}
    return v + {k}

def grow(v, seen=[]):
    {grow}
    return len(seen) + v

if B > {k}:
    def conditional(v):
        return v + {k}
else:
    def conditional(v):
        return v - {k}

class Box:
    sides = {k}

    def __init__(self, v):
        self.v = v

    def area(self):
        return self.v * {k} + self.sides

    def on_event(self):
        return {k}

    def __len__(self):
        return {k}

    def __call__(self, v):
        return v + {k}

    def __getitem__(self, i):
        return i + {k}

class Child(Box):
    def __init__(self, v):
        super().__init__(v + {k})

@dataclass
class Point:
    x: int = {k}

    def norm(self):
        return self.x + {k}

class Root{root}:
    def __init_subclass__(cls):
        cls.made = {k}

    def label(self):
        return {k}

class Predictor{base}:
    "Class {k}."
    T = {k}
    {classline}

    def __init__(self, config):
        self.f = self.c = self.g = self.box = self.x = None
        self.n = {k}
        self.seen = []
        {init}

    def m0(self, v):
        return self.m1(v) + {k}

    def m1(self, v):
        return {f}(v) + {k}

    def m2(self, v):
        return v + self.T + {k}

    def m3(self, v, w={k}):
        return v * w

    def note(self, v):
        self.x = self.m2(v)

    def on_event(self):
        return self.m3({k})

    @property
    def p(self):
        return {k}

    @functools.cached_property
    def cached(self):
        return {k}

    @classmethod
    def kind(cls, v):
        return v + {k}

    @staticmethod
    def fixed(v):
        return v + {k}

    @mark
    def wrapped(self, v):
        return v + {k}

    @register
    def registered(self, v):
        return v + {k}

    def lazy(self, v):
        {lazy}
        return {k}

    def count(self, v):
        {count}
        return {k}

    def remember(self, v):
        {remember}
        return {k}

    def late(self, v):
        import helper as late
        return late.h1(v)

    def __len__(self):
        return {k}

    def predict(self, p):
        out = []
        {predict}
        return out

{top}
"""


class Theme(NamedTuple):
    """What a case is about: statements of `__init__`, expressions of predict, parts, and where numbers change."""

    init: tuple[str, ...] = ()
    predict: tuple[str, ...] = ()
    parts: tuple[tuple[str, str], ...] = ()
    near: tuple[str, ...] = ()


STATEFUL = (
    ("remember", "self.seen.append(self.m3(v)); return list(self.seen)"),
    ("lazy", "if self.x is None: self.x = self.m2(v)"),
    ("count", "self.n += self.m3(v); return self.n"),
)
THEMES = (
    Theme(),
    Theme(),
    Theme(init=("self.x = caselib.by_data()",), near=("f0", "f1", "f2", "make", "conditional")),
    Theme(init=tuple(HIDDEN), near=("on_event", "__len__", "__call__", "__getitem__", "m1", "m2", "m3")),
    Theme(predict=("self.remember(p)", "self.lazy(p)", "self.count(p)"), parts=STATEFUL, near=("m2", "m3")),
)


def make_case(seed: int) -> tuple[Generation, Generation, str, str]:
    """Two generations, what a library will look up by data, and what was edited."""
    random = Random(seed)
    theme = random.choice(THEMES)
    old = {"predictor.py": _body(random, theme), "helper.py": _filled(HELPER, random)}
    new, names = dict(old), []
    for _ in range(random.choice((1, 1, 1, 1, 2, 3))):
        file = random.choice(("predictor.py",) * 5 + ("helper.py",))
        if theme.near and random.random() < 0.7:
            names.append("change a number near")
            new["predictor.py"] = change_a_number(new["predictor.py"], random, theme.near)
        else:
            edit = random.choice(EDITS)
            names.append(edit.__name__)
            new[file] = edit(new[file], random)
    by_data = random.choice(("f0", "f1", "f2", "conditional", "make"))
    return generation(old), generation(new), by_data, ", ".join(names)


def _filled(text: str, random: Random, **parts: str) -> str:
    text = text.format_map(_Blanks(random, parts))
    return re.sub("@K@", lambda _: str(random.randint(1, 9)), text)


class _Blanks(dict[str, str]):
    def __init__(self, random: Random, parts: dict[str, str]) -> None:
        super().__init__(parts)
        self._random = random

    def __missing__(self, key: str) -> str:
        pools = {
            "k": ["@K@"],
            "f": ["f0", "f1", "f2"],
            "h": ["h0", "h1"],
            "m": ["m0", "m1", "m2", "m3"],
            "d": list("0123"),
        }
        return self._random.choice(pools[key])


def _body(random: Random, theme: Theme) -> str:
    rarely: Callable[[str, str], str] = lambda text, other: text if random.random() < 0.12 else other  # noqa: E731
    init = "\n        ".join(_filled(one, random) for one in random.sample(INIT, random.choice((0, 1, 1, 1, 2))))
    if theme.init:
        init = _filled(random.choice(theme.init), random)
    stored = ["self.x", random.choice(("self.f(p)", "self.c()", "self.box.area()"))]
    stored += random.sample(theme.predict, min(1, len(theme.predict)))
    predict = [_answer(_filled(one, random)) for one in [*stored, *random.sample(PREDICT, random.randint(0, 4))]]
    parts = {
        "f": "f2",
        "star": rarely(", S\nfrom helper import *", ""),
        "const": random.choice(("@K@", "A", "B")),
        "registering": rarely("caselib.registry.append(function.__name__)", "pass"),
        "default": rarely("A", "@K@"),
        "bump": rarely("global TOTAL; TOTAL += 1; return TOTAL", "pass"),
        "grow": rarely("seen.append(v)", "pass"),
        "root": rarely("(caselib.Base)", ""),
        "base": random.choice(("", "", "(Root)")),
        "classline": rarely("made_of = f2(@K@)", "pass"),
        "nonlocal": rarely("nonlocal n; n += 1", "pass"),
        **{name: rarely(text, "pass") for name, text in STATEFUL},
        **dict(theme.parts),
        "init": init or "pass",
        "predict": "\n        ".join(predict),
        "top": "\n".join(_filled(one, random) for one in random.sample(TOP, random.choice((0, 0, 1)))),
    }
    return _filled(BODY, random, **parts)


def _answer(expression: str) -> str:
    return f"try: out.append({expression})\n        except Exception as error: out.append(type(error).__name__)"


# --- edits: a text in, a text out, sometimes one that does not even parse


def change_a_number(text: str, random: Random, names: tuple[str, ...] = ()) -> str:
    """In functions of these names, else wherever `__init__` leads, else anywhere."""
    found = [*re.finditer(r"\b\d\b", text)]
    blocks = [*re.finditer(r"def (\w+).*?(?=\n\n)", text, re.DOTALL)]
    if not names:
        start = text.find("def __init__(self, config)")
        names = tuple(re.findall(r"[a-zA-Z]\w*", text[start : text.find("def m0(")]))
    near = [one for block in blocks if block[1] in names for one in found if block.start() < one.start() < block.end()]
    one = random.choice(near if near and random.random() < 0.8 else found)
    return text[: one.start()] + str(random.randint(1, 9)) + text[one.end() :]


def change_a_call(text: str, random: Random) -> str:
    found = [*re.finditer(r"\b([fmh])([0-3])\(", text)]
    if not found:
        return text
    one = random.choice(found)
    return text[: one.start(2)] + random.choice("0123") + text[one.end(2) :]


def add_a_function(text: str, random: Random) -> str:
    name = random.choice(("f4", "len", "extra", "A2", "S", "star", "sorted"))
    at = text.index("\ndef ")
    return f"{text[:at]}\ndef {name}(v, w=3):\n    return 5\n{text[at:]}"


def add_a_method(text: str, random: Random) -> str:
    name = random.choice(("m4", "extra", "on_event", "label", "__eq__", "__call__", "hook", "area"))
    places = [found.start() for found in re.finditer(r"\n    def m[0-3]|\n    def area", text)]
    if not places:
        return text
    at = random.choice(places)
    return f"{text[:at]}\n    def {name}(self, *v):\n        return {random.choice(('7', 'super().label()', 'self.T'))}\n{text[at:]}"


def add_a_name(text: str, random: Random) -> str:
    line = random.choice(
        (
            "B2 = 3",
            "C = 3",
            "D = 4",
            "import json",
            "from collections import Counter",
            "S = 5",
            "h1 = 5",
            "import xmlrpc.client",
        )
    )
    at = text.index("\ndef ")
    return f"{text[:at]}\n{line}\n{text[at:]}"


def remove_a_block(text: str, random: Random) -> str:
    blocks = re.findall(r"\n(?:    )?(?:@\S+\n\s*)*def .*?(?=\n\n)", text, re.DOTALL)
    return text.replace(random.choice(blocks), "", 1)


def move_a_block(text: str, random: Random) -> str:
    blocks = re.findall(r"\n\n(?:@\S+\n)*(?:def|class) .*?(?=\n\n(?:@|def|class|if)|\Z)", text, re.DOTALL)
    if len(blocks) < 2:
        return text
    one, other = random.sample(blocks, 2)
    return text.replace(one, "", 1).replace(other, other + one, 1)


def rename(text: str, random: Random) -> str:
    name = random.choice(("f0", "f1", "f2", "m0", "m1", "m2", "m3", "memo", "area", "norm", "kind", "B", "T"))
    return re.sub(rf"\b{name}\b", f"{name}x", text)


def change_a_decorator(text: str, random: Random) -> str:
    found = re.findall(r"\n *@\S+(?=\n)", text)
    if not found:
        return text
    return text.replace(random.choice(found), random.choice(("", "\n    @staticmethod", "\n@mark")), 1)


def add_a_comment(text: str, random: Random) -> str:
    lines = text.split("\n")
    lines.insert(random.randrange(len(lines)), "# a comment")
    return "\n".join(lines)


def change_a_docstring(text: str, random: Random) -> str:
    return re.sub(r'"(Doc|Class) \d', rf'"\1 {random.randint(1, 9)}', text)


def add_a_statement(text: str, random: Random) -> str:
    line = _answer(_filled(random.choice([*PREDICT, "setattr(self, 'n', self.n + 1) or self.n"]), random, f="f2"))
    return text.replace("out = []", f"out = []\n        {line}", 1)


def use_the_class(text: str, random: Random) -> str:
    name = random.choice(("label", "on_event", "m2"))
    return re.sub(rf"(def {name}\(self.*?\):\n        return )", r"\1len(super().__repr__()) * 0 + ", text, count=1)


def add_a_default(text: str, random: Random) -> str:
    return re.sub(
        r"def (f2|m2|area|kind)\((\w+)(, v)?\)",
        rf"def \1(\2\3, extra={random.choice(('3', 'B', '[]'))})",
        text,
        count=1,
    )


def add_to_init(text: str, random: Random) -> str:
    return text.replace("self.seen = []", "self.seen = []\n        " + _filled(random.choice(INIT), random, f="f2"), 1)


EDITS: list[Callable[[str, Random], str]] = [
    change_a_number, change_a_number, change_a_number, change_a_number, change_a_number, change_a_number, change_a_call,
    add_a_function, add_a_method, add_a_name, remove_a_block, move_a_block, rename, change_a_decorator, add_a_comment,
    change_a_docstring, add_a_statement, use_the_class, add_a_default, add_to_init,
]  # fmt: skip
