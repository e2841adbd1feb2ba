"""A person's browser at a daemon's page, which must do nothing that its policy or its console would complain of."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Page, Playwright, expect

from tests.daemon import Daemon

WITHIN_MS = 15_000
"""How long what is expected may take, on a machine that many tests share."""

expect.set_options(WITHIN_MS)


def launch(playwright: Playwright) -> Browser:
    """The Chromium that scripts/test installs, or the one that there is."""
    path = shutil.which("chromium-headless-shell") or shutil.which("chromium") or shutil.which("google-chrome")
    assert path, "no Chromium: scripts/test installs one"
    return playwright.chromium.launch(executable_path=path, chromium_sandbox=os.getuid() != 0)


@contextmanager
def visit(browser: Browser, daemon: Daemon, **options: Any) -> Iterator[Page]:
    """A fresh browser at the daemon's page; at the end, no complaint and no request to elsewhere."""
    complaints: list[str] = []
    with browser.new_context(**options) as context:
        context.set_default_timeout(WITHIN_MS)
        page = context.new_page()
        page.on("console", lambda message: complaints.extend(_complaint(message)))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: complaints.extend(_foreign(request.url, daemon.url)))
        page.goto(daemon.url, wait_until="domcontentloaded")
        yield page
    assert complaints == []


def _complaint(message: ConsoleMessage) -> list[str]:
    # A status of 500 is what some tests are about; the browser tells of each.
    is_status = message.text.startswith("Failed to load resource")
    return [message.text] if message.type in ("error", "warning") and not is_status else []


def _foreign(url: str, origin: str) -> list[str]:
    return [] if url.startswith((f"{origin}/", f"blob:{origin}/")) else [f"request to {url}"]
