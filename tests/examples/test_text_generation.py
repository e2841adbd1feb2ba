"""The text generation example: a stream of characters, the same for the same seed, and words for the most part."""

import json
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.daemon import Daemon, eventually
from tests.examples import EXAMPLES, LOAD_TIME_S

pytestmark = pytest.mark.timeout(LOAD_TIME_S + 60)

FOLDER = EXAMPLES / "text_generation"


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with Daemon(FOLDER / "predictor.py", ready_within_s=LOAD_TIME_S) as daemon:
        yield daemon


def write(daemon: Daemon, **ask: Any) -> str:
    answer = daemon.predict({"seed": 1, "max_tokens": 100, **ask})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    return answer.text


def words_of(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


def test_most_of_what_it_writes_are_words_of_the_book(daemon: Daemon) -> None:
    book = set(words_of((FOLDER / "alice.txt").read_text()))
    written = words_of(write(daemon, prompt="The Queen said ", max_tokens=600))[:-1]  # the last may be cut
    assert len(written) > 60
    assert sum(word in book for word in written) / len(written) > 0.85


def test_a_seed_gives_the_same_text_again(daemon: Daemon) -> None:
    assert write(daemon) == write(daemon)
    assert len({write(daemon, seed=seed) for seed in range(5)}) == 5
    assert len({write(daemon, seed=None) for _ in range(5)}) == 5


def test_zero_temperature_needs_no_seed(daemon: Daemon) -> None:
    assert len({write(daemon, temperature=0, seed=seed) for seed in range(3)}) == 1


def test_what_is_remembered_is_what_would_be_read_anew() -> None:
    """A text that goes beyond the window, at once and in pieces."""
    network_file = runpy.run_path(str(FOLDER / "network.py"))
    torch.manual_seed(1)
    network = network_file["CharacterTransformer"](20)
    text = torch.randint(20, (1, 2 * network_file["WINDOW"]))
    memory = network_file["Memory"]()
    with torch.inference_mode():
        at_once = network(text)
        in_pieces = torch.cat([network(piece, memory) for piece in text.split([50, *[1] * 140, 66], dim=1)], dim=1)
    torch.testing.assert_close(in_pieces, at_once, atol=1e-4, rtol=1e-4)


def test_any_prompt_will_do(daemon: Daemon) -> None:
    for prompt in ("7", "\N{SNOWMAN}", "don't \"", "word " * 2000):
        assert len(write(daemon, prompt=prompt)) == 100


def test_characters_come_as_they_are_written(daemon: Daemon) -> None:
    ask = {"max_tokens": 100_000}
    with daemon.client.stream("POST", "/predict", json=ask) as response:
        pieces = response.iter_text()  # let go of, it would close the connection
        assert next(pieces)
        assert daemon.status()["requests"]["in_flight"] == 1
    eventually(lambda: daemon.status()["requests"]["in_flight"] == 0)


def test_a_browser_gets_events(daemon: Daemon) -> None:
    ask = {"seed": 1, "max_tokens": 100}
    with daemon.client.stream("POST", "/predict", json=ask, headers={"Accept": "text/event-stream"}) as response:
        events = response.read().decode().split("\n\n")[:-1]
    data = ["\n".join(line.removeprefix("data: ") for line in event.split("\n")) for event in events]
    assert "".join(data) == write(daemon)


@pytest.mark.parametrize("wrong", [{"prompt": ""}, {"max_tokens": 0}, {"temperature": -1}, {"seed": "x"}])
def test_what_can_not_be_asked_is_refused_by_name(daemon: Daemon, wrong: dict[str, Any]) -> None:
    answer = daemon.predict(wrong)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["loc"][-1] in wrong


def test_training_learns_and_gives_the_same_weights_again(tmp_path: Path) -> None:
    written = []
    for folder in (tmp_path / "first", tmp_path / "second"):
        folder.mkdir()
        command = [sys.executable, str(FOLDER / "train.py"), "--folder", str(folder), "--steps", "15"]
        printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=LOAD_TIME_S).stdout
        assert float(printed.splitlines()[-1].split()[0]) < 3.5  # 4.2 is not knowing any character from another
        written.append((folder / "weights.safetensors").read_bytes())
    assert written[0] == written[1]
    assert json.loads(written[0][8 : 8 + int.from_bytes(written[0][:8], "little")])["__metadata__"]["alphabet"]
