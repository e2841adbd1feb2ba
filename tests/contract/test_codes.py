"""Every code of the table of errors, produced by a real daemon."""

import json
import signal
from collections.abc import Callable, Iterator
from uuid import uuid4

import httpx
import pytest

from predictord.problem import STATUS, Code
from tests.daemon import Daemon, eventually, in_background
from tests.faults.small_limits import environment
from tests.ledger import PRELUDE
from tests.raw_http import Answer, RawConnection, exchange, request

SOURCE = (
    PRELUDE
    + """
from pydantic import BaseModel

class Ask(BaseModel):
    do: str
    gate: str = ""

class PythonPredictor:
    def predict(self, payload: Ask):
        return getattr(self, payload.do)(payload)

    def fail(self, payload):
        raise KeyError("text")

    def unserializable(self, payload):
        return {"model": object()}

    def die(self, payload):
        os._exit(7)

    def hang(self, payload):
        time.sleep(60)

    def wait(self, payload):
        record(payload.gate)
        wait_for_file(payload.gate)
"""
)

MAX_QUEUE = 1
TOKEN = "a-token-of-the-test"
COMMON = {"type", "title", "status", "detail", "code", "request_id"}
FROM_A_WORKER = {
    Code.INVALID_PAYLOAD,
    Code.VALIDATION_FAILED,
    Code.PREDICTOR_ERROR,
    Code.UNSERIALIZABLE_PREDICTION,
    Code.WORKER_DIED,
    Code.PREDICT_TIMEOUT,
}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One worker, short limits."""
    flags = ("--max-queue", str(MAX_QUEUE), "--queue-timeout", "1s", "--request-timeout", "2s")
    small = environment(tmp_path_factory.mktemp("limits"), {"BODY_GAP_S": 0.2, "SWEEP_S": 0.05})
    with Daemon(SOURCE, *flags, "--max-body-size", "64KiB", environment=small) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def guarded() -> Iterator[Daemon]:
    """Needs a token."""
    with Daemon(SOURCE, environment={"PREDICTORD_TOKEN": TOKEN}, token=TOKEN) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def broken() -> Iterator[Daemon]:
    """Its predictor does not load."""
    with Daemon("raise RuntimeError('no weights')", wait_ready=False) as daemon:
        daemon.wait_for_line("did not load")
        yield daemon


def send(daemon: Daemon, body: object, *headers: tuple[str, str]) -> Answer:
    headers = (("Content-Type", "application/json"), *headers)
    return exchange(daemon.port, request(headers=headers, body=json.dumps(body).encode()))


def while_busy(daemon: Daemon, ask: Callable[[], Answer]) -> Answer:
    """The answer to what is asked while the only worker has something in hand."""
    gate = uuid4().hex
    with in_background(lambda: send(daemon, {"do": "wait", "gate": gate})) as held:
        eventually(lambda: gate in daemon.ledger.ids())
        answer = ask()
        daemon.open_gate(gate)
    assert held[0].status == 200
    return answer


def stopped_body(daemon: Daemon) -> Answer:
    return exchange(daemon.port, request(headers=[("Content-Length", "10")], body=b"12345"))


def full_queue(daemon: Daemon) -> Answer:
    def third() -> Answer:
        with RawConnection(daemon.port) as second:
            second.send(request(headers=[("Content-Type", "application/json")], body=b'{"do": "fail"}'))
            eventually(lambda: daemon.status()["queue"]["depth"] == MAX_QUEUE)
            return send(daemon, {})

    return while_busy(daemon, third)


CASES: dict[Code, Callable[[Daemon], Answer]] = {
    Code.INVALID_PAYLOAD: lambda daemon: exchange(
        daemon.port, request(headers=[("Content-Type", "application/json")], body=b"{oops")
    ),
    Code.BAD_REQUEST: lambda daemon: exchange(daemon.port, b"nonsense\r\n\r\n"),
    Code.HOST_NOT_ALLOWED: lambda daemon: exchange(daemon.port, request(host="evil.example")),
    Code.ORIGIN_NOT_ALLOWED: lambda daemon: send(daemon, {}, ("Origin", "https://evil.example")),
    Code.NOT_FOUND: lambda daemon: exchange(daemon.port, request("GET", "/nowhere"), "GET"),
    Code.METHOD_NOT_ALLOWED: lambda daemon: exchange(daemon.port, request("PUT", "/predict"), "PUT"),
    Code.REQUEST_INCOMPLETE: stopped_body,
    Code.BODY_TOO_LARGE: lambda daemon: exchange(daemon.port, request(headers=[("Content-Length", "65537")])),
    Code.UNSUPPORTED_ENCODING: lambda daemon: send(daemon, {}, ("Content-Encoding", "gzip")),
    Code.EXPECTATION_FAILED: lambda daemon: send(daemon, {}, ("Expect", "the-unexpected")),
    Code.VALIDATION_FAILED: lambda daemon: send(daemon, {"do": 1}),
    Code.HEADERS_TOO_LARGE: lambda daemon: send(daemon, {}, ("X-Long", "x" * 70_000)),
    Code.PREDICTOR_ERROR: lambda daemon: send(daemon, {"do": "fail"}),
    Code.UNSERIALIZABLE_PREDICTION: lambda daemon: send(daemon, {"do": "unserializable"}),
    Code.WORKER_DIED: lambda daemon: send(daemon, {"do": "die"}),
    Code.QUEUE_FULL: full_queue,
    Code.QUEUE_TIMEOUT: lambda daemon: while_busy(daemon, lambda: send(daemon, {})),
    Code.PREDICT_TIMEOUT: lambda daemon: send(daemon, {"do": "hang"}),
}
ELSEWHERE = {Code.TOKEN_REQUIRED, Code.NO_WORKER, Code.DRAINING}
"""Those that need a daemon of their own; the tests below."""


def assert_problem(answer: Answer, code: Code) -> None:
    """The whole answer is what its code promises."""
    problem = json.loads(answer.body)
    assert (answer.status, problem["status"], problem["code"]) == (STATUS[code], STATUS[code], code)
    assert answer.header("content-type") == "application/problem+json"
    assert answer.header("content-length") == str(len(answer.body))
    assert answer.header("x-request-id") == problem["request_id"]
    assert (problem["type"], problem["title"]) == ("about:blank", httpx.codes.get_reason_phrase(answer.status))
    assert problem["detail"]
    assert problem.keys() >= COMMON
    assert ("worker" in problem) == (code in FROM_A_WORKER) == bool(answer.header("x-predictord-worker"))
    assert ("errors" in problem) == (code is Code.VALIDATION_FAILED)
    assert answer.header("retry-after") == ("1" if answer.status == 503 else None)
    assert answer.header("www-authenticate") == ("Bearer" if answer.status == 401 else None)
    assert answer.header("allow") == ("POST" if answer.status == 405 else None)


def test_every_code_has_a_case() -> None:
    assert CASES.keys() | ELSEWHERE == STATUS.keys() == set(Code)


@pytest.mark.parametrize("code", CASES)
def test_code(daemon: Daemon, code: Code) -> None:
    daemon.wait_ready()
    assert_problem(CASES[code](daemon), code)


def test_no_worker_says_why(broken: Daemon) -> None:
    answer = send(broken, {})
    assert_problem(answer, Code.NO_WORKER)
    problem = json.loads(answer.body)
    assert "RuntimeError: no weights" in problem["detail"]
    assert "predictor.py" in problem["traceback"]


def test_token_required(guarded: Daemon) -> None:
    assert_problem(send(guarded, {}), Code.TOKEN_REQUIRED)


def test_draining() -> None:
    with Daemon(SOURCE) as daemon:

        def refused() -> Answer:
            daemon.signal(signal.SIGTERM)
            daemon.wait_for_line("stopping")
            return send(daemon, {})

        assert_problem(while_busy(daemon, refused), Code.DRAINING)
        assert daemon.wait() == 0
