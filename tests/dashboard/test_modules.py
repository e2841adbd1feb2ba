"""The page's modules that only turn text into text, as tables."""

import ast
import json
import traceback
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from playwright.sync_api import Browser, Page

from tests.daemon import Daemon
from tests.dashboard.visit import visit


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    with Daemon("class PythonPredictor:\n    def predict(self): ...\n") as daemon, visit(browser, daemon) as page:
        yield page


def call(page: Page, module: str, function: str, *arguments: Any) -> Any:
    """What an exported function of a module returns."""
    script = "async ([module, name, given]) => (await import(`./dashboard/${module}`))[name](...given)"
    return page.evaluate(script, [module, function, list(arguments)])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=JSON, is_ascii=st.booleans())
def test_json_keeps_its_value_when_laid_out_and_as_python(page: Page, value: Any, is_ascii: bool) -> None:
    text = json.dumps(value, ensure_ascii=is_ascii)
    assert json.loads(call(page, "json.js", "pretty", text, 40)) == value
    assert ast.literal_eval(call(page, "json.js", "toPython", text)) == value


def test_numbers_fill_lines_and_what_is_short_stays_on_one(page: Page) -> None:
    text = json.dumps({"row": list(range(30)), "box": {"x": 1, "y": 2}, "none": []})
    assert call(page, "json.js", "pretty", text, 40).splitlines() == [
        "{",
        '  "row": [',
        "    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10,",
        "    11, 12, 13, 14, 15, 16, 17, 18, 19,",
        "    20, 21, 22, 23, 24, 25, 26, 27, 28,",
        "    29",
        "  ],",
        '  "box": {"x": 1, "y": 2},',
        '  "none": []',
        "}",
    ]


def error_text(source: str) -> str:
    try:
        exec(compile(source, "/home/me/project/predictor.py", "exec"), {})
    except BaseException:
        return traceback.format_exc()
    raise AssertionError("it was to fail")


@pytest.mark.parametrize(
    ("source", "last_words"),
    [
        ("import json\njson.loads('{')", "json.decoder.JSONDecodeError: Expecting property name"),
        ("def f(n):\n    return f(n + 1)\nf(0)", "RecursionError: maximum recursion depth exceeded"),
        (
            "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise ValueError('two\\nlines') from e",
            "ValueError: two\nlines",
        ),
        ("raise ExceptionGroup('many', [ValueError('a'), KeyError('b')])", "KeyError: 'b'"),
        ("compile('class A:\\n  def (', '/home/me/project/other.py', 'exec')", "SyntaxError: invalid syntax"),
    ],
)
def test_nothing_of_a_traceback_is_lost(page: Page, source: str, last_words: str) -> None:
    text = error_text(source)
    parts = call(page, "traceback.js", "parse", text)
    frames = [part for part in parts if part["kind"] == "frame"]
    assert len(frames) == text.count('File "')
    assert [frame["line"] for frame in frames if frame["path"].endswith("/predictor.py")]
    assert last_words in "\n".join(part.get("text", "") for part in parts)
    assert sum(frame["repeats"] for frame in frames) == (
        int(text.partition("repeated ")[2].split()[0]) if "repeated" in text else 0
    )
    assert not any("Traceback (" in part.get("text", "") for part in parts)


@pytest.mark.parametrize(
    ("path", "is_own", "origin"),
    [
        ("/home/me/project/predictor.py", True, "predictor.py"),
        ("/home/me/project/lib/model.py", True, "model.py"),
        ("/home/me/projects/model.py", False, "model.py"),
        ("/home/me/project/.venv/lib/python3.11/site-packages/torch/nn/module.py", False, "torch"),
        ("/home/me/project/venv/lib/python3.11/site-packages/six.py", False, "six"),
        ("/usr/lib/python3.11/json/decoder.py", False, "Python"),
        ("<frozen importlib._bootstrap>", False, "Python"),
        ("<string>", False, "<string>"),
    ],
)
def test_whose_a_frame_is(page: Page, path: str, is_own: bool, origin: str) -> None:
    assert call(page, "traceback.js", "isOwn", path, "/home/me/project") is is_own
    assert call(page, "traceback.js", "originOf", path) == origin


@pytest.mark.parametrize(
    ("function", "value", "text"),
    [
        ("bytes", 0, "0 B"),
        ("bytes", 1024 * 1536, "1.5 MiB"),
        ("bytes", None, "\u2013"),
        ("milliseconds", 0.123, "0.12 ms"),
        ("milliseconds", 12.34, "12.3 ms"),
        ("milliseconds", 1500, "1.50 s"),
        ("rate", 0, "0/s"),
        ("rate", 1234.5, "1,235/s"),
        ("shortPath", "/home/me/predictor.py", "~/predictor.py"),
        ("shortPath", "/srv/home/me/predictor.py", "/srv/home/me/predictor.py"),
    ],
)
def test_numbers_are_fit_to_read(page: Page, function: str, value: Any, text: str) -> None:
    assert call(page, "format.js", function, value) == text


def test_lines_without_a_colon_are_no_headers(page: Page) -> None:
    text = "X-One: a:b\nhalf a name\n\n: none\n two :  2 "
    assert call(page, "request.js", "parseHeaders", text) == [["x-one", "a:b"], ["two", "2"]]


@given(pieces=st.lists(st.integers(1, 7), max_size=20))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_events_come_out_however_the_bytes_are_cut(page: Page, pieces: list[int]) -> None:
    text = ":\n\nevent: a\r\ndata: 1\r\ndata:2\r\n\r\ndata: x\n\n: y\n\nevent: lost\n\ndata\n\n"
    cut, rest = [], text
    for length in pieces:
        cut.append(rest[:length])
        rest = rest[length:]
    script = """async (pieces) => {
        const { EventParser } = await import("./dashboard/sse.js");
        const parser = new EventParser();
        return pieces.flatMap((piece) => [...parser.feed(piece)]).map(({ event, data }) => [event, data]);
    }"""
    assert page.evaluate(script, [*cut, rest]) == [["a", "1\n2"], ["message", "x"], ["message", ""]]
