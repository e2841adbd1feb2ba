"""What is read from a predictor class before it is built."""

import importlib.util
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import pytest

from predictord.errors import PredictorError
from predictord.wire import WorkerOptions
from predictord.worker.contract import Contract, Kind, build, find_class, read_contract

EMPTY = inspect.Parameter.empty
Load = Callable[..., ModuleType]
BATCHED = WorkerOptions(max_batch_size=8)


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Write a module into a fresh folder and import it."""
    monkeypatch.syspath_prepend(tmp_path)
    made = []

    def load_module(source: str, name: str = "predictor_under_test") -> ModuleType:
        path = tmp_path / f"{name}.py"
        path.write_text(textwrap.dedent(source))
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        made.append(name)
        spec.loader.exec_module(module)
        return module

    yield load_module
    for name in made:
        sys.modules.pop(name, None)


@pytest.fixture
def read(load: Load) -> Callable[..., Contract]:
    """The contract of a predictor whose class body is given."""

    def read_body(body: str, options: WorkerOptions | None = None, head: str = "") -> Contract:
        source = head + "class Predictor:\n" + textwrap.indent(textwrap.dedent(body), "    ")
        return read_contract(find_class(load(source), None), options or WorkerOptions())

    return read_body


# --- which class


@pytest.mark.parametrize(
    ("source", "chosen", "found"),
    [
        ("class Predictor: ...\nclass PythonPredictor: ...", None, "PythonPredictor"),
        ("class Predictor: ...\nclass Other:\n  def predict(self): ...", None, "Predictor"),
        ("class Ask: ...\nclass Model:\n  def predict(self): ...", None, "Model"),
        ("class Model:\n  predict = print\nSame = Model", None, "Model"),
        ("class A: ...\nclass B: ...\nPredictor = {'a': A, 'b': B}['b']", None, "B"),
        ("from fractions import Fraction\nclass A:\n  def predict(self): ...", "Fraction", "Fraction"),
        ("class Predictor: ...\nclass Other: ...", "Other", "Other"),
    ],
)
def test_finds_the_class(load: Load, source: str, chosen: str | None, found: str) -> None:
    assert find_class(load(source), chosen).__name__ == found


def test_an_alias_of_an_imported_class_counts_and_a_plain_import_does_not(load: Load) -> None:
    load("class Shared:\n  def predict(self): ...", name="shared_under_test")

    assert find_class(load("import shared_under_test\nModel = shared_under_test.Shared"), None).__name__ == "Shared"
    with pytest.raises(PredictorError, match="no class has a predict method"):
        find_class(load("from shared_under_test import Shared"), None)


@pytest.mark.parametrize(
    ("source", "chosen", "words"),
    [
        ("x = 1", None, "no class has a predict method"),
        ("class A:\n  predict = len\nclass B(A): ...", None, "several classes have a predict method: A, B"),
        ("class A:\n  predict = len", "B", "there is no class B; classes with a predict method: A"),
        ("def run(): ...", "run", "run is not a class; classes with a predict method: none"),
    ],
)
def test_says_why_no_class_is_found(load: Load, source: str, chosen: str | None, words: str) -> None:
    module = load(source)
    with pytest.raises(PredictorError) as caught:
        find_class(module, chosen)
    assert str(caught.value).startswith(f"{module.__file__}:1: {words}")


# --- what its methods take


@pytest.mark.parametrize(
    ("body", "kind", "arguments"),
    [
        ("def predict(self): ...", Kind.SYNC, ()),
        ("def predict(self, payload, headers): ...", Kind.SYNC, ("payload", "headers")),
        ("def predict(self, *, request, query_params): ...", Kind.SYNC, ("request", "query_params")),
        ("def predict(self, payload=None, scale=2, *rest, **more): ...", Kind.SYNC, ("payload",)),
        ("def predict(self, /, payload): ...", Kind.SYNC, ("payload",)),
        ("async def predict(self, payload): ...", Kind.ASYNC, ("payload",)),
        ("def predict(self, payload): yield", Kind.GENERATOR, ("payload",)),
        ("async def predict(self, payload): yield", Kind.ASYNC_GENERATOR, ("payload",)),
        ("@staticmethod\ndef predict(payload): ...", Kind.SYNC, ("payload",)),
        ("@staticmethod\nasync def predict(payload): ...", Kind.ASYNC, ("payload",)),
        ("@classmethod\ndef predict(cls, payload): yield", Kind.GENERATOR, ("payload",)),
        ("@passing\ndef predict(self, payload): ...", Kind.SYNC, ("payload",)),
        ("@passing\nasync def predict(self, payload): ...", Kind.ASYNC, ("payload",)),
        ("@passing\n@passing\ndef predict(self, payload): yield", Kind.GENERATOR, ("payload",)),
        ("@naming\ndef predict(self, payload, secret): ...", Kind.SYNC, ("payload",)),
        ("@functools.lru_cache\ndef predict(self, payload): ...", Kind.SYNC, ("payload",)),
        ("predict = lambda self, payload: payload", Kind.SYNC, ("payload",)),
        ("predict = Callable()", Kind.ASYNC, ("payload",)),
        ("predict = functools.partial(Callable().__call__, payload=1)", Kind.ASYNC, ("payload",)),
        (
            "def run(self, n, payload): yield\npredict = functools.partialmethod(run, 3)",
            Kind.GENERATOR,
            ("payload",),
        ),
    ],
)
def test_reads_how_predict_is_called(
    read: Callable[..., Contract], body: str, kind: Kind, arguments: tuple[str, ...]
) -> None:
    head = textwrap.dedent(
        """
        import functools
        def passing(f):
            @functools.wraps(f)
            def wrapper(*args, **kwargs):
                return f(*args, **kwargs)
            return wrapper
        def naming(f):
            @functools.wraps(f)
            def wrapper(self, payload):
                return f(self, payload, "secret")
            return wrapper
        class Callable:
            async def __call__(self, payload): ...
        """
    )
    contract = read(body, head=head)
    assert (contract.kind, contract.arguments, contract.notes) == (kind, arguments, ())
    assert contract.is_async == ("async" in kind)


def test_reads_a_predict_inherited_from_another_file(load: Load) -> None:
    base = """
        from __future__ import annotations
        class Ask: ...
        class Base:
            max_batch_size = 2
            def predict(self, payload: list[Ask]): ...
        """
    load(base, name="base_under_test")
    module = load("from base_under_test import Base\nclass Predictor(Base): ...")

    contract = read_contract(module.Predictor, WorkerOptions())

    assert contract.class_name == "Predictor"
    assert contract.payload_annotation.__name__ == "Ask"
    assert contract.max_batch_size == 2


@pytest.mark.parametrize(
    ("body", "arguments"),
    [
        ("def predict(self): ...", None),
        ("def predict(self): ...\npost_predict = None", None),
        ("def predict(self): ...\ndef post_predict(self): ...", ()),
        ("def predict(self): ...\ndef post_predict(self, response, headers, n=1): ...", ("response", "headers")),
        ("def predict(self): yield\ndef post_predict(self, payload): ...", ("payload",)),
        ("async def predict(self): ...\ndef post_predict(self, request): ...", ("request",)),
        ("async def predict(self): ...\nasync def post_predict(self, response): ...", ("response",)),
    ],
)
def test_reads_what_post_predict_takes(
    read: Callable[..., Contract], body: str, arguments: tuple[str, ...] | None
) -> None:
    assert read(body).post_arguments == arguments


@pytest.mark.parametrize(
    ("init", "takes_config", "seen"),
    [
        ("pass", False, None),
        ("def __init__(self): self.seen = None", False, None),
        ("def __init__(self, config): self.seen = config", True, {"a": 1}),
        ("def __init__(self, config=None, *, other=3): self.seen = config", True, {"a": 1}),
        ("def __init__(self, **rest): self.seen = rest", False, {}),
        ("def __init__(self, *, config): self.seen = config", True, {"a": 1}),
    ],
)
def test_builds_with_the_config_that_init_takes(load: Load, init: str, takes_config: bool, seen: Any) -> None:
    cls = load(f"class Predictor:\n  {init}\n  def predict(self): ...").Predictor
    contract = read_contract(cls, WorkerOptions())

    predictor = build(cls, contract, {"a": 1})

    assert isinstance(predictor, cls)
    assert contract.init_takes_config is takes_config
    assert getattr(predictor, "seen", None) == seen


def test_a_c_type_as_base_needs_no_config(load: Load) -> None:
    cls = load("class Predictor(dict):\n  def predict(self): ...").Predictor
    assert build(cls, read_contract(cls, WorkerOptions()), {"a": 1}) == {}


# --- faults


@pytest.mark.parametrize(
    ("body", "line", "words"),
    [
        ("x = 1", 1, "Predictor has no predict method"),
        ("\npredict = 3", 3, "predict is int, not a method"),
        ("@property\ndef predict(self): return self.f", 3, "predict cannot be read before the predictor is built"),
        ("def predict(payload): ...", 2, "predict has no `self`"),
        ("def predict(): ...", 2, "predict has no `self`"),
        ("def predict(*, n): ...", 2, "predict has no `self`"),
        (
            "\ndef predict(self, text): ...",
            3,
            "predict's argument `text` cannot be filled;"
            " name it payload, query_params, headers or request, or give it a default",
        ),
        ("@staticmethod\ndef predict(\n    text): ...", 3, "predict's argument `text` cannot be filled"),
        ("def predict(self, payload, /): ...", 2, "predict's argument `payload` is passed by keyword; remove the `/`"),
        ("def predict(self, text, /): ...", 2, "predict's argument `text` cannot be filled"),
        ("def predict(self, response): ...", 2, "predict's argument `response` cannot be filled"),
        ("def predict(self): ...\ndef post_predict(self, answer): ...", 3, "post_predict's argument `answer` cannot"),
        ("def predict(self): ...\npost_predict = 1", 3, "post_predict is int, not a method"),
        ("def predict(self): ...\nasync def post_predict(self): ...", 3, "nobody would run a post_predict of kind"),
        ("async def predict(self): ...\ndef post_predict(self): yield", 3, "nobody would run a post_predict of kind"),
        ("def predict(self): ...\ndef __init__(self, model): ...", 3, "__init__'s argument `model` cannot be filled"),
        ("def predict(self): ...\ndef __init__(config): ...", 3, "__init__ has no `self`"),
        ("def predict(self): ...\nasync def __init__(self): ...", 3, "nobody would run an __init__ of kind async"),
        ("max_batch_size = 2\ndef predict(self): yield", 3, "predict is a generator, which cannot batch"),
        ("def predict(self): ...\nmax_batch_size = 0", 3, "max_batch_size is 0; it must be a whole number from 1 to"),
        ("def predict(self): ...\nmax_batch_size: int = True", 3, "max_batch_size is True; it must be"),
        ("def predict(self): ...\nconcurrency = '4'", 3, "concurrency is '4'; it must be a whole number from 1 to"),
        ("def predict(self): ...\nconcurrency = 5000", 3, "concurrency is 5000; it must be"),
        ("def predict(self): ...\nbatch_interval = '5ms'", 3, "batch_interval is '5ms'; it must be seconds, a number"),
        ("def predict(self): ...\nbatch_interval = float('nan')", 3, "batch_interval is nan; it must be"),
        ("def predict(self): ...\nbatch_interval = -1", 3, "batch_interval is -1; it must be"),
    ],
)  # fmt: skip
def test_says_where_and_what_to_do(load: Load, body: str, line: int, words: str) -> None:
    module = load("class Predictor:\n" + textwrap.indent(body, "    "))
    with pytest.raises(PredictorError) as caught:
        read_contract(module.Predictor, WorkerOptions())
    assert str(caught.value).startswith(f"{module.__file__}:{line}: {words}")


def test_an_abstract_class_is_told_by_its_missing_methods(load: Load) -> None:
    module = load(
        """
        import abc
        class Base(abc.ABC):
            @abc.abstractmethod
            def predict(self): ...
        class Predictor(Base):
            '''Defines nothing.'''
        """
    )
    with pytest.raises(PredictorError) as caught:
        read_contract(module.Predictor, WorkerOptions())
    assert str(caught.value) == f"{module.__file__}:6: Predictor is abstract and cannot be built; define predict"


# --- the type of payload


@pytest.mark.parametrize(
    ("annotation", "options", "expected"),
    [
        ("", WorkerOptions(), EMPTY),
        (": int", WorkerOptions(), int),
        (": 'Ask'", WorkerOptions(), "Ask"),
        (": Nested", WorkerOptions(), "Nested"),
        (": 'Nested'", WorkerOptions(), "Nested"),
        (": None", WorkerOptions(), type(None)),
        (": list[int]", WorkerOptions(), list[int]),
        (": Annotated[int, 'small']", WorkerOptions(), Annotated[int, "small"]),
        ("", BATCHED, EMPTY),
        (": Any", BATCHED, Any),
        (": list", BATCHED, EMPTY),
        (": list[int]", BATCHED, int),
        (": 'Sequence[Ask]'", BATCHED, "Ask"),
        (": Annotated[List[int], 'batch']", BATCHED, int),
    ],
)
@pytest.mark.parametrize("head", ["", "from __future__ import annotations\n"], ids=["eager", "postponed"])
def test_reads_the_type_of_payload(
    read: Callable[..., Contract], head: str, annotation: str, options: WorkerOptions, expected: Any
) -> None:
    head += "from typing import Annotated, Any, List\nfrom collections.abc import Sequence\nclass Ask: ...\n"
    body = f"class Nested: ...\ndef predict(self, payload{annotation}, n: 'Missing' = 1): ..."

    contract = read(body, options, head)

    found = contract.payload_annotation
    assert (found.__name__ if isinstance(expected, str) else found) == expected
    assert contract.notes == ()


@pytest.mark.parametrize(
    ("body", "options", "words"),
    [
        (
            "def predict(self, payload: 'Missing'): ...",
            WorkerOptions(),
            "'Missing' is ignored, since it cannot be eval",
        ),
        ("def predict(self, *args, **kwargs): ...", WorkerOptions(), "predict is given nothing"),
    ],
)
def test_notes_what_check_should_say(
    read: Callable[..., Contract], body: str, options: WorkerOptions, words: str
) -> None:
    contract = read(body, options)
    assert contract.payload_annotation is EMPTY
    assert len(contract.notes) == 1
    assert ".py:2: " in contract.notes[0] and words in contract.notes[0]


def test_a_batch_whose_payload_is_annotated_as_one_item_is_a_fault_for_check(read: Callable[..., Contract]) -> None:
    contract = read("def predict(self, payload: int): ...", BATCHED)
    assert (contract.payload_annotation, contract.notes) == (EMPTY, ())
    [fault] = contract.faults
    assert ".py:2: payload's annotation int is ignored, since payload is a list when max_batch_size > 1" in fault


# --- settings


@pytest.mark.parametrize(
    ("attributes", "options", "expected"),
    [
        ("", WorkerOptions(), (1, 1, 0)),
        ("concurrency = 4\nmax_batch_size = 8\nbatch_interval = 0.5", WorkerOptions(), (4, 8, 0.5)),
        ("concurrency = 4\nmax_batch_size = 8\nbatch_interval = 1", WorkerOptions(2, 1, 0.0), (2, 1, 0)),
        ("concurrency = None", WorkerOptions(max_batch_size=3), (1, 3, 0)),
    ],
)
def test_a_setting_wins_over_the_class_and_the_class_over_the_default(
    read: Callable[..., Contract], attributes: str, options: WorkerOptions, expected: tuple[int, int, float]
) -> None:
    contract = read(attributes + "\ndef predict(self): ...", options)
    assert (contract.concurrency, contract.max_batch_size, contract.batch_interval_s) == expected


def test_async_predictors_work_on_many_requests(read: Callable[..., Contract]) -> None:
    assert read("async def predict(self): ...").concurrency == 32
    assert read("async def predict(self): yield").concurrency == 32
    assert read("concurrency = 5\nasync def predict(self): ...").concurrency == 5
