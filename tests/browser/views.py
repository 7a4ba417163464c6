"""What there is to look at: every page of the console, and what opens on it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from playwright.sync_api import Locator, Page


def click(name: str) -> Callable[[Page], None]:
    """Clicks the first button of that name that can be clicked; does nothing where there is none."""

    def act(page: Page) -> None:
        button = _enabled(page.get_by_test_id("stMain").get_by_role("button", name=re.compile(name)))
        if button:
            button.click()

    return act


def tick_and_click(name: str) -> Callable[[Page], None]:
    """Ticks every row that is shown, then clicks a button."""

    def act(page: Page) -> None:
        if every := _enabled(page.get_by_role("button", name="Select all shown")):
            every.click()
            page.get_by_role("button", name="Clear selection").wait_for()
        click(name)(page)

    return act


def _enabled(buttons: Locator) -> Locator | None:
    found = [button for button in buttons.all() if button.is_enabled()]
    return found[0] if found else None


@dataclass(frozen=True)
class View:
    """An address, and what is done on it before it is looked at."""

    path: str
    act: Callable[[Page], None] | None = None


TITLES: Mapping[str, str] = {
    "overview": "Overview", "breakers": "Breakers", "metrics": "Metrics", "alerts": "Alerts", "orders": "Orders",
    "events": "Events", "stock": "Stock", "reviews": "Manual review", "releases": "Releases",
    "conservation": "Conservation", "handover": "Hand-over", "audit": "Audit", "sandbox": "Sandbox",
}  # fmt: skip
"""The pages of the sidebar from top to bottom, as they are called there and above themselves."""

PAGES: Mapping[str, str] = {
    "overview": "", "breakers": "breakers", "metrics": "metrics", "alerts": "alerts", "orders": "orders",
    "order": "order?order=ORD-1002", "events": "events", "stock": "stock", "reviews": "reviews",
    "case": "reviews?case=REV-2", "releases": "releases", "conservation": "conservation", "handover": "handover",
    "audit": "audit", "sandbox": "sandbox",
}  # fmt: skip
"""The address of every page, and of a case."""

VIEWS: Mapping[str, View] = {name: View(path) for name, path in PAGES.items()} | {
    "breakers-override": View("breakers", click("^.*Override$")),
    "breakers-impact": View("breakers", click("Affected orders")),
    "alerts-silence": View("alerts", click("Silence$")),
    "alerts-rules": View("alerts?section=All+alerts"),
    "orders-nothing": View("orders?q=ORD-0"),
    "order-cancel": View("order?order=ORD-1002", click("Cancel order")),
    "order-long-ids": View("order?order=01a204c7-e8b7-7f19-9553-1a42c2e740de"),
    "order-missing": View("order?order=ORD-0"),
    "events-outgoing": View("events?view=Outgoing"),
    "events-incoming": View("events?view=Incoming"),
    "reviews-bulk": View("reviews", tick_and_click(r"Cancel order \d+$")),
    "releases-ledger": View("releases?operation=OP-3"),
    "releases-bulk": View("releases?job=Failed", click("matching$")),
    "sandbox-drill": View("sandbox?drill=DRL-1"),
    "sandbox-set-up": View("sandbox", click("Set up$")),
}
