"""A real browser that is driven, for tests that act on pages: Debian's Chromium by Playwright. No tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from browser import QUIET, installed
from playwright.sync_api import Browser, Page, expect, sync_playwright

PATIENCE_MS = 60_000  # for machines on which much else runs
expect.set_options(timeout=PATIENCE_MS)
# Playwright adds what it needs for itself
_ARGUMENTS = [
    one for one in QUIET if one not in ("--headless", "--enable-logging=stderr", "--hide-scrollbars")
]


@dataclass
class Watched:
    """What a page did while somebody acted on it.

    Args:
        complaints: Errors and warnings of its console, and of its scripts.
        elsewhere: Addresses on other hosts that it asked for.
    """

    page: Page
    complaints: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)

    @property
    def runs_sideways(self) -> bool:
        """Whether the page as a whole can be scrolled to the side."""
        width = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        return bool(self.page.evaluate(width))


@contextmanager
def started() -> Iterator[Browser]:
    """The browser, for as many people as are needed."""
    program = installed()
    if program is None:
        raise FileNotFoundError("no chromium on this machine")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=_ARGUMENTS, timeout=PATIENCE_MS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def person(
    browser: Browser, url: str, token: str = "", width: int = 1280, height: int = 900, dark: bool = False
) -> Iterator[Watched]:
    """Somebody with a window of their own, logged in where a token is given."""
    context = browser.new_context(
        base_url=url,
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce",
    )
    context.set_default_timeout(PATIENCE_MS)
    own = urlsplit(url).netloc
    page = context.new_page()
    watched = Watched(page)
    page.on("pageerror", lambda error: watched.complaints.append(str(error)))
    page.on(
        "console",
        lambda said: watched.complaints.append(said.text) if said.type in ("error", "warning") else None,
    )
    page.on(
        "request",
        lambda asked: (
            watched.elsewhere.append(asked.url) if urlsplit(asked.url).netloc not in ("", own) else None
        ),
    )
    try:
        if token:
            page.goto("/console/login")
            page.get_by_label("Token", exact=True).fill(token)
            page.get_by_role("button", name="Log in with the token").click()
            page.wait_for_url("**/console")
        yield watched
    finally:
        context.close()
