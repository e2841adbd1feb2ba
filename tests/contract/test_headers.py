"""The headers of every answer, and the shape of an error."""

import re
from collections.abc import Iterator

import httpx
import pytest

from tests.daemon import Daemon
from tests.raw_http import exchange, request

SOURCE = """
import time

class PythonPredictor:
    def predict(self, payload, query_params):
        if "fail" in query_params:
            raise KeyError("text")
        time.sleep(0.05)
        return payload
"""

SHAPE = {"type", "title", "status", "detail", "code", "request_id"}


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with Daemon(SOURCE) as daemon:
        yield daemon


def failure(daemon: Daemon) -> httpx.Response:
    return daemon.predict({}, params={"fail": "1"})


@pytest.mark.parametrize("path", ["/", "/predict"])
def test_both_paths_predict(daemon: Daemon, path: str) -> None:
    assert daemon.client.post(path, json=[1]).json() == [1]


# --- headers


@pytest.mark.parametrize("wanted", ["a", "abc-123_X.9", "0190163d-8694-739b-aea5-966c26f8ad91"])
def test_sane_request_id_is_echoed(daemon: Daemon, wanted: str) -> None:
    assert daemon.predict({}, headers={"x-request-id": wanted}).headers["x-request-id"] == wanted
    assert daemon.client.get("/nowhere", headers={"x-request-id": wanted}).json()["request_id"] == wanted


@pytest.mark.parametrize("wanted", ["x" * 5000, "", "a\tb", 'a"b\\', "\xe9\xff"])
def test_insane_request_id_is_replaced(daemon: Daemon, wanted: str) -> None:
    headers = [("Content-Type", "application/json"), ("X-Request-Id", wanted)]
    answer = exchange(daemon.port, request(headers=headers, body=b"{}"))
    assert answer.status == 200
    given = answer.header("x-request-id")
    assert given
    assert given != wanted
    assert re.fullmatch(r"[\w.-]{1,128}", given)


def test_request_ids_differ(daemon: Daemon) -> None:
    assert len({daemon.predict({}).headers["x-request-id"] for _ in range(3)}) == 3


def test_answer_names_worker_and_generation(daemon: Daemon) -> None:
    status = daemon.status()
    headers = daemon.predict({}).headers
    assert headers["x-predictord-worker"] == str(status["workers"][0]["id"])
    assert headers["x-predictord-generation"] == str(status["generation"])


def test_server_timing_is_in_milliseconds(daemon: Daemon) -> None:
    timing = daemon.predict({}).headers["server-timing"]
    match = re.fullmatch(r"queue;dur=(\d+(?:\.\d+)?), predict;dur=(\d+(?:\.\d+)?)", timing)
    assert match, timing
    assert float(match[2]) >= 50  # the predictor slept that long


def test_errors_carry_the_headers_too(daemon: Daemon) -> None:
    headers = failure(daemon).headers
    assert {"x-request-id", "x-predictord-worker", "x-predictord-generation", "server-timing"} <= headers.keys()


# --- problems


def test_problem_of_a_prediction(daemon: Daemon) -> None:
    response = failure(daemon)
    problem = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert problem.keys() == SHAPE | {"worker", "traceback"}
    assert problem | {"traceback": ""} == {
        "type": "about:blank",
        "title": "Internal Server Error",
        "status": 500,
        "detail": "KeyError: 'text'",
        "code": "predictor_error",
        "request_id": response.headers["x-request-id"],
        "worker": daemon.status()["workers"][0]["id"],
        "traceback": "",
    }


def test_traceback_is_text_of_the_authors_frames(daemon: Daemon) -> None:
    traceback = failure(daemon).json()["traceback"]
    assert re.search(r"predictor\.py\", line \d+, in predict", traceback)
    assert 'raise KeyError("text")' in traceback
    assert traceback.rstrip().endswith("KeyError: 'text'")
    assert "predictord/worker" not in traceback


def test_traceback_is_in_the_log(daemon: Daemon) -> None:
    failure(daemon)
    daemon.wait_for_line("KeyError: 'text'")  # the first of its kind; repeats may be left out


@pytest.mark.parametrize("path", ["/nowhere", "/predict/", "/predict/more", "/Predict"])
def test_unknown_path(daemon: Daemon, path: str) -> None:
    response = daemon.client.post(path, json={})
    problem = response.json()
    assert (response.status_code, problem["code"], problem["status"]) == (404, "not_found", 404)
    assert problem.keys() == SHAPE
    assert problem["title"] == "Not Found"
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("GET", "/predict", {"POST"}), ("PUT", "/", {"GET", "HEAD", "POST"}), ("POST", "/status", {"GET", "HEAD"})],
)
def test_wrong_method_names_the_right_ones(daemon: Daemon, method: str, path: str, allowed: set[str]) -> None:
    response = daemon.client.request(method, path)
    assert (response.status_code, response.json()["code"]) == (405, "method_not_allowed")
    assert allowed <= set(response.headers["allow"].split(", "))


def test_no_debug_means_no_traceback() -> None:
    with Daemon(SOURCE, "--no-debug") as daemon:
        assert failure(daemon).json().keys() == SHAPE | {"worker"}
