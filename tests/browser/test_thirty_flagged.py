"""Thirty flagged orders: filtered by cause, one claimed, two selected, the rest in one bulk job, all audited."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.product import Holdfast, eventually, running
from tests.browser.steps import dismiss, sign_in

pytestmark = pytest.mark.slow

SETTINGS = {
    "SANDBOX_TRAFFIC": "0",
    "RETRY_BASE_DELAY": "20",
    "CONFIRMATION_TIMEOUT": "1000",
    # Long, so that what waits for inventory waits for a person and not for its own retry.
    "RESERVATION_RETRY_BASE_DELAY": "600000",
    # All orders wait for the same cause; the breaker stays closed.
    "BREAKER_VOLUME_THRESHOLD": "1000",
}
UNCONFIRMED, WAITING = 12, 18
RESERVER = "inventoryServiceReserver"
CAUSE = "INVENTORY_UNAVAILABLE"


@pytest.fixture(scope="module")
def monday(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Holdfast]:
    with running(tmp_path_factory.mktemp("monday"), SETTINGS) as product:
        yield product


def waiting_orders(shop: Holdfast, number: int) -> list[dict[str, Any]]:
    """Orders of important customers that come while the Inventory Service is away, with their cases."""
    shop.set_faults(outage=True)
    placed = [shop.place_order(customerPriority="high") for _ in range(number)]
    shop.set_faults()
    assert {answer.status_code for answer in placed} == {202}
    return [answer.json()["data"] for answer in placed]


def case_of(order: dict[str, Any]) -> str:
    return str(next(case["reviewId"] for case in order["reviews"] if case["reason"] == "PENDING_INVENTORY"))


def open_cases(shop: Holdfast) -> Counter[str]:
    return Counter(case["reason"] for case in shop.data("reviews", limit="200")["items"])


def flag_thirty(shop: Holdfast) -> list[dict[str, Any]]:
    """Twelve orders whose confirmation was never answered, and eighteen that wait for inventory."""
    shop.set_faults(silentConfirmations=True)
    placed = [shop.place_order().status_code for _ in range(UNCONFIRMED)]
    assert placed == [201] * UNCONFIRMED
    eventually(lambda: open_cases(shop) == {"CONFIRMATION_TIMEOUT": UNCONFIRMED})
    return waiting_orders(shop, WAITING)


def row(page: Page, review_id: str) -> Locator:
    return page.locator(f".st-key-case_{review_id}")


def tick(page: Page, review_id: str) -> None:
    # The box itself is drawn by its label.
    row(page, review_id).get_by_role("checkbox").check(force=True)


def test_thirty_flagged_orders_are_worked_off_and_all_of_it_is_on_record(monday: Holdfast, page: Page) -> None:
    orders = flag_thirty(monday)
    mine, *others = [case_of(order) for order in orders]
    picked, left = others[:2], others[2:]
    in_group = WAITING

    # By cause: one click leaves the eighteen that wait for the same thing.
    page.goto(f"{monday.console}/reviews?sort=Longest%20waiting")
    sign_in(page, "olga")
    everything = page.get_by_role("button", name=re.compile(r"^Cancel order \d+ of \d+ matching"))
    expect(everything).to_be_disabled()
    page.get_by_role("button", name=f"Waiting for inventory · {CAUSE} {in_group}", exact=True).click()
    expect(page).to_have_url(re.compile(f"code={CAUSE}"))
    expect(page.get_by_text(f"{in_group} waiting")).to_be_visible()

    # One of them is claimed, and another console shows the owner.
    open_case = row(page, mine).get_by_role("button", name="Open case")
    # While a page takes on another filter a row may be drawn twice.
    expect(open_case).to_have_count(1)
    open_case.click()
    case = page.get_by_role("dialog")
    case.get_by_role("button", name="Claim").click()
    expect(case.get_by_text("you until")).to_be_visible()
    expect(case.locator(f".st-key-record_{orders[0]['orderId']}")).to_contain_text("Waiting for inventory")
    expect(case.locator(f".st-key-inventory_status_{orders[0]['orderId']}")).to_contain_text("Nothing reserved")
    dismiss(page, "cross")
    expect(row(page, mine)).to_contain_text("you until")
    assert page.context.browser is not None
    colleague = page.context.browser.new_page()
    colleague.goto(f"{monday.console}/reviews?q={mine}")
    sign_in(colleague, "ben")
    row(colleague, mine).get_by_role("button", name="Open case").click()
    expect(colleague.get_by_role("dialog").get_by_text("olga until")).to_be_visible()
    retry = colleague.get_by_role("dialog").get_by_role("button", name="Retry reservation")
    expect(retry).to_be_disabled()
    colleague.close()

    # Two are selected and retried; the bulk job confirms them when the Inventory Service has deducted the stock.
    for review_id in picked:
        tick(page, review_id)
    expect(page.get_by_text("2 selected", exact=True)).to_be_visible()
    page.get_by_role("button", name="Retry reservation 2", exact=True).click()
    preview = page.get_by_role("dialog")
    expect(preview.get_by_text("Retry reservation: 2 items").first).to_be_visible()
    expect(preview.get_by_text("Agreed: 2; would be refused: 0; not answered: 0.")).to_be_visible()
    preview.get_by_role("button", name="Retry reservation: 2 items").click()
    eventually(lambda: monday.data("bulk-jobs")["items"])
    (first,) = [one["operationId"] for one in monday.data("bulk-jobs")["items"]]
    expect(page.locator(f".st-key-operation_{first}")).to_contain_text(re.compile("2 confirmed"))

    # All others, frozen when the preview opens; meanwhile one changes and two are added.
    rest = 1 + len(left)
    expect(page.get_by_text(f"{rest} waiting")).to_be_visible()
    page.get_by_role("button", name=f"Retry reservation {rest} of {rest} matching").click()
    expect(preview.get_by_text(re.compile("what comes later is not included"))).to_be_visible()
    expect(preview.get_by_text(f"Agreed: {rest}; would be refused: 0; not answered: 0.")).to_be_visible()
    expect(preview.get_by_text(f"acts on {rest} of {rest}")).to_be_visible()
    changed = monday.data("reviews", limit="200")["items"]
    version = next(one["version"] for one in changed if one["reviewId"] == left[-1])
    answer = {"action": "CANCEL_ORDER", "note": "customer called ben", "version": version}
    monday.act("POST", f"reviews/{left[-1]}/resolve", answer)
    late = waiting_orders(monday, 2)
    preview.get_by_label("Reason (optional)").fill("they are back since 8:30")
    preview.get_by_role("button", name=f"Retry reservation: {rest} items").click()
    eventually(lambda: len(monday.data("bulk-jobs")["items"]) == 2)
    second = next(one["operationId"] for one in monday.data("bulk-jobs")["items"] if one["operationId"] != first)
    card = page.locator(f".st-key-operation_{second}")
    expect(card).to_contain_text(re.compile(f"{rest - 1} confirmed"))
    expect(card).to_contain_text("1 skipped, changed")
    expect(card).to_contain_text("Not included: 2 new ones matched at the commit.")
    operation = monday.data(f"bulk-jobs/{second}")
    assert operation["ledger"] == {"CONFIRMED": rest - 1, "SKIPPED": 1}
    assert {item["itemId"] for item in operation["items"]} == {mine, *left}
    card.get_by_role("button", name="Item list").click()
    with page.expect_download() as download:
        card.get_by_role("button", name="All items as CSV").click()
    written = download.value.path().read_text()
    assert left[-1] in written
    assert case_of(late[0]) not in written

    # The two that were added are left: one is cancelled, the cancel is undone, and the order is cancelled again.
    expect(page.get_by_text("2 waiting")).to_be_visible()
    cancelled = case_of(late[0])
    row(page, cancelled).get_by_role("button", name="Open case").click()
    case.get_by_role("textbox", name="Note").fill("ordered twice")
    case.get_by_role("textbox", name="Note").press("Tab")
    case.get_by_role("button", name="Cancel order").click()
    case.get_by_role("button", name="Undo").click()
    expect(case.get_by_text("Taken back by olga")).to_be_visible()
    assert monday.order(late[0]["orderId"])["status"] == "PENDING_INVENTORY"
    case.get_by_role("button", name="Cancel order").click()
    expect(case.get_by_role("button", name="Undo")).to_be_visible()
    eventually(lambda: monday.order(late[0]["orderId"])["status"] == "CANCELLED")

    expect_audit(monday, page, mine=mine, cancelled=cancelled, operations=(first, second), tried=[mine, *picked, *left])


def test_while_the_breaker_is_open_a_retried_reservation_is_queued_and_runs_when_it_closes(
    monday: Holdfast, page: Page
) -> None:
    monday.force_open(RESERVER)
    order = monday.place_order(customerPriority="high").json()["data"]
    waiting = case_of(order)
    page.goto(f"{monday.console}/reviews?q={waiting}")
    expect(page.get_by_text(re.compile("reservation breaker, forced open"))).to_be_visible()
    row(page, waiting).get_by_role("button", name="Open case").click()
    case = page.get_by_role("dialog")
    case.get_by_role("button", name=re.compile("Retry reservation: queue .forced open")).click()
    expect(case.get_by_text("Queued until the breaker closes")).to_be_visible()
    expect(case.get_by_role("button", name="Undo (queued)")).to_be_visible()
    assert monday.order(order["orderId"])["status"] == "PENDING_INVENTORY"

    monday.end_override(RESERVER)
    eventually(lambda: monday.order(order["orderId"])["status"] in ("PLACED", "CONFIRMED"))
    expect(case.get_by_text("Retry reservation: Case resolved")).to_be_visible()


def expect_audit(
    shop: Holdfast, page: Page, *, mine: str, cancelled: str, operations: tuple[str, str], tried: list[str]
) -> None:
    """Every action with actor, reason, before and after, in the audit log and on its page."""

    def of(target: str) -> list[dict[str, Any]]:
        return [entry for entry in reversed(shop.data("audit", limit="200")["items"]) if entry["target"] == target]

    def entries(target: str) -> list[tuple[str, str, str, str | None]]:
        return [(one["actor"], one["action"], one["result"], one["reason"]) for one in of(target)]

    waiting, confirmed = "PENDING_INVENTORY", ("PLACED", "CONFIRMED")
    assert entries(f"review:{mine}") == [
        ("olga", "CLAIM", "done", None),
        ("olga", "RETRY_RESERVATION", "started", "they are back since 8:30"),
        ("olga", "RETRY_RESERVATION", "done", "they are back since 8:30"),
    ]
    for review_id in tried[:-1]:
        began, ended = of(f"review:{review_id}")[-2:]
        assert began["before"]["status"] == ended["before"]["status"] == waiting
        assert ended["after"]["status"] in confirmed
    undone = [("olga", "UNDO", "done"), ("olga", "CANCEL_ORDER", "done")]
    eventually(lambda: [one[:3] for one in entries(f"review:{cancelled}")] == undone)
    ended = of(f"review:{cancelled}")[-1]
    assert (ended["reason"], ended["before"]["status"], ended["after"]["status"]) == (
        "ordered twice",
        waiting,
        "CANCELLED",
    )
    for job_id, asked, skipped in ((operations[0], 2, 0), (operations[1], len(tried) - 3, 1)):
        (begun,) = of(f"operation:{job_id}")
        assert (begun["actor"], begun["action"]) == ("olga", "BULK_RETRY_RESERVATION")
        assert begun["before"]["shown"] == asked + skipped
        assert begun["after"] == {"asked": asked, "skipped": skipped}

    page.goto(f"{shop.console}/audit?who=olga&target={cancelled}")
    expect(page.get_by_text("2 actions match")).to_be_visible()
    expect(page.get_by_text("Cancelled the order").first).to_be_visible()
    expect(page.get_by_text(re.compile("ordered twice.*[Ss]tatus: Waiting for inventory to Cancelled"))).to_be_visible()
    page.goto(f"{shop.console}/audit?who=olga&target={mine}")
    expect(
        page.get_by_text(re.compile("they are back since 8:30.*[Ss]tatus: Waiting for inventory to "))
    ).to_be_visible()
