"""What `predict` raises: an answer for this request, and nothing for the worker."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.daemon import Daemon

BODY = """
import asyncio, os, sys
from starlette.exceptions import HTTPException

class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no words")

class OfTheirOwn(BaseException):
    pass

def fail(error):
    raise error

def recurse():
    return recurse()

class PythonPredictor:
    {colour} predict(self, payload):
        return eval(payload)
"""


@pytest.fixture(scope="module", params=["def", "async def"])
def daemon(request: pytest.FixtureRequest) -> Iterator[Daemon]:
    with Daemon(BODY.format(colour=request.param)) as daemon:
        yield daemon


def run(daemon: Daemon, expression: str) -> httpx.Response:
    return daemon.predict(content=expression, headers={"content-type": "text/plain"})


def problem(response: httpx.Response) -> dict[str, Any]:
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    return document


def test_http_exception_answers_as_starlette_does(daemon: Daemon) -> None:
    response = run(daemon, "fail(HTTPException(418, 'short and stout', {'x-tea': 'yes'}))")
    assert (response.status_code, response.text, response.headers["x-tea"]) == (418, "short and stout", "yes")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"


def test_http_exception_without_a_detail(daemon: Daemon) -> None:
    response = run(daemon, "fail(HTTPException(404))")
    assert (response.status_code, response.text) == (404, "Not Found")


def test_http_exception_without_a_body(daemon: Daemon) -> None:
    response = run(daemon, "fail(HTTPException(304))")
    assert (response.status_code, response.content) == (304, b"")


@pytest.mark.parametrize(
    ("expression", "detail"),
    [
        ("fail(KeyError('text'))", "KeyError: 'text'"),
        ("{}['text']", "KeyError: 'text'"),
        ("fail(ValueError())", "ValueError"),
        ("fail(Mute())", "Mute"),
        ("sys.exit(3)", "SystemExit: 3"),
        ("sys.exit()", "SystemExit"),
        ("fail(KeyboardInterrupt())", "KeyboardInterrupt"),
        ("fail(GeneratorExit())", "GeneratorExit"),
        ("fail(asyncio.CancelledError())", "CancelledError"),
        ("fail(OfTheirOwn('x'))", "OfTheirOwn: x"),
        ("fail(MemoryError())", "MemoryError"),
        ("bytearray(1 << 62)", "MemoryError"),
        ("recurse()", "RecursionError"),
        ("fail(StopIteration(1))", ""),
    ],
)
def test_other_exceptions_are_a_500_and_the_worker_lives_on(daemon: Daemon, expression: str, detail: str) -> None:
    pid = run(daemon, "os.getpid()").json()
    response = run(daemon, expression)
    assert (response.status_code, problem(response)["code"]) == (500, "predictor_error"), response.text
    assert detail in problem(response)["detail"]
    assert run(daemon, "os.getpid()").json() == pid


def test_detail_is_the_last_line_of_the_traceback(daemon: Daemon) -> None:
    assert problem(run(daemon, "fail(KeyError('text'))"))["detail"] == "KeyError: 'text'"


def test_detail_of_a_message_with_line_ends_is_carried_whole_or_cut_but_json(daemon: Daemon) -> None:
    assert problem(run(daemon, "fail(ValueError('one\\r\\ntwo\\x00\\u00e9'))"))["detail"].startswith("ValueError: one")
