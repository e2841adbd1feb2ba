"""The end of the log: what it keeps, and that whoever waits for news gets them at once."""

import asyncio
import json
import logging
import threading
from typing import Any

from predictord.supervisor.log_tail import MOST_CHARACTERS, MOST_RECORDS, PATIENCE_S, LogTail


def record(message: str) -> logging.LogRecord:
    return logging.makeLogRecord({"msg": message, "levelno": 20, "levelname": "INFO", "event": "x"})


def filled(*messages: str) -> LogTail:
    tail = LogTail()
    for message in messages:
        tail.append(record(message))
    return tail


def ask(tail: LogTail, **request: Any) -> dict[str, Any]:
    return asyncio.run(tail.by_verb(request))


def messages(reply: dict[str, Any]) -> list[str]:
    return [entry[9:] for entry in reply["entries"]]


def test_the_last_and_those_after_a_number() -> None:
    tail = filled("a", "b", "c")
    reply = ask(tail, count=2)
    assert (messages(reply), reply["last"], reply["missed"]) == (["b", "c"], 3, 0)
    assert messages(ask(tail, count=9)) == ["a", "b", "c"]
    assert messages(ask(tail, after=1)) == ["b", "c"]
    assert ask(LogTail(), count=5) == {"entries": [], "last": 0, "missed": 0}


def test_json_entries() -> None:
    [entry] = ask(filled("a"), count=1, json=True)["entries"]
    assert json.loads(entry)["message"] == "a"


def test_what_is_forgotten_is_counted() -> None:
    reply = ask(filled(*(str(number) for number in range(MOST_RECORDS + 10))), after=4)
    assert (len(reply["entries"]), reply["missed"]) == (MOST_RECORDS, 6)
    assert messages(reply)[0] == "10"


def test_long_records_are_bounded_too() -> None:
    reply = ask(filled(*["x" * (MOST_CHARACTERS // 4)] * 6), count=10)
    assert len(reply["entries"]) == 4


def test_who_waits_gets_news_from_another_thread_at_once() -> None:
    async def wait() -> dict[str, Any]:
        tail = filled("old")
        asking = asyncio.create_task(tail.by_verb({"after": 1}))
        await asyncio.sleep(0)
        thread = threading.Thread(target=tail.append, args=(record("new"),))
        thread.start()
        async with asyncio.timeout(PATIENCE_S / 2):
            reply = await asking
        thread.join()
        return reply

    reply = asyncio.run(wait())
    assert (messages(reply), reply["last"]) == (["new"], 2)
