"""The dashboard's files over plain HTTP: who gets them, and with which headers."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import predictord.supervisor
from tests.daemon import Daemon

FOLDER = Path(predictord.supervisor.__file__).with_name("dashboard")
BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    source = "class PythonPredictor:\n    def predict(self, payload):\n        return payload\n"
    with Daemon(source, environment={"PREDICTORD_TOKEN": "s3cret"}, token="s3cret") as daemon:
        yield daemon


def without_token(daemon: Daemon, path: str, **headers: str) -> httpx.Response:
    return httpx.get(daemon.url + path, headers=headers, trust_env=False)


def test_browsers_get_the_page_and_programs_the_summary(daemon: Daemon) -> None:
    page = without_token(daemon, "/", **BROWSER)
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    summary = daemon.client.get("/")
    assert summary.json()["service"] == "predictord"
    assert page.headers["vary"] == summary.headers["vary"] == "accept"
    head = httpx.head(f"{daemon.url}/", headers=BROWSER, trust_env=False)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(page.content)))


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.iterdir()))
def test_every_file_needs_no_token_and_allows_nothing_else_to_load(daemon: Daemon, name: str) -> None:
    answer = without_token(daemon, "/" if name == "index.html" else f"/dashboard/{name}", **BROWSER)
    assert answer.content == (FOLDER / name).read_bytes()
    types = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
    assert answer.headers["content-type"].startswith(types[Path(name).suffix])
    assert answer.headers["content-security-policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    )
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


def test_a_file_that_is_known_is_not_sent_again(daemon: Daemon) -> None:
    etag = without_token(daemon, "/dashboard/page.js").headers["etag"]
    again = without_token(daemon, "/dashboard/page.js", **{"if-none-match": f'"other", W/{etag}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert without_token(daemon, "/dashboard/page.js", **{"if-none-match": '"other"'}).status_code == 200


@pytest.mark.parametrize("path", ["/dashboard/nothing.js", "/dashboard/..%2fpage.py", "/dashboard/"])
def test_there_is_nothing_else(daemon: Daemon, path: str) -> None:
    assert daemon.client.get(path).status_code == 404


def test_the_page_names_every_file_and_only_files_that_there_are() -> None:
    names = {path.name for path in FOLDER.iterdir()}
    text = "".join(path.read_text() for path in FOLDER.iterdir())
    named = set(re.findall(r'(?:href|src)="dashboard/([^"]+)"', text)) | set(re.findall(r'from "\./([^"]+)"', text))
    assert named | {"index.html"} == names
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|style=|https?://(?!www\.w3)", text
    )
