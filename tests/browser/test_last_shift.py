"""The journey "what happened on the last shift": hand-over and its text, each person's look, audit log, CSV."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.product import Holdfast, eventually, running
from tests.browser.steps import follow, sign_in

pytestmark = pytest.mark.slow

SETTINGS = {
    "SANDBOX_TRAFFIC": "0",
    "RETRY_BASE_DELAY": "20",
    "RELEASE_RETRY_ATTEMPTS": "1",
    "RELEASE_RETRY_BASE_DELAY": "50",
    # Long, so that flagged orders wait for a person and not for their own retry.
    "RESERVATION_RETRY_BASE_DELAY": "600000",
    # No breaker opens by itself: what fires is what the night has forced.
    "BREAKER_VOLUME_THRESHOLD": "1000",
    "ALERT_WINDOW": "15000",
}
CHECKER, ALERT = "inventoryServiceChecker", "InventoryCircuitBreakerOpen"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Holdfast]:
    with running(tmp_path_factory.mktemp("holdfast"), SETTINGS) as product:
        yield product


def waiting_case(shop: Holdfast, order: dict[str, Any]) -> dict[str, Any]:
    (case,) = (
        case
        for case in shop.data("reviews")["items"]
        if (case["orderId"], case["reason"]) == (order["orderId"], "PENDING_INVENTORY")
    )
    return dict(case)


def firing(shop: Holdfast) -> list[str]:
    """The ids of the firing alerts about the forced breaker."""
    return [item["alertId"] for item in shop.data("alerts", state="firing")["items"] if item["name"] == ALERT]


@pytest.fixture(scope="module")
def night(shop: Holdfast) -> dict[str, str]:
    """What nadia and omar did; the ids of the orders it was about."""
    shop.set_faults(silentConfirmations=True)
    unreleased = [shop.place_order().json()["data"]["orderId"] for _ in range(2)]
    shop.set_faults(outage=True)
    for order_id in unreleased:
        shop.cancel(order_id, "omar")
    eventually(lambda: [job["state"] for job in shop.data("releases")["items"]] == ["FAILED"] * 2)
    resolved, claimed = (shop.place_order(customerPriority="high").json()["data"] for _ in range(2))
    shop.set_faults()

    case = waiting_case(shop, resolved)
    body = {"action": "CANCEL_ORDER", "note": "sold out elsewhere", "version": case["version"]}
    shop.act("POST", f"reviews/{case['reviewId']}/resolve", body, "nadia")
    shop.act("POST", f"reviews/{waiting_case(shop, claimed)['reviewId']}/claim", {}, "nadia")
    shop.force_open(CHECKER, 1_500_000, "nadia")
    eventually(lambda: len(firing(shop)) == 1)
    silence = {"reason": "known until seven", "expiresIn": 900_000}
    shop.act("POST", f"alerts/{firing(shop)[0]}/silence", silence, "nadia")
    return {"unreleased": unreleased[0], "resolved": resolved["orderId"], "claimed": claimed["orderId"]}


def retry_all_failed(shop: Holdfast, page: Page) -> None:
    """A bulk job of omar's that stops itself at its first item, since nothing answers."""
    shop.set_faults(outage=True)
    page.goto(f"{shop.console}/releases?job=Failed")
    sign_in(page, "omar")
    page.get_by_role("button", name="Retry 2 of 2 matching").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Reason (optional)").fill("before I go")
    dialog.get_by_role("button", name="Retry release: 2 items").click()
    eventually(lambda: [one["state"] for one in shop.data("bulk-jobs")["items"]] == ["STOPPED"])
    shop.set_faults()


def section(page: Page, title: str) -> Locator:
    """One box of the hand-over."""
    return page.get_by_test_id("stVerticalBlock").filter(has=page.locator(f"strong:text-is('{title}')")).last


def downloaded(page: Page) -> list[dict[str, str]]:
    """The rows of the page's file."""
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV").click()
    with download.value.path().open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_next_shift_reads_what_is_open_and_what_was_done_down_to_the_row(
    shop: Holdfast, night: dict[str, str], page: Page
) -> None:
    retry_all_failed(shop, page)

    page.goto(f"{shop.console}/handover")
    sign_in(page, "petra")
    expect(page.get_by_text("for petra")).to_be_visible()
    expect(section(page, "Firing alerts")).to_contain_text(ALERT)
    expect(section(page, "Open claims")).to_contain_text(f"{night['claimed']}, claimed by nadia")
    expect(section(page, "Open claims")).to_contain_text("ends in")
    expect(section(page, "Failed releases")).to_contain_text(night["unreleased"])
    expect(section(page, "Breaker overrides")).to_contain_text("forced open by nadia: their maintenance")
    # Within half an hour, so it stands out.
    expect(section(page, "Breaker overrides")).to_contain_text(re.compile(r"ends in 2\d min"))
    expect(section(page, "Silences")).to_contain_text("by nadia: known until seven")
    expect(section(page, "Silences")).to_contain_text(re.compile(r"ends in 1\d min"))
    expect(section(page, "Bulk jobs")).to_contain_text("Retry release, 2 items, by omar: Stopped by itself")
    since = section(page, "The last eight hours")
    for did in ("Cancelled the order", "Forced a breaker", "Retried a release", "Forced open"):
        expect(since).to_contain_text(did)

    text = page.get_by_test_id("stCode")
    for line in (
        "## Firing alerts (",
        f"- Waiting for inventory of {night['claimed']}, claimed by nadia (until",
        "forced open by nadia: their maintenance (until",
        "by nadia: known until seven (until",
        f"- {night['unreleased']}:",
        "- Retry release, 2 items, by omar: Stopped by itself",
        "omar: Retried a release, release:",
    ):
        expect(text).to_contain_text(line)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    text.hover()
    page.get_by_role("button", name="Copy to clipboard").click()
    page.wait_for_function("navigator.clipboard.readText().then(text => text.includes('## Open claims (1)'))")

    page.get_by_role("button", name="Mark as seen").click()
    expect(section(page, "Since you last looked")).to_contain_text("Nothing changed.")
    shop.end_override(CHECKER, "nadia")
    expect(section(page, "Since you last looked")).to_contain_text("Ended a forced breaker state")
    expect(page.get_by_text("No breaker is forced.").first).to_be_visible()
    # The mark is that of one person.
    sign_in(page, "quentin")
    expect(section(page, "The last eight hours")).to_contain_text("Retried a release")
    sign_in(page, "petra")
    expect(page.locator("strong:text-is('Since you last looked')")).to_be_visible()


def test_the_audit_log_of_one_person_is_the_same_on_the_page_and_in_the_file(
    shop: Holdfast, night: dict[str, str], page: Page
) -> None:
    log = shop.data("audit", limit="200")["items"]
    hers = [entry for entry in log if entry["actor"] == "nadia"]
    assert {entry["actor"] for entry in log} >= {"nadia", "omar"}

    page.goto(f"{shop.console}/audit?who=nadia")
    rows = page.locator("[class*='st-key-audit_']").filter(has_text="nadia")
    expect(page.get_by_text(f"{len(hers)} actions match")).to_be_visible()
    expect(rows).to_have_count(len(hers))
    expect(page.get_by_text("omar")).to_have_count(0)
    forced = rows.filter(has_text="Forced a breaker")
    expect(forced).to_contain_text("their maintenance")
    expect(forced).to_contain_text(re.compile("override: none to forced_open"))
    expect(forced).to_contain_text("Done")
    cancelled = rows.filter(has_text="sold out elsewhere")
    expect(cancelled).to_contain_text(re.compile("Waiting for inventory to Cancelled"))

    written = downloaded(page)
    assert [(row["actor"], row["action"], row["target"], row["reason"], row["result"]) for row in written] == [
        (entry["actor"], entry["action"], entry["target"], entry["reason"] or "", entry["result"]) for entry in hers
    ]

    follow(cancelled.get_by_role("link"), "Order ", night["resolved"])
    expect(page.get_by_text("Cancelled").first).to_be_visible()
    expect(page.get_by_text("sold out elsewhere").first).to_be_visible()


def test_the_file_of_orders_has_exactly_what_the_filters_show(
    shop: Holdfast, night: dict[str, str], page: Page
) -> None:
    statuses = {order["orderId"]: order["status"] for order in shop.data("orders")["items"]}
    cancelled = {order_id for order_id, status in statuses.items() if status == "CANCELLED"}
    assert night["resolved"] in cancelled
    assert night["claimed"] not in cancelled
    page.goto(f"{shop.console}/orders?status=Cancelled")
    expect(page.get_by_text(f"{len(cancelled)} orders match")).to_be_visible()
    assert {row["orderId"] for row in downloaded(page)} == cancelled
