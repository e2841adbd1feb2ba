"""The form that tries the predictor, and what it shows of the answer."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.daemon import Daemon
from tests.dashboard.visit import visit
from tests.examples import EXAMPLES
from tests.ledger import PRELUDE

PICTURE = EXAMPLES / "digits" / "seven.png"

ECHO = (
    PRELUDE
    + """
from starlette.datastructures import FormData
from starlette.responses import Response

class PythonPredictor:
    async def predict(self, payload, query_params, headers):
        if "fail" in query_params:
            return self.fail(payload)
        if isinstance(payload, FormData):
            file = payload["image"]
            return Response(await file.read(), media_type=file.content_type)
        return payload

    def fail(self, payload):
        raise KeyError(payload["missing"])
"""
)

STREAM = (
    PRELUDE
    + """
class PythonPredictor:
    def predict(self, payload, query_params):
        for number in range(3):
            if number:
                wait_for_file(f"{query_params['gate']}-{number}")
            yield f"word {number}, " if payload == "text" else {"number": number}
        if payload == "cut":
            raise ValueError("no more")
"""
)

TYPED = """
from typing import Literal
from pydantic import BaseModel, Field

class Ask(BaseModel):
    text: str = Field(description="What to read.")
    count: int = Field(1, ge=1, le=9)
    mood: Literal["calm", "bold"] = "calm"
    loud: bool = False
    tags: list[str] | None = None

class PythonPredictor:
    def predict(self, payload: Ask):
        \"\"\"Says what it read.\"\"\"
        return payload
"""


@pytest.fixture(scope="module")
def echo() -> Iterator[Daemon]:
    with Daemon(ECHO) as daemon:
        yield daemon


@pytest.fixture
def page(browser: Browser, echo: Daemon) -> Iterator[Page]:
    with visit(browser, echo) as page:
        yield page


@pytest.fixture(scope="module")
def streaming() -> Iterator[Daemon]:
    with Daemon(STREAM) as daemon:
        yield daemon


def send(page: Page, body: str, *, query: str = "", headers: str = "", kind: str = "JSON") -> None:
    page.get_by_role("radio", name=kind).check(force=True)
    page.get_by_label(f"{kind} payload").fill(body)
    if query or headers:
        page.get_by_text("Query and headers").click()
        page.get_by_label("Query").fill(query)
        page.get_by_label("Headers").fill(headers)
    page.get_by_role("button", name="Predict", exact=True).click()


def choose(page: Page, file: Path, field: str = "") -> None:
    page.get_by_role("radio", name="File").check(force=True)
    page.get_by_label("File to send").set_input_files(file)
    page.get_by_label("As the form field").fill(field)


def run_snippets(page: Page, folder: Path) -> list[bytes]:
    """What the snippets' programs print in this folder."""
    commands = [
        ["bash", "-c", page.locator("#curl").inner_text() + " -sS"],
        [sys.executable, "-c", page.locator("#python").inner_text()],
    ]
    return [
        subprocess.run(command, cwd=folder, capture_output=True, check=True, timeout=20).stdout for command in commands
    ]


def shown(page: Page) -> str:
    output = page.locator("#answer-body .output")
    expect(output).to_be_visible()
    expect(output).not_to_be_empty()
    return output.inner_text()


def test_json_goes_out_and_comes_back_with_its_timings(page: Page) -> None:
    body = '{"id": 12345678901234567890, "words": ["ä", "\\ud83d\\ude00", "a\\/b"], "no": null, "pi": 3.14}'
    send(page, body)
    status = page.locator("#answer-status")
    for fact in ("200 OK", "total", "queue", "predict", "worker 0", "generation 1", "type application/json"):
        expect(status).to_contain_text(fact)
    assert json.loads(shown(page)) == json.loads(body)


def test_what_is_no_json_is_said_and_still_sent(page: Page) -> None:
    page.get_by_label("JSON payload").fill('{"a": ')
    expect(page.locator("#json-problem")).to_contain_text("Not JSON yet")
    page.get_by_label("JSON payload").press("Control+Enter")
    expect(page.locator("#answer-status")).to_contain_text("400 Bad Request")
    expect(page.locator("#answer-body")).to_contain_text("invalid_payload")


def test_text_is_text(page: Page, tmp_path: Path) -> None:
    text = 'it\'s "quoted" $HOME \\ ä\n@second line'
    send(page, text, kind="Text")
    assert shown(page) == text
    expect(page.locator("#python")).to_contain_text("answer.text")
    for output in run_snippets(page, tmp_path):
        assert output.decode().rstrip("\n") == text


@pytest.mark.parametrize(
    "body", ['{"it\'s": [true, null, "\\ud83d\\ude00 \\" $(x) `y`"], "n": 9007199254740993}', "[1.5e3]"]
)
def test_the_same_call_by_curl_and_python(page: Page, tmp_path: Path, body: str) -> None:
    send(page, body, query="top_k=3&name=a b&range=[1-3]", headers='x-mood: it\'s "calm"')
    expect(page.locator("#answer-status")).to_contain_text("200 OK")
    by_curl, by_python = run_snippets(page, tmp_path)
    assert json.loads(by_curl) == json.loads(body)
    assert by_python.decode().strip() == repr(json.loads(body))


@pytest.mark.parametrize("field", ["", "image"])
def test_an_image_is_shown_before_and_after(page: Page, tmp_path: Path, field: str) -> None:
    choose(page, PICTURE, field)
    preview = page.get_by_role("img", name="The chosen image, seven.png")
    expect(preview).to_be_visible()
    page.get_by_role("button", name="Predict", exact=True).click()
    answered = page.get_by_role("img", name="The image that was answered")
    expect(answered).to_be_visible()
    expect(page.locator("#answer-body")).to_contain_text("160 \u00d7 160 pixels")
    assert answered.evaluate("image => image.naturalWidth") == 160
    (tmp_path / "seven.png").write_bytes(PICTURE.read_bytes())
    run_snippets(page, tmp_path)
    assert (tmp_path / "answer").read_bytes() == PICTURE.read_bytes()


def test_bytes_show_as_such(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "some.bin"
    file.write_bytes(bytes(range(32)) + b"predictord")
    choose(page, file)
    page.get_by_role("button", name="Predict", exact=True).click()
    assert "00 01 02" in shown(page)
    assert "predictor" in shown(page)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert Path(download.value.path()).read_bytes() == file.read_bytes()


def test_a_failure_shows_the_authors_frames(page: Page) -> None:
    send(page, "{}", query="fail")
    answer = page.locator("#answer-body")
    expect(answer).to_contain_text("KeyError: 'missing'")
    expect(answer.locator(".own").last).to_contain_text("fail")
    expect(page.locator("#answer-status")).to_contain_text("500 Internal Server Error")


@pytest.mark.parametrize(
    ("body", "headers", "first", "rest"),
    [
        ('"text"', "", "word 0,", "word 2,"),
        ('"lines"', "", '{"number": 0}', '{"number": 2}'),
        ('"events"', "accept: text/event-stream", '{"number": 0}', '{"number": 2}'),
    ],
)
def test_a_stream_shows_as_it_comes(
    browser: Browser, streaming: Daemon, body: str, headers: str, first: str, rest: str
) -> None:
    with visit(browser, streaming) as page:
        gate = body.strip('"')
        send(page, body, query=f"gate={gate}", headers=headers)
        answer, status = page.locator("#answer-body"), page.locator("#answer-status")
        expect(answer).to_contain_text(first)
        expect(status).to_contain_text("streaming")
        expect(status).to_contain_text("first piece")
        assert rest not in answer.inner_text()
        for number in (1, 2):
            streaming.open_gate(f"{gate}-{number}")
        expect(answer).to_contain_text(rest)
        expect(status).not_to_contain_text("streaming")
        expect(page.locator("#curl")).to_contain_text("curl -N")
        by_curl, by_python = run_snippets(page, streaming.folder)
        assert rest.replace(" ", "") in by_curl.decode().replace(" ", "")
        assert by_python == by_curl


def test_a_stream_that_breaks_says_so(browser: Browser, streaming: Daemon) -> None:
    with visit(browser, streaming) as page:
        send(page, '"cut"', query="gate=cut")
        expect(page.locator("#answer-body")).to_contain_text('{"number": 0}')
        for number in (1, 2):  # the browser may lose what comes right before the end
            streaming.open_gate(f"cut-{number}")
        expect(page.locator("#answer-status")).to_contain_text("cut off before its end")
        expect(page.locator("#answer-body")).to_contain_text('{"number": 0}')


def test_a_prediction_can_be_cancelled(browser: Browser, streaming: Daemon) -> None:
    with visit(browser, streaming) as page:
        send(page, '"lines"', query="gate=never")
        expect(page.locator("#answer-body")).to_contain_text('{"number": 0}')
        page.get_by_role("button", name="Cancel").click()
        expect(page.locator("#answer-status")).to_contain_text("cancelled")
        streaming.open_gate("never-1")
        streaming.open_gate("never-2")


def test_asking_again_leaves_nothing_of_the_answer_before(browser: Browser, streaming: Daemon) -> None:
    with visit(browser, streaming) as page:
        send(page, '"text"', query="gate=first")
        answer, status = page.locator("#answer-body"), page.locator("#answer-status")
        expect(answer).to_contain_text("word 0")
        page.get_by_label("Query").fill("gate=second")
        page.get_by_role("button", name="Predict again").click()
        for number in (1, 2):
            streaming.open_gate(f"first-{number}")
            streaming.open_gate(f"second-{number}")
        expect(status).not_to_contain_text("streaming")
        expect(status).to_contain_text("200 OK")
        expect(answer.get_by_role("button", name="Copy")).to_have_count(1)
        assert answer.inner_text().count("word 0") == 1


def test_a_401_of_the_predictors_own_asks_for_no_token(browser: Browser) -> None:
    source = """
        from starlette.exceptions import HTTPException

        class Predictor:
            def predict(self, payload):
                raise HTTPException(401, "who are you?")
    """
    with Daemon(source) as daemon, visit(browser, daemon) as page:
        send(page, "1")
        expect(page.locator("#answer-status")).to_contain_text("401")
        expect(page.get_by_role("dialog")).to_be_hidden()


def test_a_header_that_no_request_can_have_is_named(page: Page) -> None:
    send(page, "1", headers="no good: 1")
    expect(page.locator("#answer-status")).to_contain_text("no good")


def test_fields_come_from_the_schema_and_follow_it(browser: Browser, tmp_path: Path) -> None:
    with Daemon(TYPED) as daemon, visit(browser, daemon) as page:
        expect(page.get_by_role("radio", name="Fields")).to_be_checked()
        expect(page.get_by_role("region", name="Try it")).to_contain_text("Says what it read.")
        page.get_by_label("text", exact=True).fill("hi")
        page.get_by_label("count").fill("3")
        page.get_by_label("mood").select_option("bold")
        page.get_by_label("tags").fill('["a"]')
        page.get_by_role("button", name="Predict", exact=True).click()
        expect(page.locator("#answer-status")).to_contain_text("200 OK")
        expected = {"text": "hi", "count": 3, "mood": "bold", "loud": False, "tags": ["a"]}
        assert json.loads(shown(page)) == expected
        assert json.loads(run_snippets(page, tmp_path)[0]) == expected
        page.get_by_label("count").fill("99")
        page.get_by_role("button", name="Predict", exact=True).click()
        expect(page.locator("#answer-body li")).to_contain_text("count")
        daemon.write(TYPED.replace("loud: bool = False", "quiet: bool = True"))
        expect(page.get_by_label("quiet")).to_be_visible()
        expect(page.get_by_label("text", exact=True)).to_have_value("hi")


@pytest.mark.parametrize(("kind", "chosen"), [("str", "Text"), ("bytes", "File"), ("list[int]", "JSON")])
def test_the_kind_of_payload_is_chosen_by_its_type(browser: Browser, kind: str, chosen: str) -> None:
    source = f"class PythonPredictor:\n    def predict(self, payload: {kind}): ...\n"
    with Daemon(source) as daemon, visit(browser, daemon) as page:
        expect(page.locator("#state")).to_have_text("ready")
        expect(page.get_by_role("radio", name=chosen)).to_be_checked()


def test_the_page_works_by_keyboard_alone(page: Page) -> None:
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Go to the form")
    expect(skip).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_role("radio", name="JSON")).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_label("Text payload")).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.type("hello")
    page.keyboard.press("Control+Enter")
    assert shown(page) == "hello"


def test_all_inputs_have_names(page: Page) -> None:
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("input, textarea, select, button")]
            .filter((input) => !(input.labels?.length || input.textContent.trim() || input.ariaLabel))
            .map((input) => input.outerHTML)"""
    )
    assert nameless == []
