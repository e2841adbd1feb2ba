"""How the class is found, and how its methods' arguments are filled, or refused at start."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.daemon import Daemon, serve_to_exit

SUBSETS = """
class PythonPredictor:
    def __init__(self, config):
        self.config = config

    def predict(self, headers, *, query_params, request, payload, temperature=0.5, **others):
        return {
            "payload": payload,
            "query": query_params.getlist("q"),
            "header": headers["X-Mine"],
            "types": [f"{type(a).__module__}.{type(a).__name__}" for a in (query_params, headers)],
            "request": [type(request).__name__, request.method, request.url.path, request.url.query,
                        request.headers["x-mine"], request.client.host],
            "temperature": temperature,
            "others": sorted(others),
            "config": self.config,
        }
"""


@pytest.fixture(scope="module")
def answer() -> Iterator[dict[str, Any]]:
    with Daemon(SUBSETS, "--config", "n=3", "--config", "name=small", "--config", 'more={"a": [1]}') as daemon:
        response = daemon.predict([1], params={"q": ["a", "b"]}, headers={"x-mine": "yes"})
        assert response.status_code == 200, response.text
        yield response.json()


def test_arguments_are_injected_by_name(answer: dict[str, Any]) -> None:
    assert (answer["payload"], answer["query"], answer["header"]) == ([1], ["a", "b"], "yes")


def test_query_params_and_headers_are_starlettes(answer: dict[str, Any]) -> None:
    assert answer["types"] == ["starlette.datastructures.QueryParams", "starlette.datastructures.Headers"]


def test_request_is_starlettes(answer: dict[str, Any]) -> None:
    assert answer["request"] == ["Request", "POST", "/predict", "q=a&q=b", "yes", "127.0.0.1"]


def test_defaults_stay(answer: dict[str, Any]) -> None:
    assert answer["temperature"] == 0.5


def test_keyword_collector_gets_no_argument_twice(answer: dict[str, Any]) -> None:
    assert not set(answer["others"]) & {"payload", "headers", "query_params", "request", "self"}


def test_config_reaches_init(answer: dict[str, Any]) -> None:
    assert answer["config"] == {"n": 3, "name": "small", "more": {"a": [1]}}


# --- shapes of __init__ and predict


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            """
            class Predictor:
                def predict(self):
                    return "no arguments, no init"
            """,
            "no arguments, no init",
        ),
        (
            """
            class Predictor:
                def __init__(self):
                    self.reply = "init without config"
                def predict(self, **anything):
                    return self.reply
            """,
            "init without config",
        ),
        (
            """
            class Predictor:
                def __init__(self, config, device="cpu"):
                    self.reply = f"{type(config).__name__} {config} {device}"
                def predict(self, query_params):
                    return self.reply
            """,
            "dict {} cpu",
        ),
        (
            """
            class Predictor:
                async def predict(self, request):
                    return f"async {(await request.json())['text']}"
            """,
            "async hi",
        ),
    ],
)
def test_shapes_that_work(source: str, expected: str) -> None:
    with Daemon(source) as daemon:
        response = daemon.predict({"text": "hi"})
        assert (response.status_code, response.text) == (200, expected)


@pytest.mark.parametrize("method", ["__init__", "predict", "post_predict"])
def test_argument_that_nobody_fills_is_an_error_at_start(method: str) -> None:
    extra = {name: ", mystery" if name == method else "" for name in ("__init__", "predict", "post_predict")}
    source = f"""\
class PythonPredictor:
    def __init__(self, config{extra["__init__"]}):
        raise SystemError("the signature is checked first")

    def predict(self, payload{extra["predict"]}):
        return payload

    def post_predict(self, response{extra["post_predict"]}):
        pass
"""
    line = next(number for number, text in enumerate(source.splitlines(), 1) if f"def {method}(" in text)
    code, log = serve_to_exit(source)
    assert code == 3, log
    assert re.search(rf"predictor\.py:{line}\b", log), log
    assert "mystery" in log


def test_the_error_is_answered_when_reload_is_on() -> None:
    source = "class Predictor:\n    def predict(self, mystery): ..."
    with Daemon(source, wait_ready=False) as daemon:
        response = daemon.predict({})
        assert (response.status_code, response.json()["code"]) == (503, "no_worker")
        assert "mystery" in response.json()["detail"]


# --- which class


def reply(name: str) -> str:
    return f"class {name}:\n    def predict(self): return '{name}'\n"


@pytest.mark.parametrize(
    ("source", "chosen", "expected"),
    [
        (reply("Predictor") + reply("PythonPredictor") + reply("Other"), None, "PythonPredictor"),
        (reply("Other") + reply("Predictor"), None, "Predictor"),
        (reply("Anything") + "class Helper:\n    pass\n", None, "Anything"),
        (reply("PythonPredictor") + reply("Other"), "Other", "Other"),
        ("from base import Base\nclass Mine(Base):\n    pass\n", None, "Mine"),
    ],
    ids=["PythonPredictor first", "Predictor next", "the only one", "chosen", "imported ones do not count"],
)
def test_class_is_found(source: str, chosen: str | None, expected: str) -> None:
    base = "class Base:\n    def predict(self): return type(self).__name__\n"
    with Daemon(source, class_name=chosen, files={"base.py": base}) as daemon:
        assert daemon.predict({}).text == expected
        assert daemon.status()["predictor"] == {"path": str(daemon.predictor.resolve()), "class": expected}


@pytest.mark.parametrize(
    ("source", "chosen", "words"),
    [
        (reply("One") + reply("Two"), None, ["One", "Two"]),
        ("class Helper:\n    pass\n", None, ["predict"]),
        (reply("One"), "Missing", ["Missing"]),
    ],
    ids=["two candidates", "none", "chosen one is missing"],
)
def test_class_is_not_found(source: str, chosen: str | None, words: list[str]) -> None:
    code, log = serve_to_exit(source, class_name=chosen)
    assert code == 3, log
    assert "predictor.py" in log
    for word in words:
        assert word in log
