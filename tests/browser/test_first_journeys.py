"""The first steps on the console: an order appears in the open list, and a flagged one is resolved by clicking."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.product import Holdfast, eventually, flagged
from tests.browser.steps import expect_title, follow_order

pytestmark = pytest.mark.slow


def test_an_order_placed_by_the_api_appears_in_the_open_console_and_is_confirmed(
    holdfast: Holdfast, page: Page
) -> None:
    page.goto(f"{holdfast.console}/orders")
    expect_title(page, "Orders")
    expect(page.get_by_text(re.compile("SANDBOX"))).to_be_visible()

    answer = holdfast.place_order()
    assert answer.status_code == 201
    order_id = answer.json()["data"]["orderId"]
    eventually(lambda: holdfast.order(order_id)["status"] == "CONFIRMED")

    # The list shows the order without a reload.
    follow_order(page, order_id)
    expect(page.get_by_text("Confirmed").first).to_be_visible()
    for step in ("Order received", "Reserve inventory", "inventory.confirm_requested", "order.created"):
        expect(page.get_by_text(step).first).to_be_visible()


def test_a_flagged_order_is_resolved_by_clicking_and_the_order_goes_on(holdfast: Holdfast, page: Page) -> None:
    order_id, review_id = flagged(holdfast)
    page.goto(f"{holdfast.console}/reviews")
    page.locator(f".st-key-case_{review_id}").get_by_role("button", name="Open case").click()
    work_area = page.get_by_role("dialog")
    work_area.get_by_role("textbox", name="Note").fill("The service is back")
    work_area.get_by_role("textbox", name="Note").press("Tab")
    work_area.get_by_role("button", name="Retry reservation").click()

    eventually(lambda: holdfast.order(order_id)["status"] == "CONFIRMED")
    resolved = [c for c in holdfast.order(order_id)["reviews"] if c["reason"] == "PENDING_INVENTORY"]
    assert [c["state"] for c in resolved] == ["RESOLVED"]
    expect(work_area.get_by_role("button", name="Retry reservation")).to_be_hidden()
