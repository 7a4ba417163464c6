"""A flagged order on Monday: claimed, both sides looked at, resolved, taken back, resolved again, on record."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.browser.product import Holdfast, eventually, flagged

pytestmark = pytest.mark.slow


def on_record(holdfast: Holdfast, review_id: str) -> list[dict[str, Any]]:
    """What the audit log says about a case, oldest first."""
    entries = httpx.get(f"{holdfast.api}/api/v1/audit").json()["data"]["items"]
    return [entry for entry in reversed(entries) if entry["target"] == f"review:{review_id}"]


def test_a_case_is_claimed_compared_resolved_taken_back_and_resolved_again(holdfast: Holdfast, page: Page) -> None:
    order_id, review_id = flagged(holdfast)
    page.goto(f"{holdfast.console}/reviews?q={order_id}&reason=Waiting%20for%20inventory")
    page.get_by_role("textbox", name="Your name").fill("olga")
    page.get_by_role("textbox", name="Your name").press("Enter")
    page.locator(f".st-key-case_{review_id}").get_by_role("button", name="Open case").click()
    case = page.get_by_role("dialog")
    expect(page).to_have_url(re.compile(f"q={order_id}.*case={review_id}"))

    case.get_by_role("button", name="Claim").click()
    expect(case.get_by_text("you until")).to_be_visible()

    # Ours beside theirs: asked by the worker when the case was opened.
    expect(case.locator(f".st-key-ours_{order_id}")).to_contain_text("Waiting for inventory")
    expect(case.locator(f".st-key-theirs_{order_id}")).to_contain_text("Nothing reserved")

    case.get_by_role("button", name="Cancel order").click()
    expect(case.get_by_text("Note '' is not valid")).to_be_visible()
    case.get_by_role("textbox", name="Note").fill("Customer called")
    case.get_by_role("textbox", name="Note").press("Tab")
    case.get_by_role("button", name="Cancel order").click()
    case.get_by_role("button", name="Undo").click()
    expect(case.get_by_text("Taken back by olga")).to_be_visible()
    assert holdfast.order(order_id)["status"] == "PENDING_INVENTORY"

    # The text is still there: once more, and this time it stays.
    expect(case.get_by_role("textbox", name="Note")).to_have_value("Customer called")
    case.get_by_role("button", name="Cancel order").click()
    expect(case.get_by_role("button", name="Undo")).to_be_visible()
    eventually(lambda: holdfast.order(order_id)["status"] == "CANCELLED", seconds=30)
    expect(case.get_by_text("Cancel order by olga")).to_be_visible()

    recorded = [(entry["actor"], entry["action"], entry["reason"]) for entry in on_record(holdfast, review_id)]
    assert recorded == [
        ("olga", "CLAIM", None),
        ("olga", "UNDO", "CANCEL_ORDER asked for by olga"),
        ("olga", "CANCEL_ORDER", "Customer called"),
    ]


def test_a_link_to_a_case_reload_and_back_restore_what_was_seen(holdfast: Holdfast, page: Page) -> None:
    order_id, review_id = flagged(holdfast)
    page.goto(f"{holdfast.console}/reviews?q={order_id}&case={review_id}")
    case = page.get_by_role("dialog")
    expect(case.get_by_text(f"case {review_id}")).to_be_visible()
    page.reload()
    expect(case.get_by_text(f"case {review_id}")).to_be_visible()
    page.keyboard.press("Escape")
    expect(case).to_be_hidden()
    expect(page).not_to_have_url(re.compile(review_id))
    expect(page.get_by_role("searchbox", name="Search")).to_have_value(order_id)
    page.go_back()
    expect(page).to_have_url(re.compile(review_id))
    expect(case.get_by_text(f"case {review_id}")).to_be_visible()


def test_two_people_with_a_key_each_get_a_case_of_their_own(holdfast: Holdfast, page: Page) -> None:
    for _ in range(2):
        flagged(holdfast)
    page.goto(f"{holdfast.console}/reviews?reason=Waiting%20for%20inventory&owner=Unclaimed")
    expect(page.get_by_role("button", name="Open case").first).to_be_visible()
    page.keyboard.press("n")
    case = page.get_by_role("dialog")
    expect(case.get_by_text("you until")).to_be_visible()
    first = page.url
    page.keyboard.press("Escape")
    expect(case).to_be_hidden()
    page.keyboard.press("n")
    expect(case.get_by_text("you until")).to_be_visible()
    assert page.url != first
