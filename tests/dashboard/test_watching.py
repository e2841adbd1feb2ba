"""What the page says of the daemon, while things happen to it."""

import os
import signal
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.daemon import Daemon
from tests.dashboard.visit import visit

HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"

SOURCE = f"""
import json

HOSTILE = {HOSTILE!r}

class PythonPredictor:
    def predict(self, payload):
        if "die" in payload:
            raise KeyError(payload["die"])
        if "lie" in payload:
            return HOSTILE
        if "dig" in payload:
            json.loads("{{")
        return payload
"""


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with Daemon(SOURCE) as daemon:
        yield daemon


@pytest.fixture
def page(browser: Browser, daemon: Daemon) -> Iterator[Page]:
    daemon.write(SOURCE)
    with visit(browser, daemon) as page:
        expect(page.locator("#state")).to_have_text("ready")
        yield page


def test_the_page_says_what_serves(page: Page, daemon: Daemon) -> None:
    expect(page).to_have_title("PythonPredictor")
    expect(page.get_by_role("heading", level=1)).to_have_text("PythonPredictor")
    expect(page.locator("#sentence")).to_contain_text("serves on 1 worker.")
    card = page.locator("[data-worker='0']")
    expect(card).to_contain_text("CPU")
    expect(card).to_contain_text(f"pid {daemon.worker_pids()[0]}")
    expect(page.get_by_role("img", name="Latency of the last two minutes")).to_be_visible()
    expect(page.locator("#gpus-section")).to_be_hidden()


def test_the_numbers_are_those_of_status(page: Page, daemon: Daemon) -> None:
    for _ in range(20):
        daemon.predict({})
    total = daemon.status()["requests"]["total"]
    figure = page.locator("#figures > div", has=page.get_by_text("Requests", exact=True)).locator("dd").first
    expect(figure).to_have_text(f"{total:,}")
    expect(page.get_by_role("img", name="Requests of the last two minutes. all: now")).to_be_visible()
    page.get_by_text("As a table").click()
    expect(page.locator("#traffic td").first).to_be_visible()


def test_a_reload_shows_when_it_happens(page: Page, daemon: Daemon) -> None:
    daemon.write(SOURCE.replace("return payload", 'return {"new": payload}'))
    entry = page.locator("#reloads > li").first
    expect(entry).to_contain_text("swap")
    generation = daemon.status()["generation"]
    expect(entry).to_contain_text(f"generation {generation}")
    expect(page.locator("#sentence")).to_contain_text(f"Generation {generation} serves")


def test_a_save_that_does_not_load_shows_the_authors_frames_until_a_good_one(page: Page, daemon: Daemon) -> None:
    trouble = page.locator("#trouble")
    expect(trouble).to_be_hidden()
    daemon.write("class PythonPredictor:\n    def predict(self:\n")
    expect(trouble).to_be_visible()
    expect(trouble).to_contain_text("The last save did not go live.")
    expect(trouble.locator(".own")).to_contain_text("predictor.py:2")
    expect(trouble.locator(".said")).to_contain_text("SyntaxError")
    daemon.write("import json\njson.loads('{')\n" + SOURCE)
    expect(trouble).to_contain_text("JSONDecodeError")
    own = trouble.locator(".own")
    expect(own).to_have_count(1)
    expect(own).to_contain_text("predictor.py:2")
    expect(own).to_contain_text("json.loads('{')")
    expect(trouble.locator(".foreign summary")).to_have_text("3 frames in Python")
    expect(page.locator("#reloads > li").first).to_contain_text("failed")
    daemon.write(SOURCE)
    expect(trouble).to_be_hidden()


def test_failed_predictions_are_counted_with_their_traceback(page: Page, daemon: Daemon) -> None:
    for _ in range(3):
        daemon.predict({"dig": 1})
    entry = page.locator("#failures > li", has_text="JSONDecodeError")
    expect(entry).to_contain_text("3 times")
    entry.locator("summary").first.click()
    expect(entry.locator(".own")).to_contain_text("predict")
    daemon.predict({"dig": 1})
    expect(entry).to_contain_text("4 times")
    expect(entry.locator(".own")).to_be_visible()  # what was unfolded stays so


def test_a_worker_that_dies_shows_and_comes_back(page: Page, daemon: Daemon) -> None:
    pid = daemon.worker_pids()[0]
    card = page.locator("[data-worker='0']")
    expect(card).to_contain_text(f"pid {pid}")
    os.kill(pid, signal.SIGKILL)
    expect(card).not_to_contain_text(f"pid {pid}")
    expect(card).to_contain_text("1 restart")
    expect(card.locator(".state")).to_have_text("ready")


def test_nothing_that_is_shown_is_markup(browser: Browser) -> None:
    with Daemon(SOURCE, file_name="<img src=x onerror=alert(1)>.py") as daemon, visit(browser, daemon) as page:
        expect(page.locator("#place")).to_contain_text("<img src=x onerror=alert(1)>.py")
        daemon.predict({"die": HOSTILE})
        entry = page.locator("#failures > li", has_text="<script>")
        entry.locator("summary").first.click()
        expect(entry.locator(".own")).to_be_visible()
        page.locator("#json").fill('{"lie": 1}')
        page.get_by_role("button", name="Predict").click()
        expect(page.locator("#answer-body pre")).to_have_text(HOSTILE)
        daemon.write(SOURCE + f"\nraise ValueError({HOSTILE!r})\n")
        expect(page.locator("#trouble .said")).to_contain_text("<script>")
        assert page.locator("main img:not(#preview), main script").count() == 0
        assert page.title() != "owned"


def test_the_page_outlives_its_daemon(browser: Browser) -> None:
    with Daemon(SOURCE) as first:
        port = first.port
        with visit(browser, first) as page:
            expect(page.locator("#about")).to_contain_text(f"pid {first.pid}")
            assert first.stop() == 0
            expect(page.get_by_role("alert")).to_contain_text("Not connected")
            with Daemon(SOURCE, "--port", str(port)) as second:
                expect(page.locator("#about")).to_contain_text(f"pid {second.pid}")
                expect(page.locator("#connection")).to_be_hidden()
                expect(page.locator("#state")).to_have_text("ready")


def test_a_hidden_page_listens_to_nothing(page: Page, daemon: Daemon) -> None:
    page.evaluate("Object.defineProperty(document, 'hidden', {configurable: true, get: () => window.isAway})")
    with page.expect_event("requestfailed", lambda request: request.url.endswith("/events")):
        page.evaluate("window.isAway = true; document.dispatchEvent(new Event('visibilitychange'))")
    with page.expect_request("**/events"):
        page.evaluate("window.isAway = false; document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.locator("#connection")).to_be_hidden()


def test_the_page_asks_for_the_token_once(browser: Browser) -> None:
    environment = {"PREDICTORD_TOKEN": "s3cret-word"}
    with Daemon(SOURCE, environment=environment, token="s3cret-word") as daemon, visit(browser, daemon) as page:
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Token").fill("wrong")
        dialog.get_by_role("button").click()
        expect(dialog).to_contain_text("That is not the token.")
        dialog.get_by_label("Token").fill("s3cret-word")
        dialog.get_by_label("Token").press("Enter")
        expect(page.locator("#state")).to_have_text("ready")
        page.locator("#json").fill('{"a": 1}')
        page.get_by_role("button", name="Predict").click()
        expect(page.locator("#answer-status")).to_contain_text("200 OK")
        expect(page.locator("#curl")).to_contain_text("Bearer $PREDICTORD_TOKEN")
        expect(page.locator("#python")).not_to_contain_text("s3cret")
        page.reload()
        expect(page.locator("#state")).to_have_text("ready")
        expect(dialog).to_be_hidden()
