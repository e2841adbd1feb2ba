"""One event is one line, whatever it holds."""

import json
import logging
import re
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from predictord.supervisor.log_line import LINE_CHARACTERS, TEXT_CHARACTERS, escape, render_json, render_plain

HOSTILE = st.text(st.characters(exclude_categories=()), max_size=40)


def record(message: str = "hello", **fields: Any) -> logging.LogRecord:
    return logging.makeLogRecord(
        {"msg": message, "levelno": 20, "levelname": "INFO", "created": 1_700_000_000.25} | fields
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("naïve ✓ 🙂", "naïve ✓ 🙂"),
        ("a\r\nb\n", r"a\r\nb\n"),
        ("\x1b[31m\x00\x7f\x85\x9b", r"\x1b[31m\x00\x7f\x85\x9b"),
        ("\u2028\u202e\u2066\ud800", r"\u2028\u202e\u2066\ud800"),
        ("a\tb", "a       b"),
        (r"C:\new", r"C:\new"),
        ("x" * LINE_CHARACTERS, "x" * LINE_CHARACTERS),
        ("x" * (LINE_CHARACTERS + 1234), "x" * LINE_CHARACTERS + " … (1,234 more characters)"),
    ],
)
def test_escape(text: str, shown: str) -> None:
    assert escape(text) == shown
    assert escape(shown[:LINE_CHARACTERS]) == shown[:LINE_CHARACTERS]


@given(HOSTILE, HOSTILE)
@example("\ud800", "\ud800")
def test_every_format_is_one_harmless_line(message: str, field: str) -> None:
    plain, encoded = render_plain(record(message)), render_json(record(message, path=field, nested={field: [field]}))
    for line in (plain, encoded):
        assert len(line.splitlines()) == 1
        assert not re.search(r"[\x00-\x1f\x7f-\x9f]", line)
        line.encode()
    assert set(orjson.loads(encoded)) == {"time", "level", "event", "message", "path", "nested"}


def test_plain_is_time_and_message_and_indented_traceback() -> None:
    shown = render_plain(record("load failed", traceback='File "p.py"\n\tx = 1\nValueError: a\rb\x1b[2J\n'))
    assert re.sub(r"^\d\d:\d\d:\d\d", "T", shown).split("\n") == [
        "T load failed",
        '    File "p.py"',
        "            x = 1",
        r"    ValueError: a\rb\x1b[2J",
    ]


def test_what_workers_print_has_their_tag() -> None:
    assert render_plain(record("loss 0.3", event="worker_output", worker=1)).endswith(" worker 1 | loss 0.3")
    assert render_plain(record("worker 1 ready", event="worker_ready", worker=1))[8:] == " worker 1 ready"


def test_json_carries_every_field() -> None:
    document = json.loads(
        render_json(
            record(
                "a\nb",
                event="worker_ready",
                worker=0,
                seconds=1.5,
                gpu=None,
                nan=float("nan"),
                path=("x", {1}),
                ok=True,
            )
        )
    )
    assert document == {
        "time": "2023-11-14T22:13:20.250+00:00",
        "level": "info",
        "event": "worker_ready",
        "message": "a\nb",
        "worker": 0,
        "seconds": 1.5,
        "gpu": None,
        "nan": None,
        "path": ["x", "{1}"],
        "ok": True,
    }
    assert json.loads(render_json(record()))["event"] == "log"


def test_gigantic_texts_are_cut_in_every_format() -> None:
    gigantic = "x\n" * 1_000_000
    assert len(render_plain(record(gigantic, traceback=gigantic))) < 4 * TEXT_CHARACTERS
    assert len(render_json(record(gigantic, traceback=gigantic))) < 4 * TEXT_CHARACTERS
