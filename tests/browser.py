"""A real Chromium for the tests of pages: Debian's, headless, with every request counted that is not the page's own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

PHONE = {"width": 390, "height": 844}
SMALLEST_TEXT_PX = 12
FACTS = """() => {
  const wide = document.documentElement.clientWidth, seen = e => e.getClientRects().length > 0;
  const own = e => [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
  const scrolls = e => { for (; e; e = e.parentElement) if (['auto', 'scroll'].includes(getComputedStyle(e).overflowX)) return true; return false; };
  const scale = e => { const m = e.getScreenCTM && e.ownerSVGElement ? e.getScreenCTM() : null; return m ? Math.hypot(m.a, m.b) : 1; };
  const all = [...document.body.querySelectorAll('*')].filter(seen);
  return {
    overflow: document.documentElement.scrollWidth - wide,
    sticking_out: all.filter(e => e.getBoundingClientRect().right > wide + 1 && !scrolls(e)).map(e => e.tagName + '.' + e.className).slice(0, 5),
    small: all.filter(own).map(e => [parseFloat(getComputedStyle(e).fontSize) * scale(e), e.tagName + ' ' + e.textContent.trim().slice(0, 40)])
      .filter(([px]) => px < SMALLEST).slice(0, 5),
    broken: [...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.alt),
    height: document.documentElement.scrollHeight, text: document.body.innerText };
}""".replace("SMALLEST", str(SMALLEST_TEXT_PX))  # noqa: E501


def chromium() -> str:
    """The program; installed when it is missing, else the test is skipped."""
    if not (found := shutil.which("chromium")):
        if os.getuid() or not shutil.which("apt-get"):
            pytest.skip("chromium is not here, and only root can install it (Debian's package of that name)")
        for words in (["update"], ["install", "-y", "--no-install-recommends", "chromium"]):
            subprocess.run(
                ["apt-get", "-qq", *words], check=True, env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
            )
        found = shutil.which("chromium")
    assert found
    return found


@dataclass
class Seen:
    """What a page did while it was looked at, and what it looks like."""

    facts: dict[str, Any] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    """Addresses that it asked for beside its own and data:."""
    said: list[str] = field(default_factory=list)
    """Errors and warnings of the console, dialogues, uncaught errors."""


@contextmanager
def browsing() -> Iterator[Any]:
    """A running browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"])
        try:
            yield browser
        finally:
            browser.close()


def look(browser: Any, address: str, size: dict[str, int] = PHONE, picture: Path | None = None) -> Seen:
    """Opens a page, scrolls through it, and tells; what it asks of the network is counted and not given."""
    seen = Seen()
    context = browser.new_context(viewport=size)
    page = context.new_page()

    def asked(route: Any) -> None:
        if route.request.url == address:
            return route.continue_()
        seen.left.append(route.request.url)
        route.abort()

    page.route(lambda url: not url.startswith("data:"), asked)
    page.on("console", lambda message: message.type in ("error", "warning") and seen.said.append(message.text))
    page.on("pageerror", lambda error: seen.said.append(str(error)))
    page.on("dialog", lambda dialog: (seen.said.append(f"dialogue {dialog.message}"), dialog.dismiss()))
    page.goto(address, wait_until="load")
    for place in range(0, int(page.evaluate("document.documentElement.scrollHeight")), 4 * size["height"]):
        page.evaluate(f"window.scrollTo(0, {place})")  # pictures are loaded when they come into sight
    page.wait_for_timeout(100)
    seen.facts = page.evaluate(FACTS)
    if picture is not None:
        page.evaluate("window.scrollTo(0, 0)")
        page.screenshot(path=str(picture))
    context.close()
    return seen
