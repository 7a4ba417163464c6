"""Every search finds what a plain look through all orders finds, page by page, on both databases."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest

from state import order_search, orders, reviews
from state.order_search import OrderQuery
from tests.support.fakes import START
from tests.support.seed_console import STATES, order

STATUSES = list(STATES)


def shop(connection):
    """Ninety orders, several of them at the same instant, every fifth one flagged."""
    source = random.Random(3)
    made = []
    for number in range(90):
        at = START + timedelta(seconds=number // 3)
        one = order(f"o-{source.randrange(10**6):06}-{number}", STATUSES[number % 11], at, user_id=f"u-{number % 4}")
        orders.add(connection, one, "h")
        made.append(one)
        if number % 5 == 0:
            reviews.open_case(connection, f"r-{number}", one.order_id, "PENDING_INVENTORY", "waits", at)
    return made


def matches(one, query, flagged):
    products = {line.product_id for line in one.lines}
    return all(
        (
            not query.text or query.text in {one.order_id, one.user_id, *products},
            not query.statuses or one.status in query.statuses,
            not query.inventory_statuses or one.inventory_status in query.inventory_statuses,
            not query.payment_statuses or one.payment_status in query.payment_statuses,
            query.since is None or one.created_at >= query.since,
            query.until is None or one.created_at < query.until,
            not query.flagged or one.order_id in flagged,
            not query.unflagged or one.order_id not in flagged,
            not query.user_id or one.user_id == query.user_id,
        )
    )


QUERIES = {
    "all": OrderQuery(),
    "user": OrderQuery(text="u-2"),
    "user and status": OrderQuery(text="u-2", statuses=("PLACED", "CONFIRMED")),
    "product": OrderQuery(text="SKU-CHAIR"),
    "product, flagged": OrderQuery(text="SKU-LAMP", flagged=True),
    "nobody": OrderQuery(text="nobody"),
    "statuses": OrderQuery(statuses=("PLACED", "PAYING", "RETURNED")),
    "status and inventory": OrderQuery(statuses=("PAYING", "PLACED"), inventory_statuses=("RESERVED",)),
    "inventory": OrderQuery(inventory_statuses=("RESTOCK_REQUESTED", "NONE")),
    "payment, common": OrderQuery(payment_statuses=("CAPTURED",)),
    "payment, unusual": OrderQuery(payment_statuses=("UNKNOWN", "FAILED")),
    "payment, both": OrderQuery(payment_statuses=("UNKNOWN", "REFUNDED")),
    "flagged": OrderQuery(flagged=True),
    "flagged and status": OrderQuery(flagged=True, statuses=("PLACED",)),
    "not flagged": OrderQuery(unflagged=True),
    "not flagged, status": OrderQuery(unflagged=True, statuses=("PLACED",)),
    "not flagged, of a user": OrderQuery(unflagged=True, user_id="u-3"),
    "of a user": OrderQuery(user_id="u-1"),
    "of a user, status, flagged": OrderQuery(user_id="u-0", statuses=("PLACED", "PAYING"), flagged=True),
    "product, of a user": OrderQuery(text="SKU-CHAIR", user_id="u-2"),
    "time": OrderQuery(since=START + timedelta(seconds=4), until=START + timedelta(seconds=9)),
    "time and status": OrderQuery(since=START + timedelta(seconds=4), statuses=("CONFIRMED",)),
}


def key(one):
    return one.created_at, one.order_id


def walked(connection, query, window):
    """All pages from the newest on, each continued where the last one says."""
    found, before = [], None
    for _ in range(200):
        part = order_search.find(connection, query, limit=7, before=before, window=window)
        assert len(part.orders) <= 7
        found += part.orders
        if not part.has_more and part.frontier is None:
            return found
        before = key(part.orders[-1]) if part.has_more else part.frontier
    raise AssertionError("the pages never end")


@pytest.mark.parametrize("candidates", [0, 2000])
@pytest.mark.parametrize("window", [5, 5000])
def test_a_search_finds_exactly_what_matches_newest_first(database, monkeypatch, window, candidates):
    monkeypatch.setattr(order_search, "MAX_CANDIDATES", candidates)
    made = database.write_now(shop)
    flagged = {one.order_id for number, one in enumerate(made) if number % 5 == 0}
    with database.engine.connect() as connection:
        for name, query in QUERIES.items():
            expected = sorted((one for one in made if matches(one, query, flagged)), key=key, reverse=True)
            found = walked(connection, query, window)
            assert [one.order_id for one in found] == [one.order_id for one in expected], name


def test_one_page_back_is_the_page_that_one_came_from(database):
    made = sorted(database.write_now(shop), key=key, reverse=True)
    query = OrderQuery(statuses=("PLACED", "CONFIRMED", "PAYING"))
    wanted = [one.order_id for one in made if one.status in query.statuses]
    with database.engine.connect() as connection:
        first = order_search.find(connection, query, limit=5)
        second = order_search.find(connection, query, limit=5, before=key(first.orders[-1]))
        third = order_search.find(connection, query, limit=5, before=key(second.orders[-1]))
        back = order_search.find(connection, query, limit=5, after=key(third.orders[0]))
    assert [one.order_id for one in back.orders] == [one.order_id for one in second.orders] == wanted[5:10]
    assert back.has_more


def test_matches_are_counted_up_to_a_limit_and_marked_as_more(database):
    database.write_now(shop)
    with database.engine.connect() as connection:
        assert order_search.count(connection, OrderQuery(text="u-2"), 1000) == (22, False)
        assert order_search.count(connection, OrderQuery(), 50) == (50, True)
        assert order_search.count(connection, OrderQuery(payment_statuses=("CAPTURED",)), 10) == (10, True)


def test_a_file_gets_the_newest_orders_up_to_its_limit(database):
    made = sorted(database.write_now(shop), key=key, reverse=True)
    with database.engine.connect() as connection:
        found = list(order_search.walk(connection, OrderQuery(), 37))
    assert [one.order_id for one in found] == [one.order_id for one in made[:37]]
