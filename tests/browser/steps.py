"""Steps of a user. Each returns once the page shows the effect, so that the next step meets the new page.

A click returns before the server has run the page. An expectation that the old page satisfies as well, or a step back
in that moment, makes a test that fails on a busy machine only.
"""

from __future__ import annotations

import re
import time
from contextlib import suppress
from typing import Literal

from playwright.sync_api import Locator, Page, expect
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError

from tests.browser.settled import rest, settle

Way = Literal["Escape", "cross"]
"""To dismiss a dialog."""

TRIES, TRY_MS = 5, 3_000

_IDS = "links => links.map(link => new URL(link.href).searchParams.get('order'))"


def open_page(page: Page, url: str) -> None:
    """Load a page of the console and wait until it is drawn."""
    page.goto(url)
    page.get_by_text("Updated").first.wait_for()
    settle(page)


def sign_in(page: Page, name: str) -> None:
    box = page.get_by_role("textbox", name="Your name")
    box.fill(name)
    box.press("Enter")


def expect_title(page: Page, title: str) -> None:
    """Wait for the page with exactly this title; "Order " stands for the page of any order."""
    wanted = re.compile(f"^{title}") if title.endswith(" ") else re.compile(f"^{title}$")
    expect(page.get_by_role("heading", level=1)).to_have_text(wanted)


def follow(link: Locator, title: str, url: str) -> None:
    """Click a link to another page and wait for its title and its address, which contains ``url``."""
    link.click()
    expect(link.page).to_have_url(re.compile(re.escape(url)))
    expect_title(link.page, title)


def follow_order(place: Locator | Page, order_id: str) -> None:
    """Click the first link to an order and wait for the order's page."""
    follow(place.get_by_role("link", name=order_id).first, "Order ", f"order={order_id}")


def step_back(page: Page, title: str) -> None:
    page.go_back()
    expect_title(page, title)


def dismiss(page: Page, way: Way = "Escape") -> None:
    """Dismiss the dialog; a key or click that comes while the dialog is redrawn is repeated."""
    dialog = page.get_by_role("dialog")
    for _ in range(TRIES):
        # The dialog may close between the check and the next key.
        with suppress(PlaywrightTimeoutError):
            if way == "Escape":
                dialog.press("Escape", timeout=TRY_MS)
            else:
                # A toast may cover the cross.
                cross = dialog.get_by_role("button", name="Close", exact=True)
                cross.dispatch_event("click", timeout=TRY_MS)
        with suppress(AssertionError):
            expect(dialog).to_have_count(0, timeout=TRY_MS)
            return
    expect(dialog).to_have_count(0)


def press_shortcut(button: Locator, key: str) -> None:
    """Press the keyboard shortcut of a button once the browser listens for it."""
    expect(button).to_be_enabled()
    rest(button.page)
    button.page.keyboard.press(key)


def order_links(place: Locator | Page) -> set[str]:
    """The order ids linked there at this moment, read in one step so that a redraw cannot split them."""
    return set(place.locator("a[href*='order=']").evaluate_all(_IDS))


def expect_order_links(place: Locator | Page, expected: set[str], timeout_ms: int = 60_000) -> None:
    """Return once exactly these orders are linked there; raises AssertionError after the time-out."""
    page = place if isinstance(place, Page) else place.page
    deadline = time.monotonic() + timeout_ms / 1000
    while (found := order_links(place)) != expected:
        assert time.monotonic() < deadline, f"linked: {sorted(found)}, expected: {sorted(expected)}"
        page.wait_for_timeout(50)
