"""What tests save, how they wait for what became of it, and clients that check that versions only ever grow."""

from pathlib import Path
from typing import Any

from tests.daemon import Daemon, eventually
from tests.faults.traffic import Answered, Traffic
from tests.ledger import PRELUDE


def source(version: int, *, load: str = "", request: str = "") -> str:
    """A predictor that answers with its version; `load` is a statement of `__init__`, `request` one of `predict`.

    Two versions with the same `load` differ by a swap, others by a replace.
    """
    return (
        PRELUDE
        + f"""
class PythonPredictor:
    def __init__(self, config):
        self.config = config
        self.model = object()
        record("load", os.getpid())
        {load or "pass"}

    def predict(self, payload):
        {request or "pass"}
        return {{"version": {version}, "model": id(self.model), "config": self.config, "pid": os.getpid()}}
"""
    )


def last_number(daemon: Daemon) -> int:
    """The highest generation number that a finished reload has used."""
    status = daemon.status()
    last: int = status["reload"]["generation"] if status["reload"] else 1
    serving: int = status["generation"]
    return max(last, serving)


def wait_reload(daemon: Daemon, after: int, deadline_s: float = 15) -> dict[str, Any]:
    """The record of the first reload that is seen with a number above `after`."""

    def seen() -> dict[str, Any] | None:
        record: dict[str, Any] | None = daemon.status()["reload"]
        return record if record and record["generation"] > after else None

    record = eventually(seen, deadline_s)
    assert record is not None
    return record


def save(daemon: Daemon, text: str, deadline_s: float = 15) -> dict[str, Any]:
    """Save the predictor and return how the reload that follows went."""
    before = last_number(daemon)
    daemon.write(text)
    return wait_reload(daemon, before, deadline_s)


def replace_file(path: Path, text: str) -> None:
    """Put this text in the file in one step."""
    draft = path.with_name(f"{path.name}.draft")
    draft.write_text(text)
    draft.replace(path)


def version(daemon: Daemon) -> int:
    """The version that answers now."""
    answer = daemon.predict({})
    assert answer.status_code == 200, answer.text
    number: int = answer.json()["version"]
    return number


def assert_no_way_back(traffic: Traffic) -> None:
    """No request that was sent after an answer had come got an older version than that answer."""
    newest = 0
    ended = sorted(answers_of(traffic), key=lambda one: one.ended_at)
    begun = sorted(ended, key=lambda one: one.ended_at - one.seconds)
    seen = iter(ended)
    upcoming = next(seen, None)
    for one in begun:
        while upcoming is not None and upcoming.ended_at < one.ended_at - one.seconds:
            newest = max(newest, upcoming.document["version"])
            upcoming = next(seen, None)
        assert one.document["version"] >= newest, f"version {one.document['version']} after {newest}"


def answers_of(traffic: Traffic) -> list[Answered]:
    """The predictions that were answered with 200."""
    return [one for one in traffic.answers if one.status == 200]
