"""The console over real pipes."""

import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import TextIO

import pytest

from predictord.supervisor.console import QUEUED_RECORDS, open_console

log = logging.getLogger("predictord")


class Reader:
    """A stream to log to, and what has arrived at its other end."""

    def __init__(self, read_end: int, stream: TextIO) -> None:
        self.read_end = read_end
        self.stream = stream

    def text(self) -> str:
        """Everything up to the end of file; ends our stream."""
        self.stream.close()
        with open(self.read_end, "rb", closefd=False) as file:
            return file.read().decode()

    def lines(self) -> list[str]:
        """As `text`, line by line, without the time."""
        return [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in self.text().split("\n")[:-1]]


@pytest.fixture
def reader() -> Iterator[Reader]:
    read_end, write_end = os.pipe()
    with open(write_end, "w", encoding="utf-8") as stream:
        yield Reader(read_end, stream)
    os.close(read_end)


def test_plain_shows_messages_as_they_were_when_said(reader: Reader) -> None:
    with open_console("plain", reader.stream):
        names = ["a"]
        log.info("serving %s", names, extra={"event": "serving"})
        names.append("b")
        log.debug("not shown")
        try:
            raise KeyError("text\r")
        except KeyError:
            log.exception("prediction failed")
        log.error("load failed", extra={"traceback": "its own"})
        logging.getLogger("asyncio").warning("slow callback")
    shown = reader.lines()
    assert shown[:3] == ["serving ['a']", "prediction failed", "    Traceback (most recent call last):"]
    assert shown[-4:] == [r"    KeyError: 'text\r'", "load failed", "    its own", "slow callback"]


def test_nothing_is_shown_outside_the_block(reader: Reader) -> None:
    before = log.level, logging.getLogger().handlers[:]
    with open_console("plain", reader.stream):
        assert log.isEnabledFor(logging.INFO)
    log.warning("too late")
    assert (log.level, logging.getLogger().handlers) == before
    assert log.level == logging.NOTSET
    assert reader.text() == ""


def test_json_is_one_object_a_line(reader: Reader) -> None:
    with open_console("json", reader.stream):
        log.info("a\nb", extra={"event": "x", "worker": 0})
        log.warning("second")
    documents = [json.loads(line) for line in reader.text().splitlines()]
    assert [(each["level"], each["event"], each["message"]) for each in documents] == [
        ("info", "x", "a\nb"),
        ("warning", "log", "second"),
    ]


def test_auto_is_plain_where_there_is_no_terminal(reader: Reader) -> None:
    with open_console("auto", reader.stream) as loading:
        loading.start("worker 0 (CPU)")
        log.info("hello")
        loading.done("worker 0 (CPU)")
    assert reader.lines() == ["hello"]


def test_a_pipe_that_is_not_read_blocks_nobody_and_drops_are_counted(reader: Reader) -> None:
    logged = 3 * QUEUED_RECORDS
    with open_console("json", reader.stream):
        slowest_s = 0.0
        for number in range(logged):
            before = time.monotonic()
            log.info("x" * 100, extra={"number": number})
            slowest_s = max(slowest_s, time.monotonic() - before)
        assert slowest_s < 1
        arrived, dropped = b"", 0
        shown: list[int] = []
        while len(shown) + dropped < logged:
            arrived += os.read(reader.read_end, 65536)
            *lines, arrived = arrived.split(b"\n")
            documents = [json.loads(line) for line in lines]
            shown += [each["number"] for each in documents if "number" in each]
            dropped += sum(each.get("dropped", 0) for each in documents)
    assert dropped > 0
    assert len(shown) + dropped == logged
    assert shown[:QUEUED_RECORDS] == list(range(QUEUED_RECORDS))


def test_leaving_does_not_wait_for_a_pipe_that_is_never_read(reader: Reader) -> None:
    before = threading.enumerate()
    with open_console("plain", reader.stream):
        for _ in range(2 * QUEUED_RECORDS):
            log.info("x" * 1000)
    assert threading.enumerate() == before


def test_a_reader_that_went_away_is_no_error() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with open(write_end, "w") as stream, open_console("plain", stream):
        for _ in range(100):
            log.info("hello")


def test_a_closed_or_missing_stream_is_no_error(reader: Reader) -> None:
    with open_console("auto", None):
        log.info("hello")
    with open_console("plain", reader.stream):
        reader.stream.close()
        log.info("still there")
    assert reader.lines() == ["still there"]


def test_a_field_that_can_not_be_shown_silences_nothing_else(reader: Reader) -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError("no\ntext")

    with open_console("json", reader.stream):
        log.info("first", extra={"field": Broken()})
        log.info("second")
    documents = [json.loads(line) for line in reader.text().splitlines()]
    assert [document["message"] for document in documents] == [
        r"a log line could not be shown: RuntimeError('no\ntext')",
        "second",
    ]


STUCK = """
import logging, sys
from predictord.supervisor.console import open_console
with open_console("auto", sys.stdout):
    for _ in range(10_000):
        logging.getLogger("predictord").info("x" * 1000)
assert "rich" not in sys.modules
print("done", file=sys.stderr)
"""


def test_a_process_ends_cleanly_though_nobody_reads_its_output() -> None:
    process = subprocess.Popen([sys.executable, "-c", STUCK], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with process:
        assert process.stderr
        assert process.stderr.read() == b"done\n"
        assert process.wait(30) == 0
