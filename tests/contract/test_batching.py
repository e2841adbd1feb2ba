"""Batches: lists in, a list out, and each request answered for itself.

A first request holds the worker at a gate while others queue up, so that the next
batch is known without any clock.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import httpx
import pytest

from tests.contract.openapi import request_schema
from tests.daemon import Daemon, eventually, in_background, serve_to_exit
from tests.ledger import PRELUDE

SOURCE = (
    PRELUDE
    + """
import threading
from starlette.exceptions import HTTPException

class PythonPredictor:
    max_batch_size = 4

    def predict(self, payload, query_params, headers, request):
        lists = [payload, query_params, headers, request]
        assert all(type(each) is list and len(each) == len(payload) for each in lists), lists
        for item, query, fields, whole in zip(*lists):
            assert item["n"] == query["n"] == fields["x-n"] == whole.headers["x-n"]
            if "gate" in item:
                record("held at", item["gate"])
                wait_for_file(item["gate"])
        verbs = [item.get("verb") for item in payload]
        if "crash" in verbs:
            raise KeyError("all of you")
        if "short" in verbs:
            return [0] * (len(payload) - 1)
        if "long" in verbs:
            return [0] * (len(payload) + 1)
        if "none" in verbs:
            return None
        return [self.answer(item, len(payload)) for item in payload]

    def answer(self, item, size):
        if item.get("verb") == "error":
            return ValueError("only me")
        if item.get("verb") == "teapot":
            return HTTPException(418, "only me", {"x-tea": "yes"})
        if item.get("verb") == "object":
            return object()
        return {"n": item["n"], "size": size, "main": threading.current_thread() is threading.main_thread()}
"""
)

TYPED = (
    PRELUDE
    + """
from pydantic import BaseModel

class Ask(BaseModel):
    text: str
    gate: str | None = None

class PythonPredictor:
    max_batch_size = 4

    def predict(self, payload: list[Ask]):
        for ask in payload:
            if ask.gate:
                record("held at", ask.gate)
                wait_for_file(ask.gate)
        return [[type(ask).__name__, ask.text, len(payload)] for ask in payload]
"""
)

ASYNC = """
class PythonPredictor:
    max_batch_size = 2
    batch_interval = 20

    async def predict(self, payload):
        return [[item, len(payload)] for item in payload]
"""


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with Daemon(SOURCE) as daemon:
        yield daemon


_gates = iter(range(1000))


def post(daemon: Daemon, item: dict[str, Any]) -> httpx.Response:
    number = item.setdefault("n", "0")
    return daemon.predict(item, params={"n": number}, headers={"x-n": number})


def behind(
    daemon: Daemon, hold: Callable[[str], httpx.Response], *calls: Callable[[], httpx.Response]
) -> list[httpx.Response]:
    """The answers to calls that queued up while `hold(gate)` kept the worker busy, and so share batches."""
    gate = f"gate{next(_gates)}"
    with in_background(partial(hold, gate)), opened_at_end(daemon, gate):
        eventually(lambda: f"held at {gate}" in daemon.ledger.lines())
        with in_background(*calls) as answers, opened_at_end(daemon, gate):
            eventually(lambda: daemon.status()["queue"]["depth"] == len(calls))
    return answers


@contextmanager
def opened_at_end(daemon: Daemon, gate: str) -> Iterator[None]:
    """Open the gate also when the block fails, so that nobody is left waiting for it."""
    try:
        yield
    finally:
        daemon.open_gate(gate)


def together(daemon: Daemon, *items: dict[str, Any]) -> list[httpx.Response]:
    """The answers to these items, which were all in the queue when the worker came free."""
    return behind(
        daemon,
        lambda gate: post(daemon, {"n": "first", "gate": gate}),
        *[partial(post, daemon, item) for item in items],
    )


def numbered(count: int) -> list[dict[str, Any]]:
    return [{"n": str(number)} for number in range(count)]


def test_lone_request_is_a_batch_of_one(daemon: Daemon) -> None:
    assert post(daemon, {"n": "7"}).json() == {"n": "7", "size": 1, "main": True}


def test_waiting_requests_share_a_batch(daemon: Daemon) -> None:
    answers = together(daemon, *numbered(4))
    assert [answer.json()["n"] for answer in answers] == ["0", "1", "2", "3"]
    assert [answer.json()["size"] for answer in answers] == [4] * 4


def test_batch_is_no_larger_than_allowed(daemon: Daemon) -> None:
    answers = together(daemon, *numbered(6))
    assert sorted(answer.json()["size"] for answer in answers) == [2, 2, 4, 4, 4, 4]


def test_every_answer_has_its_own_request_id(daemon: Daemon) -> None:
    answers = together(daemon, *numbered(3))
    assert len({answer.headers["x-request-id"] for answer in answers}) == 3


def test_item_that_is_an_exception_answers_only_its_own(daemon: Daemon) -> None:
    error, teapot, odd, good = together(daemon, {"verb": "error"}, {"verb": "teapot"}, {"verb": "object"}, {"n": "1"})
    assert (error.status_code, error.json()["code"]) == (500, "predictor_error")
    assert error.json()["detail"] == "ValueError: only me"
    assert (teapot.status_code, teapot.text, teapot.headers["x-tea"]) == (418, "only me", "yes")
    assert (odd.status_code, odd.json()["code"]) == (500, "unserializable_prediction")
    assert good.json()["size"] == 4


def test_exception_of_the_batch_answers_all(daemon: Daemon) -> None:
    pids = daemon.worker_pids()
    answers = together(daemon, {"verb": "crash"}, {"n": "1"})
    assert [answer.json()["detail"] for answer in answers] == ["KeyError: 'all of you'"] * 2
    assert daemon.worker_pids() == pids


@pytest.mark.parametrize("verb", ["short", "long", "none"])
def test_wrong_length_is_a_500_for_the_batch(daemon: Daemon, verb: str) -> None:
    pids = daemon.worker_pids()
    answers = together(daemon, {"verb": verb}, {"n": "1"}, {"n": "2"})
    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(500, "predictor_error")] * 3
    assert post(daemon, {"n": "after"}).status_code == 200
    assert daemon.worker_pids() == pids


def test_unparseable_item_is_answered_alone(typed: Daemon) -> None:
    broken, wrong, good, other = typed_together(typed, b"{", b'{"text": 1}', b'{"text": "a"}', b'{"text": "b"}')
    assert (broken.status_code, broken.json()["code"]) == (400, "invalid_payload")
    assert (wrong.status_code, wrong.json()["code"]) == (422, "validation_failed")
    assert wrong.json()["errors"][0]["loc"][-1] == "text"
    assert (good.json(), other.json()) == (["Ask", "a", 2], ["Ask", "b", 2])


def test_batch_of_invalid_items_never_reaches_predict(typed: Daemon) -> None:
    assert [answer.status_code for answer in typed_together(typed, b"{", b"{}")] == [400, 422]


def test_schema_of_a_batch_is_that_of_one_item(typed: Daemon) -> None:
    schema = request_schema(typed.client.get("/openapi.json").json(), "/predict")
    assert "text" in schema["properties"]
    assert typed.predict([{"text": "a"}]).status_code == 422


@pytest.fixture(scope="module")
def typed() -> Iterator[Daemon]:
    with Daemon(TYPED) as daemon:
        yield daemon


def typed_together(daemon: Daemon, *bodies: bytes) -> list[httpx.Response]:
    json_type = {"content-type": "application/json"}
    calls = [partial(daemon.predict, content=body, headers=json_type) for body in bodies]
    return behind(daemon, lambda gate: daemon.predict({"text": "first", "gate": gate}), *calls)


# --- settings


def test_oldest_waits_for_company_for_the_interval() -> None:
    with Daemon(SOURCE, "--max-batch-size", "2", "--batch-interval", "20s") as daemon:
        with in_background(lambda: post(daemon, {"n": "a"})) as first:
            eventually(lambda: daemon.status()["queue"]["depth"] == 1)
            second = post(daemon, {"n": "b"})
        assert (first[0].json()["size"], second.json()["size"]) == (2, 2)


def test_nobody_waits_for_ever() -> None:
    with Daemon(SOURCE, "--batch-interval", "0.2") as daemon:
        assert post(daemon, {"n": "a"}).json()["size"] == 1


def test_flag_wins_over_the_class_attribute() -> None:
    with Daemon(SOURCE, "--max-batch-size", "2") as daemon:
        assert [answer.json()["size"] for answer in together(daemon, *numbered(4))] == [2] * 4


def test_size_of_one_is_no_batch() -> None:
    source = "class P:\n    max_batch_size = 4\n    def predict(self, payload): return type(payload).__name__"
    with Daemon(source, "--max-batch-size", "1") as daemon:
        assert daemon.predict({}).text == "dict"


def test_async_batches_and_interval_as_class_attributes() -> None:
    with Daemon(ASYNC) as daemon, in_background(*[partial(daemon.predict, n) for n in range(2)]) as answers:
        pass
    assert [answer.json() for answer in answers] == [[0, 2], [1, 2]]


@pytest.mark.parametrize("colour", ["def", "async def"])
def test_generator_with_batching_is_an_error_at_start(colour: str) -> None:
    source = f"class Predictor:\n    {colour} predict(self, payload):\n        yield payload\n"
    code, log = serve_to_exit(source, "--max-batch-size", "2")
    assert code == 3, log
    assert "generator" in log
    assert "batch" in log
