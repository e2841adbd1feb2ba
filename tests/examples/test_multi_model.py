"""The multi-model example, unchanged, on tiny random models."""

from collections.abc import Iterator

import pytest

from tests.daemon import Daemon
from tests.examples import EXAMPLES, LOAD_TIME_S

pytestmark = pytest.mark.timeout(2 * LOAD_TIME_S + 60)

ASK = {"text": "the cat sat on the mat and it was good"}


@pytest.fixture(scope="module")
def daemon(hugging_face: dict[str, str]) -> Iterator[Daemon]:
    predictor = EXAMPLES / "multi_model" / "predictor.py"
    with Daemon(predictor, environment=hugging_face, ready_within_s=LOAD_TIME_S) as daemon:
        yield daemon


def test_the_query_chooses_the_sentiment_model(daemon: Daemon) -> None:
    prediction = daemon.predict(ASK, params={"model": "sentiment-analysis"}).json()
    assert prediction["label"] in {"NEGATIVE", "POSITIVE"}
    assert 0.5 <= prediction["score"] <= 1


def test_the_query_chooses_the_summarizer(daemon: Daemon) -> None:
    answer = daemon.predict(ASK, params={"model": "summarization"})
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.text


@pytest.mark.parametrize("model", ["translation", None])
def test_an_unknown_model_is_answered_as_the_predictor_says(daemon: Daemon, model: str | None) -> None:
    answer = daemon.predict(ASK, params={"model": model} if model else {})
    assert answer.status_code == 400
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json() == {"error": f"unknown model: {model}"}
