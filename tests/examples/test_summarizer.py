"""The summarizer example, unchanged, on a tiny random model."""

from collections.abc import Iterator

import pytest

from tests.daemon import Daemon
from tests.examples import EXAMPLES, LOAD_TIME_S

pytestmark = pytest.mark.timeout(2 * LOAD_TIME_S + 60)


@pytest.fixture(scope="module")
def daemon(hugging_face: dict[str, str]) -> Iterator[Daemon]:
    predictor = EXAMPLES / "summarizer" / "predictor.py"
    with Daemon(predictor, environment=hugging_face, ready_within_s=LOAD_TIME_S) as daemon:
        yield daemon


def test_the_summary_comes_as_text(daemon: Daemon) -> None:
    answer = daemon.predict({"text": "the cat sat on the mat and it was a long story"})
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.text


def test_a_request_without_text_fails_alone(daemon: Daemon) -> None:
    problem = daemon.predict({"txt": "the cat"}).json()
    assert (problem["status"], problem["code"], problem["detail"]) == (500, "predictor_error", "KeyError: 'text'")
    assert daemon.predict({"text": "the dog ran"}).status_code == 200
