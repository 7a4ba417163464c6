"""A flagged order: claimed, compared, resolved, undone, resolved again and recorded in the audit log."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.product import Holdfast, eventually, flagged
from tests.browser.steps import dismiss, press_shortcut, sign_in

pytestmark = pytest.mark.slow


def recorded(holdfast: Holdfast, review_id: str) -> list[tuple[str, str, str | None]]:
    """The audit log of a case, oldest first."""
    entries = reversed(holdfast.data("audit")["items"])
    return [(one["actor"], one["action"], one["reason"]) for one in entries if one["target"] == f"review:{review_id}"]


def test_a_case_is_claimed_compared_resolved_undone_and_resolved_again(holdfast: Holdfast, page: Page) -> None:
    order_id, review_id = flagged(holdfast)
    page.goto(f"{holdfast.console}/reviews?q={order_id}&reason=Waiting%20for%20inventory")
    sign_in(page, "olga")
    page.locator(f".st-key-case_{review_id}").get_by_role("button", name="Open case").click()
    case = page.get_by_role("dialog")
    expect(page).to_have_url(re.compile(f"q={order_id}.*case={review_id}"))

    case.get_by_role("button", name="Claim").click()
    expect(case.get_by_text("you until")).to_be_visible()

    # The worker has looked the order up when the case was opened.
    expect(case.locator(f".st-key-record_{order_id}")).to_contain_text("Waiting for inventory")
    expect(case.locator(f".st-key-inventory_status_{order_id}")).to_contain_text("Nothing reserved")

    case.get_by_role("button", name="Cancel order").click()
    expect(case.get_by_text("Note '' is not valid")).to_be_visible()
    case.get_by_role("textbox", name="Note").fill("Customer called")
    case.get_by_role("textbox", name="Note").press("Tab")
    case.get_by_role("button", name="Cancel order").click()
    case.get_by_role("button", name="Undo").click()
    expect(case.get_by_text("Taken back by olga")).to_be_visible()
    assert holdfast.order(order_id)["status"] == "PENDING_INVENTORY"

    # The note is still there and serves the second attempt, which is not undone.
    expect(case.get_by_role("textbox", name="Note")).to_have_value("Customer called")
    case.get_by_role("button", name="Cancel order").click()
    expect(case.get_by_role("button", name="Undo")).to_be_visible()
    eventually(lambda: holdfast.order(order_id)["status"] == "CANCELLED")
    expect(case.get_by_text("Cancel order by olga")).to_be_visible()
    expected = [
        ("olga", "CLAIM", None),
        ("olga", "UNDO", "CANCEL_ORDER asked for by olga"),
        ("olga", "CANCEL_ORDER", "Customer called"),
    ]
    eventually(lambda: recorded(holdfast, review_id) == expected)


def test_a_link_to_a_case_reload_and_back_restore_what_was_shown(holdfast: Holdfast, page: Page) -> None:
    order_id, review_id = flagged(holdfast)
    page.goto(f"{holdfast.console}/reviews?q={order_id}&case={review_id}")
    case = page.get_by_role("dialog")
    expect(case.get_by_text(f"case {review_id}")).to_be_visible()
    page.reload()
    expect(case.get_by_text(f"case {review_id}")).to_be_visible()
    dismiss(page)
    expect(page).not_to_have_url(re.compile(review_id))
    expect(page.get_by_role("searchbox", name="Search")).to_have_value(order_id)
    page.go_back()
    expect(page).to_have_url(re.compile(review_id))
    expect(case.get_by_text(f"case {review_id}")).to_be_visible()


def test_the_key_for_the_next_case_never_opens_the_same_case_twice(holdfast: Holdfast, page: Page) -> None:
    for _ in range(2):
        flagged(holdfast)
    page.goto(f"{holdfast.console}/reviews?reason=Waiting%20for%20inventory&owner=Unclaimed")
    expect(page.get_by_role("button", name="Open case").first).to_be_visible()
    next_case, case = page.get_by_role("button", name="Next unclaimed"), page.get_by_role("dialog")
    press_shortcut(next_case, "n")
    expect(case.get_by_text("you until")).to_be_visible()
    expect(page).to_have_url(re.compile("case="))
    first = page.url
    dismiss(page)
    expect(page).not_to_have_url(re.compile("case="))
    press_shortcut(next_case, "n")
    expect(case.get_by_text("you until")).to_be_visible()
    expect(page).to_have_url(re.compile("case="))
    assert page.url != first
