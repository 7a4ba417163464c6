"""The orders that a place of the page links to, awaited: rows arrive after the heading that counts them."""

from __future__ import annotations

import time

from playwright.sync_api import Locator, Page

_IDS = "links => links.map(link => new URL(link.href).searchParams.get('order'))"


def order_links(place: Locator | Page) -> set[str]:
    """The order ids linked there at this moment, read in one step so that a redraw cannot split them."""
    return set(place.locator("a[href*='order=']").evaluate_all(_IDS))


def expect_order_links(place: Locator | Page, expected: set[str], timeout_ms: int = 30_000) -> None:
    """Return once exactly these orders are linked there; raises AssertionError after the time-out."""
    page = place if isinstance(place, Page) else place.page
    deadline = time.monotonic() + timeout_ms / 1000
    while (found := order_links(place)) != expected:
        assert time.monotonic() < deadline, f"linked: {sorted(found)}, expected: {sorted(expected)}"
        page.wait_for_timeout(50)
