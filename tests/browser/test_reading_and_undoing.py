"""Paused lists, the undo of a delayed cancel, dead letters in bulk, keys, and actions without a database."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
from playwright.sync_api import Page, expect

from state import dead_letters
from state.dead_letters import DeadLetter
from state.engine.database import opened
from tests.browser.product import Holdfast, eventually, flagged
from tests.browser.seeded import database_away, seeded_console
from tests.browser.steps import dismiss, follow_order, sign_in, step_back

pytestmark = pytest.mark.slow


def placed(holdfast: Holdfast) -> str:
    answer = holdfast.place_order()
    assert answer.status_code == 201, answer.text
    order_id = str(answer.json()["data"]["orderId"])
    eventually(lambda: holdfast.order(order_id)["status"] == "CONFIRMED")
    return order_id


def test_a_paused_list_keeps_its_rows_and_a_step_back_restores_it(holdfast: Holdfast, page: Page) -> None:
    first = placed(holdfast)
    page.goto(f"{holdfast.console}/orders")
    follow_order(page, first)
    second = placed(holdfast)

    # A click on an order pauses its list.
    step_back(page, "Orders")
    new = page.get_by_role("button", name=re.compile("1 new"))
    expect(new).to_be_visible()
    expect(page.get_by_role("link", name=first)).to_be_visible()
    expect(page.get_by_role("link", name=second)).to_be_hidden()
    new.click()
    expect(page.get_by_role("link", name=second)).to_be_visible()
    expect(new).to_be_hidden()

    third = placed(holdfast)
    expect(new).to_be_visible()
    page.get_by_role("button", name="Resume updates").click()
    expect(page.get_by_role("link", name=third)).to_be_visible()
    expect(page).not_to_have_url(re.compile("orders_held="))


def test_an_open_payload_pauses_its_list_and_survives_a_reload_and_a_step_back(holdfast: Holdfast, page: Page) -> None:
    order_id = placed(holdfast)
    page.goto(f"{holdfast.console}/events?view=Outgoing")
    page.get_by_text("Payload").first.click()
    expect(page.get_by_text('"orderId"').first).to_be_visible()
    expect(page).to_have_url(re.compile("open=out-.*outgoing_held=|outgoing_held=.*open=out-"))
    page.reload()
    expect(page.get_by_text('"orderId"').first).to_be_visible()
    follow_order(page, order_id)
    step_back(page, "Events")
    expect(page.get_by_text('"orderId"').first).to_be_visible()


def test_a_cancel_from_the_order_page_is_undone_and_the_next_one_takes_effect(holdfast: Holdfast, page: Page) -> None:
    order_id = placed(holdfast)

    def cancel() -> None:
        page.get_by_role("button", name="Cancel order").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Reason").fill("Customer called")
        dialog.get_by_role("button", name="Cancel the order").click()
        expect(dialog).to_be_hidden()

    def recorded() -> list[tuple[str, str]]:
        entries = holdfast.data("audit")["items"]
        return [(entry["actor"], entry["action"]) for entry in entries if entry["target"] == f"order:{order_id}"]

    page.goto(f"{holdfast.console}/order?order={order_id}")
    sign_in(page, "olga")
    cancel()
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text("Taken back by olga").first).to_be_visible()
    assert holdfast.order(order_id)["status"] == "CONFIRMED"
    cancel()
    expect(page.get_by_role("button", name="Undo")).to_be_visible()
    eventually(lambda: holdfast.order(order_id)["status"] == "CANCELLED")
    eventually(lambda: recorded() == [("olga", "CANCEL_ORDER"), ("olga", "UNDO")])


def test_dead_letters_of_one_cause_are_replayed_with_one_result_for_each(holdfast: Holdfast, page: Page) -> None:
    known = [placed(holdfast) for _ in range(3)]
    reason = "UnknownOrder: an order of this drill is not known"
    with opened(holdfast.database_url) as database:
        for number, order_id in enumerate([*known, "nobody"]):
            body = {"orderId": order_id, "reservationId": f"R-{number}"}
            dead_letter = DeadLetter(
                f"DL-{number}", "S", 9000 + number, "inventory.confirmed", order_id, orjson.dumps(body), {}, reason, 8,
                "OPEN", datetime.now(UTC),
            )  # fmt: skip
            database.write_now(lambda connection, dead_letter=dead_letter: dead_letters.add(connection, dead_letter))

    page.goto(f"{holdfast.console}/events")
    page.get_by_role("button", name="Replay 4 of 4").click()
    page.get_by_role("dialog").get_by_role("button", name="Replay events: 4 items").click()
    expect(page.get_by_text("Ended, not all confirmed")).to_be_visible()
    page.get_by_role("button", name="Item list").first.click()
    expect(page).to_have_url(re.compile("operation="))
    (job,) = (job for job in holdfast.data("bulk-jobs")["items"] if job["verb"] == "replay_event")
    # The orders are confirmed already: their handlers ran and changed nothing.
    assert job["ledger"] == {"RECORDED": 3, "FAILED": 1}
    (dead_letter,) = holdfast.data("dead-letters")["items"]
    assert (dead_letter["id"], dead_letter["attempts"]) == ("DL-3", 9)


def test_escape_closes_the_work_area_right_after_its_claim_button_was_replaced(holdfast: Holdfast, page: Page) -> None:
    order_id, review_id = flagged(holdfast)
    page.goto(f"{holdfast.console}/reviews?q={order_id}&case={review_id}")
    case = page.get_by_role("dialog")
    case.get_by_role("button", name="Claim").click()
    expect(case.get_by_role("button", name="Hand back")).to_be_visible()
    dismiss(page)
    expect(page).not_to_have_url(re.compile(review_id))


def test_actions_are_disabled_without_the_database_and_typed_text_stays(tmp_path: Path, page: Page) -> None:
    with seeded_console(tmp_path) as console:
        page.goto(f"{console}/reviews")
        next_case = page.get_by_role("button", name="Next unclaimed")
        expect(next_case).to_be_enabled()
        with database_away(tmp_path):
            expect(next_case).to_be_disabled()
        expect(next_case).to_be_enabled()

        page.goto(f"{console}/order?order=ORD-1002")
        page.get_by_role("button", name="Cancel order").click()
        dialog = page.get_by_role("dialog")
        reason, do = dialog.get_by_label("Reason"), dialog.get_by_role("button", name="Cancel the order")
        reason.fill("the customer ca")
        expect(do).to_be_enabled()
        with database_away(tmp_path):
            expect(do).to_be_disabled()
            expect(reason).to_have_value("the customer ca")
        expect(do).to_be_enabled()
        expect(reason).to_have_value("the customer ca")
