"""What a newcomer does first: sees an order appear, and resolves a flagged one by clicking."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.product import Holdfast, eventually

pytestmark = pytest.mark.slow


def test_an_order_placed_by_the_api_appears_in_the_open_console_and_is_confirmed(
    holdfast: Holdfast, page: Page
) -> None:
    page.goto(f"{holdfast.console}/orders")
    expect(page.get_by_role("heading", name="Orders")).to_be_visible()
    expect(page.get_by_text(re.compile("SANDBOX"))).to_be_visible()

    answer = holdfast.place_order()
    assert answer.status_code == 201
    order_id = answer.json()["data"]["orderId"]
    eventually(lambda: holdfast.order(order_id)["status"] == "CONFIRMED")

    # Nobody reloads the page: the list brings the order by itself.
    page.get_by_role("link", name=order_id).click()
    expect(page.get_by_role("heading", name=re.compile("^Order "))).to_be_visible()
    expect(page.get_by_text("Confirmed").first).to_be_visible()
    for step in ("Order received", "Reserve inventory", "inventory.confirm_requested", "order.created"):
        expect(page.get_by_text(step).first).to_be_visible()


def test_a_flagged_order_is_resolved_by_clicking_and_the_order_goes_on(holdfast: Holdfast, page: Page) -> None:
    holdfast.set_faults(outage=True)
    try:
        answer = holdfast.place_order(customerPriority="high")
    finally:
        holdfast.set_faults()
    assert answer.status_code == 202, answer.text
    order = answer.json()["data"]
    case = next(case for case in order["reviews"] if case["reason"] == "PENDING_INVENTORY")

    page.goto(f"{holdfast.console}/reviews")
    row = page.locator(f".st-key-case_{case['reviewId']}")
    row.get_by_role("button", name="Open case").click()
    work_area = page.get_by_role("dialog")
    work_area.get_by_role("textbox", name="Note").fill("The service is back")
    work_area.get_by_role("textbox", name="Note").press("Tab")
    work_area.get_by_role("button", name="Retry reservation").click()

    eventually(lambda: holdfast.order(order["orderId"])["status"] == "CONFIRMED")
    resolved = [c for c in holdfast.order(order["orderId"])["reviews"] if c["reason"] == "PENDING_INVENTORY"]
    assert [c["state"] for c in resolved] == ["RESOLVED"]
    expect(work_area.get_by_role("button", name="Retry reservation")).to_be_hidden()
