"""Lists show new rows until their reader touches them; then their updates are paused.

Source: requirements 11.1, rule 3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from services.domain.orders.model import OrderStatus
from state import audit, dead_letters, deduplication, orders, outbox, products
from state.audit import AuditEntry
from state.dead_letters import DeadLetter
from state.engine.database import Database
from state.products import Product
from tests.support.pages import NOON, checked, listed, press, text_of
from tests.support.seed_console import order

Show = Callable[..., AppTest]


def add_order(connection: Any, number: int) -> None:
    at = NOON + timedelta(seconds=number)
    orders.add(connection, order(f"ORD-NEW-{number}", OrderStatus.PAYING, at), "h")


def add_outgoing(connection: Any, number: int) -> None:
    row = {"event_id": f"evt-NEW-{number}", "subject": "order.created", "order_id": "ORD-1", "payload": b"{}"}
    outbox.add(connection, [row | {"created_at": NOON}])


def add_incoming(connection: Any, number: int) -> None:
    deduplication.add(connection, f"in-NEW-{number}", "inventory.confirmed", None, NOON + timedelta(seconds=number))


def add_dead_letter(connection: Any, number: int) -> None:
    at = NOON + timedelta(seconds=number)
    dead_letters.add(
        connection,
        DeadLetter(f"DL-N{number}", "S", 900 + number, f"NEW-{number}", None, b"{}", {}, "new", 8, "OPEN", at),
    )


def add_product(connection: Any, number: int) -> None:
    at = NOON + timedelta(seconds=number)
    products.put(connection, Product("SKU", f"NEW-{number}", True, "low", 4, 10, "inventory.low_stock", at, None))


def add_action(connection: Any, number: int) -> None:
    at = NOON + timedelta(seconds=number)
    entry = AuditEntry(at, "ada", "APPROVE", "review:R", None, f"NEW-{number}", None, None, "done", None)
    audit.add(connection, entry)


@dataclass(frozen=True)
class List:
    page: str
    name: str
    add: Callable[[Any, int], None]
    text: str
    """How the row of an added thing is known; the number takes the place of the brace."""
    view: str | None = None

    def open(self, show: Show, **more: str) -> AppTest:
        return show(self.page, **({"view": self.view} if self.view else {}), **more)

    def has(self, test: AppTest, number: int) -> bool:
        return self.text.format(number) in text_of(test)


LISTS = (
    List("orders.py", "orders", add_order, "ORD-NEW-{}"),
    List("events.py", "outgoing", add_outgoing, "event evt-NEW-{}", "Outgoing"),
    List("events.py", "incoming", add_incoming, "event in-NEW-{}", "Incoming"),
    List("events.py", "letters", add_dead_letter, "**NEW-{}**\n"),
    List("stock.py", "stock", add_product, "SKU NEW-{}"),
    List("audit.py", "audit", add_action, "NEW-{}"),
)
EVERY = pytest.mark.parametrize("one", LISTS, ids=lambda one: one.name)


def labels(test: AppTest) -> dict[str, str]:
    return {str(button.key): button.label for button in test.button}


@EVERY
def test_a_list_shows_new_rows_until_its_updates_are_paused(busy: Database, show: Show, one: List) -> None:
    test = one.open(show)
    busy.write_now(lambda connection: one.add(connection, 1))
    assert one.has(checked(test.run()), 1)
    press(test, f"hold_{one.name}")
    busy.write_now(lambda connection: one.add(connection, 2))
    checked(test.run())
    assert one.has(test, 1)
    assert not one.has(test, 2)
    assert labels(test)[f"show_new_{one.name}"] == "1 new · show"


@EVERY
def test_new_rows_are_shown_on_request_and_the_updates_are_paused_again(busy: Database, show: Show, one: List) -> None:
    test = press(one.open(show), f"hold_{one.name}")
    busy.write_now(lambda connection: [one.add(connection, number) for number in (1, 2)])
    press(checked(test.run()), f"show_new_{one.name}")
    assert one.has(test, 2)
    assert f"show_new_{one.name}" not in labels(test)
    busy.write_now(lambda connection: one.add(connection, 3))
    assert not one.has(checked(test.run()), 3)
    press(test, f"follow_{one.name}")
    assert one.has(test, 3)
    assert f"{one.name}_held" not in test.query_params


@EVERY
def test_a_link_and_a_reload_show_the_paused_list(busy: Database, show: Show, one: List) -> None:
    test = press(one.open(show), f"hold_{one.name}")
    busy.write_now(lambda connection: one.add(connection, 1))
    place = test.query_params[f"{one.name}_held"]
    again = one.open(show, **{f"{one.name}_held": place})
    assert not one.has(again, 1)
    assert labels(again)[f"show_new_{one.name}"] == "1 new · show"


@EVERY
def test_an_invalid_place_is_the_newest_page(busy: Database, show: Show, one: List) -> None:
    test = one.open(show, **{f"{one.name}_held": "x~"})
    busy.write_now(lambda connection: one.add(connection, 1))
    assert one.has(checked(test.run()), 1)
    assert f"follow_{one.name}" not in labels(test)
    press(test, f"hold_{one.name}")
    assert f"follow_{one.name}" in labels(test)


def test_new_rows_are_counted_no_further_than_a_hundred(busy: Database, show: Show) -> None:
    test = press(show("audit.py"), "hold_audit")
    busy.write_now(lambda connection: [add_action(connection, number) for number in range(130)])
    assert labels(checked(test.run()))["show_new_audit"] == "99+ new · show"


def test_a_row_that_no_longer_matches_keeps_its_place_until_the_list_is_refreshed(busy: Database, show: Show) -> None:
    busy.write_now(lambda connection: [add_order(connection, number) for number in (1, 2, 3)])
    test = press(show("orders.py", status="Paying"), "hold_orders")
    before = listed(test)

    def confirm(connection: Any) -> None:
        known = orders.get(connection, "ORD-NEW-2")
        assert known is not None
        orders.save(connection, known, {"status": OrderStatus.PLACED}, NOON)

    busy.write_now(confirm)
    checked(test.run())
    assert listed(test) == before
    assert "no longer in this list" in text_of(test)
    assert labels(test)["show_new_orders"] == "1 gone · show"
    press(test, "show_new_orders")
    assert listed(test) == [one for one in before if one != "ORD-NEW-2"]


def test_the_content_of_rows_stays_live_while_updates_are_paused(busy: Database, show: Show) -> None:
    test = press(show("orders.py", q="ORD-1003"), "hold_orders")
    assert ":material/credit_card: Paying" in text_of(test)

    def place(connection: Any) -> None:
        known = orders.get(connection, "ORD-1003")
        assert known is not None
        orders.save(connection, known, {"status": OrderStatus.PLACED}, NOON)

    busy.write_now(place)
    assert ":material/shopping_bag: Placed" in text_of(checked(test.run()))


def test_kept_rows_hide_no_row_of_the_next_page(busy: Database, show: Show) -> None:
    busy.write_now(lambda connection: [add_order(connection, number) for number in range(30)])
    test = press(show("orders.py", status="Paying"), "hold_orders")

    def cancel(connection: Any) -> None:
        known = orders.get(connection, "ORD-NEW-20")
        assert known is not None
        orders.save(connection, known, {"status": OrderStatus.PLACED}, NOON)

    busy.write_now(cancel)
    first = listed(checked(test.run()))
    second = listed(press(test, "orders_before_step"))
    assert sorted([*first, *second]) == sorted([*(f"ORD-NEW-{number}" for number in range(30)), "ORD-1003"])


def test_a_link_to_an_order_carries_the_place_so_that_a_step_back_finds_the_list_as_it_was(
    busy: Database, show: Show
) -> None:
    test = show("orders.py")
    (link, *_) = [one for one in test.get("page_link") if "ORD-2000" in one.proto.label]
    assert "orders_held=" in link.proto.query_string
    held = link.proto.query_string.partition("orders_held=")[2].partition("&")[0].replace("%7E", "~")
    busy.write_now(lambda connection: add_order(connection, 1))
    # What a step back brings when filters stand in the address.
    back = show("orders.py", order="ORD-2000", orders_held=held)
    assert listed(back)[0] == "ORD-2000"
    assert labels(back)["show_new_orders"] == "1 new · show"


def test_a_list_left_for_an_order_is_restored_until_it_is_left_for_another_page(busy: Database, show: Show) -> None:
    test = show("orders.py")
    (link, *_) = [one for one in test.get("page_link") if "ORD-2000" in one.proto.label]
    held = link.proto.query_string.partition("orders_held=")[2].partition("&")[0].replace("%7E", "~")
    test.query_params["orders_held"] = held
    test.query_params["order"] = "ORD-2000"
    checked(test.switch_page("order.py").run())
    busy.write_now(lambda connection: add_order(connection, 1))
    test.query_params.clear()
    checked(test.switch_page("orders.py").run())
    assert listed(test)[0] == "ORD-2000"
    assert labels(checked(test.run()))["show_new_orders"] == "1 new · show"
    checked(test.switch_page("stock.py").run())
    checked(test.switch_page("orders.py").run())
    assert listed(test)[0] == "ORD-NEW-1"


def test_later_pages_are_paused_without_a_click(busy: Database, show: Show) -> None:
    test = press(show("orders.py"), "orders_before_step")
    before = listed(test)
    busy.write_now(lambda connection: [add_order(connection, number) for number in range(5)])
    assert listed(checked(test.run())) == before
    assert "hold_orders" not in labels(test)
