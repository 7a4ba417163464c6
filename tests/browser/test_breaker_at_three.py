"""The journey "a breaker opens at 3 a.m.": alert, runbook, breaker, the affected orders, one of them, recovery."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.product import Holdfast, eventually, running
from tests.browser.steps import expect_order_links, expect_title, follow, follow_order, sign_in, step_back

pytestmark = [pytest.mark.slow, pytest.mark.alone]

SETTINGS = {
    "SANDBOX_TRAFFIC": "0",
    "RETRY_BASE_DELAY": "20",
    # Long enough to look at the open breaker before its next trial.
    "BREAKER_RESET_TIMEOUT": "40000",
    # More calls than one order makes, so that some order fails before the breaker opens.
    "BREAKER_VOLUME_THRESHOLD": "8",
    "RESERVATION_RETRY_BASE_DELAY": "1000",
    "RESERVATION_RETRY_MAX_DELAY": "2000",
    "RESERVATION_RETRY_ATTEMPTS": "100",
    # Short, so that what fired is judged to be over soon after it is.
    "ALERT_WINDOW": "15000",
}
RECOVERY = 90_000
"""Milliseconds: more than the breaker stays open."""
CHECKER = "inventoryServiceChecker"
ALERT = "InventoryCircuitBreakerOpen"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Holdfast]:
    with running(tmp_path_factory.mktemp("holdfast"), SETTINGS) as product:
        yield product


def breaker_states(shop: Holdfast) -> dict[str, str]:
    return {breaker["name"]: breaker["state"] for breaker in shop.data("breakers")["items"]}


def order_ids(shop: Holdfast) -> set[str]:
    return {order["orderId"] for order in shop.data("orders")["items"]}


def placed(shop: Holdfast, **changes: str) -> str:
    """The id of one more order, however it was answered."""
    before = order_ids(shop)
    shop.place_order(**changes)
    (order_id,) = order_ids(shop) - before
    return order_id


def outcomes(shop: Holdfast, order_id: str, operation: str = "check_availability") -> list[str]:
    """The outcomes of the calls of one operation on the timeline of an order."""
    calls = [entry["details"] for entry in shop.data(f"orders/{order_id}/timeline")["items"] if entry["kind"] == "call"]
    return [call["outcome"] for call in calls if call["operation"] == operation]


def live_through_the_opening(shop: Holdfast) -> tuple[list[str], str, str]:
    """Orders come in until one is denied; returns those before, the one that opened the breaker, and the denied one."""
    before = [placed(shop)]
    while True:
        order_id = placed(shop)
        if "short_circuited" in outcomes(shop, order_id):
            return before[:-1], before[-1], order_id
        before.append(order_id)
        assert len(before) < 10, "the breaker never opened"


def test_from_the_alert_to_the_affected_orders_and_to_the_recovery_without_a_reload(shop: Holdfast, page: Page) -> None:
    page.goto(shop.console)
    expect_title(page, "Overview")
    sign_in(page, "nadia")
    well = [placed(shop), placed(shop)]
    eventually(lambda: all(shop.order(order_id)["status"] == "CONFIRMED" for order_id in well))
    expect(page.get_by_text("No worker is running")).to_be_hidden()
    expect(page.locator(".st-key-firing_alerts")).to_be_hidden()

    shop.set_faults(outage=True)
    failed_before, opener, first = live_through_the_opening(shop)
    assert failed_before
    refused = [first, placed(shop), placed(shop)]
    waiting = [placed(shop, customerPriority="high") for _ in range(2)]
    affected = {opener, *refused, *waiting}

    # The open page shows the fault, its severity and the link to the alert without a reload.
    expect(page.get_by_text(re.compile("The breaker of availability.* is open"))).to_be_visible()
    firing = page.locator(".st-key-firing_alerts")
    expect(firing).to_contain_text(ALERT)
    expect(firing).to_contain_text("Critical")
    header = page.locator(".st-key-page_header")
    expect(header.get_by_text(re.compile(r"\d firing"))).to_be_visible()

    follow(firing.get_by_role("link", name=re.compile("^Alerts")), "Alerts", "/alerts")
    card = page.locator("[class*='st-key-alert_']").filter(has_text=ALERT).filter(has_text="availability check")
    expect(card).to_contain_text("firing since")
    expect(card.get_by_text("Nothing has to be restarted here")).to_be_visible()
    card.get_by_role("button", name="Acknowledge").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label(re.compile("Note")).fill("calling their on-call")
    dialog.get_by_role("button", name="Acknowledge").click()
    expect(card.get_by_text(re.compile("nadia.*calling their on-call"))).to_be_visible()

    follow(card.get_by_role("link", name="Open Breakers"), "Breakers", "/breakers")
    panel = page.locator(f".st-key-breaker_{CHECKER}")
    badge = panel.locator(".stMarkdownBadge").first
    expect(badge).to_have_text(re.compile("Open$"))
    expect(panel).to_contain_text(re.compile(r"half-open, one trial, in \d+ s"))
    expect(panel).to_contain_text(re.compile(r"opens at 50 % of at least 8"))
    (judged,) = (breaker for breaker in shop.data("breakers")["items"] if breaker["name"] == CHECKER)
    assert judged["state"] == "open"

    opening = page.locator("[class*='st-key-opening_']").filter(has_text="Availability")
    expect(opening).to_contain_text(re.compile(rf"{len(affected)} orders .* {len(affected) - 1} denied"))
    opening.get_by_role("button", name="Affected orders").click()
    impact = page.locator(".st-key-incident_impact")
    expect(impact.get_by_text(f"{len(affected)} orders affected")).to_be_visible()
    expect_order_links(impact, affected)
    # The incident impact agrees with the timeline of each order.
    denied = {order_id for order_id in order_ids(shop) if "short_circuited" in outcomes(shop, order_id)}
    assert denied == {*refused, *waiting}
    assert not affected & {*well, *failed_before}

    follow(impact.get_by_role("link", name="These orders on the Orders page"), "Orders", "/orders")
    expect(page.get_by_text(re.compile(rf"^As of .* {len(affected)} orders"))).to_be_visible()
    expect_order_links(page.get_by_test_id("stMain"), affected)
    step_back(page, "Breakers")
    expect(impact.get_by_text(f"{len(affected)} orders affected")).to_be_visible()

    follow_order(impact, refused[0])
    step = page.get_by_text(re.compile("short.circuited")).first
    expect(step).to_be_visible()
    expect(page.get_by_text("INVENTORY_UNAVAILABLE", exact=False).first).to_be_visible()
    step_back(page, "Breakers")
    expect(impact.get_by_text(f"{len(affected)} orders affected")).to_be_visible()
    row = page.locator(f".st-key-hurt_{waiting[0]}")
    expect(row).to_contain_text("Waiting for inventory")
    address = page.url

    shop.set_faults()
    # The breaker waits for its time and then for a call, so an order has to come in.
    expect(badge).to_have_text(re.compile("Half-open$"), timeout=RECOVERY)
    trial = placed(shop)
    expect(badge).to_have_text(re.compile("Closed$"))
    for order_id in waiting:
        expect(page.locator(f".st-key-hurt_{order_id}")).to_contain_text("Confirmed")
    expect(header.get_by_text(re.compile(r"\d firing"))).to_be_hidden()
    assert page.url == address
    eventually(lambda: shop.order(trial)["status"] == "CONFIRMED")
    expect_order_links(impact, affected)
    assert set(breaker_states(shop).values()) == {"closed"}

    follow(page.get_by_role("link", name="Alerts", exact=True), "Alerts", "/alerts")
    expect(page.get_by_text("No alert fires.")).to_be_visible()
    expect(page.get_by_text(ALERT).first).to_be_visible()
    kinds = {event["kind"] for event in shop.data("alerts/history")["items"] if event["name"] == ALERT}
    assert kinds == {"FIRING", "ACKNOWLEDGED", "RESOLVED"}
