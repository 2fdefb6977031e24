"""Debian's Chromium without a screen, driven by Playwright."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Browser, Error, Page, sync_playwright

PATIENCE_SECONDS = 180.0  # of a busy machine; everything that is waited for ends on a condition

_PROGRAM = "chromium-headless-shell"


@dataclass(frozen=True)
class Tab:
    """One page of a browser, with cookies of its own.

    Attributes:
        page: Playwright's page.
        problems: What the browser complained of: scripts that failed, what it did not load.
    """

    page: Page
    problems: list[str]

    def run(self, script: str) -> Any:
        """Return what an expression gives, promises awaited."""
        return self.page.evaluate(script)

    def until(self, condition: str) -> None:
        """Wait until an expression is true.

        Playwright's own `wait_for_function` needs `unsafe-eval`, which the pages forbid.
        """
        end = time.monotonic() + PATIENCE_SECONDS
        while not self._holds(condition):
            assert time.monotonic() < end, (condition, self.run("document.body.innerText"))
            time.sleep(0.02)

    def _holds(self, condition: str) -> bool:
        try:
            return bool(self.run(f"Boolean({condition})"))
        except Error:  # the page is being left
            return False


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Start a browser, and end it."""
    if (program := shutil.which(_PROGRAM)) is None:
        pytest.skip(f"no '{_PROGRAM}' on PATH (Debian: apt-get install {_PROGRAM})")
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=program, args=options)
        yield browser
        browser.close()


def open_tab(browser: Browser) -> Tab:
    """Open a tab as somebody else's: without the others' cookies."""
    tab = Tab(browser.new_context().new_page(), [])
    tab.page.set_default_timeout(PATIENCE_SECONDS * 1000)
    tab.page.on("pageerror", lambda error: tab.problems.append(str(error)))
    tab.page.on(
        "console", lambda said: tab.problems.append(said.text) if said.type == "error" else None
    )
    return tab
