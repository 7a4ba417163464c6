"""Events that cannot be published, from the alert to the end of them: one is published, one is given up."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import Connection, select

from state import outbox, tables
from state.engine.database import opened
from tests.browser.product import Holdfast, eventually
from tests.browser.steps import follow

pytestmark = pytest.mark.slow


def undeliverable(holdfast: Holdfast, order_id: str) -> tuple[int, int]:
    """Two events of an order that a worker has found to be too large; returns the ids of their rows."""

    def add(connection: Connection) -> list[int]:
        (row,) = connection.execute(select(tables.outbox).where(tables.outbox.c.order_id == order_id).limit(1)).all()
        event = {name: getattr(row, name) for name in ("subject", "order_id", "payload", "created_at")}
        names = [f"{row.event_id}-{number}" for number in range(2)]
        outbox.add(connection, [event | {"event_id": name} for name in names])
        ids = connection.scalars(select(tables.outbox.c.id).where(tables.outbox.c.event_id.in_(names))).all()
        never = [(row_id, "maximum payload exceeded") for row_id in ids]
        outbox.settle_and_claim(connection, [], [], 0, row.created_at, undeliverable=never)
        return list(ids)

    with opened(holdfast.database_url) as database:
        first, second = database.write_now(add)
    return first, second


def test_from_the_alert_to_an_event_published_again_and_one_given_up(holdfast: Holdfast, page: Page) -> None:
    order_id = holdfast.place_order().json()["data"]["orderId"]
    first, second = undeliverable(holdfast, order_id)
    page.goto(f"{holdfast.console}/alerts")
    # The worker evaluates its alerts every five seconds.
    to_events = page.get_by_role("link", name="Open Events")
    card = page.locator("[class*=st-key-alert_]", has_text="OrdersNeedingAttention").filter(has=to_events)
    expect(card).to_be_visible()
    follow(card.get_by_role("link", name="Open Events"), "Events", "/events")
    expect(page.get_by_text("Cannot be published: 2 events")).to_be_visible()

    page.locator(f".st-key-publish_{first}").get_by_role("button").click()
    expect(page.get_by_text("Cannot be published: 1 event", exact=False)).to_be_visible()
    expect(page.locator(f".st-key-publish_{first}")).to_be_hidden()

    page.locator(f".st-key-give_up_{second}").get_by_role("button").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Reason").fill("told them by phone")
    dialog.get_by_role("button", name="Give the event up").click()
    expect(dialog).to_be_hidden()
    expect(page.get_by_text(re.compile("Cannot be published: "))).to_be_hidden()

    eventually(lambda: holdfast.data("outbox")["items"] == [])
    expected = {
        ("RETRY_OUTGOING_EVENT", f"outbox-event:{first}", None),
        ("DISCARD_OUTGOING_EVENT", f"outbox-event:{second}", "told them by phone"),
    }

    def recorded() -> set[tuple[str, str, str | None]]:
        return {(entry["action"], entry["target"], entry["reason"]) for entry in holdfast.data("audit")["items"]}

    eventually(lambda: expected <= recorded())

    def is_published() -> bool:
        with opened(holdfast.database_url) as database:
            column = tables.outbox.c.published_at
            return database.read_now(lambda c: c.scalar(select(column).where(tables.outbox.c.id == first))) is not None

    eventually(is_published)
