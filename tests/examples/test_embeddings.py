"""The embeddings example: a real model, many requests to a call."""

from collections.abc import Iterator
from functools import partial
from math import hypot

import pytest

from tests.daemon import Daemon, in_background
from tests.examples import EXAMPLES, LOAD_TIME_S

pytestmark = pytest.mark.timeout(LOAD_TIME_S + 60)


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with Daemon(EXAMPLES / "embeddings" / "predictor.py", ready_within_s=LOAD_TIME_S) as daemon:
        yield daemon


def embed(daemon: Daemon, text: str) -> list[float]:
    embedding: list[float] = daemon.predict({"text": text}).json()["embedding"]
    return embedding


def test_near_meanings_have_near_embeddings(daemon: Daemon) -> None:
    cat, kitten, market = (
        embed(daemon, text)
        for text in ("a cat sits on the mat", "a kitten is on the rug", "the stock market fell again")
    )
    assert len(cat) == 384
    assert hypot(*cat) == pytest.approx(1, abs=1e-5)
    assert dot(cat, kitten) > 0.5 > 0.2 > dot(cat, market)


def dot(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def test_requests_that_share_a_batch_get_their_own_answers(daemon: Daemon) -> None:
    texts = [f"sentence {'and more ' * number} number {number}" for number in range(40)]
    alone = [embed(daemon, text) for text in texts]
    with in_background(*(partial(embed, daemon, text) for text in texts)) as together:
        pass
    for one, other in zip(alone, together, strict=True):
        assert dot(one, other) == pytest.approx(1, abs=1e-4)


def test_a_request_without_text_is_refused_and_leaves_the_others_alone(daemon: Daemon) -> None:
    with in_background(
        partial(daemon.predict, {"text": "a cat"}), partial(daemon.predict, {}), partial(daemon.predict, {"text": "b"})
    ) as answers:
        pass
    assert [answer.status_code for answer in answers] == [200, 422, 200]
    assert answers[1].json()["errors"][0]["loc"][-1] == "text"
