"""Claims, lists and version checks over SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import itertools
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError

from services.domain.commands import Outcome
from services.domain.orders.changes import TimelineEntry
from services.domain.orders.model import Line, Order
from services.runtime.clock_skew import reschedule, scheduled
from services.runtime.retention import KEPT, delete_older
from state import (
    audit,
    breakers,
    bulk_jobs,
    commands,
    dead_letters,
    deduplication,
    order_search,
    orders,
    outbox,
    parked_events,
    products,
    releases,
    replicas,
    reviews,
    samples,
    tables,
)
from state.audit import AuditEntry
from state.commands import Command
from state.dead_letters import DeadLetter
from state.order_search import OrderQuery
from state.orders import KeyTaken, StaleOrder
from state.parked_events import HANDLER_FAILED, UNKNOWN_ORDER, ParkedEvent
from state.products import Product
from state.releases import ReleaseFilter
from tests.support.fakes import START
from tests.support.retention import prune

LATER = START + timedelta(seconds=60)
LINES = (Line("chair", "oak", 2), Line("lamp", "brass", 1))


def order(order_id: str, **values: Any) -> Order:
    at = values.pop("created_at", START)
    return Order(order_id, "user-1", "standard", LINES, at, at, **values)


async def add_orders(database, number, **values):
    def transaction(connection):
        for n in range(number):
            orders.add(connection, order(f"o-{n:03}", **values), "hash")

    await database.write(transaction)


# ---------------------------------------------------------------- one order


async def test_an_order_comes_back_as_it_was_stored(database):
    stored = order(
        "o-1",
        status="PAYING",
        reservation_id="r-1",
        reservation_expires_at=LATER,
        confirmed_at=START,
        cancel_reason="X",
        failure={"code": "A", "details": {"items": [1]}},
        metadata={"ä": ["\u2603", 1.5, None, {"x": True}]},
        due_at=LATER,
        attempts=3,
    )
    await database.write(lambda c: orders.add(c, stored, "hash"))
    assert await database.read(lambda c: orders.get(c, "o-1")) == stored
    assert await database.read(lambda c: orders.get_many(c, ["nobody", "o-1"])) == [stored]
    assert await database.read(lambda c: orders.request_hash(c, "o-1")) == "hash"
    assert await database.read(lambda c: orders.get(c, "nobody")) is None


async def test_an_order_read_before_another_process_changed_it_cannot_be_saved(database):
    await add_orders(database, 1)
    stale = await database.read(lambda c: orders.get(c, "o-000"))
    saved = await database.write(lambda c: orders.save(c, stale, {"status": "RESERVING"}, LATER))
    assert (saved.version, saved.updated_at, saved.status) == (2, LATER, "RESERVING")
    with pytest.raises(StaleOrder):
        await database.write(lambda c: orders.save(c, stale, {"status": "REJECTED"}, LATER))
    assert await database.read(lambda c: orders.get(c, "o-000")) == saved


async def test_of_many_who_change_one_version_exactly_one_succeeds(database):
    await add_orders(database, 1)
    seen = await database.read(lambda c: orders.get(c, "o-000"))
    ends = await asyncio.gather(
        *(database.write(lambda c, n=n: orders.save(c, seen, {"attempts": n}, LATER)) for n in range(12)),
        return_exceptions=True,
    )
    assert sum(1 for end in ends if isinstance(end, StaleOrder)) == 11


async def test_an_order_id_and_a_key_are_taken_once(database):
    await add_orders(database, 1)
    with pytest.raises(IntegrityError):
        await database.write(lambda c: orders.add(c, order("o-000"), "other"))
    await database.write(lambda c: orders.remember_key(c, "k", "ada", "o-000", "hash", START))
    with pytest.raises(KeyTaken):
        await database.write(lambda c: orders.remember_key(c, "k", "ada", "o-001", "hash", START))
    assert await database.read(lambda c: orders.find_key(c, "k", "ada")) == ("o-000", "hash")


async def test_a_key_is_that_of_its_caller_only(database):
    await add_orders(database, 2)
    await database.write(lambda c: orders.remember_key(c, "k", "ada", "o-000", "hash", START))
    await database.write(lambda c: orders.remember_key(c, "k", "bob", "o-001", "other", START))
    assert await database.read(lambda c: orders.find_key(c, "k", "bob")) == ("o-001", "other")
    assert await database.write(lambda c: prune(c, tables.idempotency_keys, LATER, 10)) == 2


async def test_a_key_from_before_callers_were_kept_is_everybodys(database):
    await add_orders(database, 1)
    await database.write(lambda c: orders.remember_key(c, "k", "", "o-000", "hash", START))
    assert await database.read(lambda c: orders.find_key(c, "k", "ada")) == ("o-000", "hash")
    with pytest.raises(KeyTaken):
        await database.write(lambda c: orders.remember_key(c, "k", "ada", "o-000", "hash", START))


async def test_an_event_is_known_by_its_source_type_and_id(database):
    async def add(event_id="42", event_type="t", source="a", digest="d"):
        return await database.write(
            lambda c: deduplication.add(c, event_id, event_type, None, START, source=source, digest=digest)
        )

    assert [await add(), await add(source="b"), await add(event_type="u"), await add(event_id="43")] == [True] * 4
    assert await add() is False
    with pytest.raises(deduplication.OtherContent):
        await add(digest="e")
    assert await database.write(lambda c: prune(c, tables.inbox, LATER, 10)) == 4


async def test_the_table_refuses_more_returned_than_bought(database):
    await add_orders(database, 1)
    await database.write(lambda c: orders.add_returned(c, "o-000", [Line("chair", "oak", 2)]))
    with pytest.raises(IntegrityError):
        await database.write(lambda c: orders.add_returned(c, "o-000", [Line("chair", "oak", 1)]))


# --------------------------------------------------------------------- claims


async def claimed_by_many(database, claim, workers=6):
    """What each of several workers got, all asking at once and until nothing is left."""

    async def work() -> list:
        mine: list = []
        while got := await database.write(claim):
            mine += got
        return mine

    return await asyncio.gather(*(work() for _ in range(workers)))


async def test_due_orders_are_claimed_once_by_whoever_comes_first(database):
    await add_orders(database, 60, due_at=START)
    shares = await claimed_by_many(database, lambda c: orders.claim_due(c, START, LATER, 7))
    taken = [one.order_id for share in shares for one in share]
    assert sorted(taken) == [f"o-{n:03}" for n in range(60)]
    one = shares[0][0] if shares[0] else shares[1][0]
    assert (one.version, one.due_at, one.lines) == (2, LATER, LINES)


async def test_orders_are_claimed_when_they_are_due_and_the_longest_waiting_first(database):
    for n, seconds in enumerate((30, 10, 20, 70)):
        due_at = START + timedelta(seconds=seconds)
        await database.write(lambda c, n=n, due_at=due_at: orders.add(c, order(f"o-{n}", due_at=due_at), "h"))
    claimed = await database.write(lambda c: orders.claim_due(c, LATER, LATER + timedelta(hours=1), 2))
    assert [one.order_id for one in claimed] == ["o-1", "o-2"]


async def test_a_claim_that_ended_can_be_taken_by_another_worker(database):
    await add_orders(database, 1, due_at=START)
    assert await database.write(lambda c: orders.claim_due(c, START, LATER, 8))
    assert not await database.write(lambda c: orders.claim_due(c, LATER - timedelta(seconds=1), LATER, 8))
    assert await database.write(lambda c: orders.claim_due(c, LATER, LATER, 8))


async def test_due_releases_are_claimed_once(database):
    await add_orders(database, 40)
    for n in range(40):
        await database.write(lambda c, n=n: releases.start(c, f"o-{n:03}", "x", START))
    shares = await claimed_by_many(database, lambda c: releases.claim_due(c, START, LATER, 5))
    taken = [job.order_id for share in shares for job in share]
    assert sorted(taken) == [f"o-{n:03}" for n in range(40)]


async def test_a_job_started_again_cannot_be_settled_by_its_earlier_attempt(database):
    await add_orders(database, 1)
    await database.write(lambda c: releases.start(c, "o-000", "x", START))
    (job,) = await database.write(lambda c: releases.claim_due(c, START, LATER, 5))
    await database.write(lambda c: releases.start(c, "o-000", "again", START))
    assert not await database.write(lambda c: releases.settle(c, job, START, state="DONE", next_attempt_at=None))
    stored = await database.read(lambda c: releases.get(c, "o-000"))
    assert (stored.state, stored.reason, stored.attempts) == ("PENDING", "again", 0)


async def test_commands_are_claimed_once(database):
    def store(connection):
        for n in range(40):
            made = Command(f"c-{n:02}", "k", "t", {}, "ada", "STORED", START + timedelta(seconds=n))
            commands.store(connection, made)
            commands.store(connection, made)

    await database.write(store)
    now = START + timedelta(minutes=5)
    shares = await claimed_by_many(database, lambda c: commands.claim(c, now, now + timedelta(minutes=1), 3))
    taken = [command.command_id for share in shares for command in share]
    assert sorted(taken) == [f"c-{n:02}" for n in range(40)]
    assert not await database.read(lambda c: commands.any_waiting(c, now))
    assert await database.read(lambda c: commands.any_waiting(c, now + timedelta(minutes=2)))


async def test_a_command_is_kept_and_finished_by_its_present_claim_alone(database):
    now, later = START, START + timedelta(minutes=2)
    await database.write(lambda c: commands.store(c, Command("c-1", "k", "t", {}, "ada", "STORED", START)))
    await database.write(lambda c: commands.claim(c, now, LATER, 1, by="first", only=["k"]))
    assert not await database.write(lambda c: commands.claim(c, later, later, 1, by="second", never=["k"]))
    (again,) = await database.write(lambda c: commands.claim(c, later, later, 1, by="second", never=["x"]))
    assert again.attempts == 2
    assert not await database.write(lambda c: commands.keep(c, "c-1", "first", later))
    assert not await database.write(lambda c: commands.finish(c, "c-1", "REFUSED", Outcome("y"), later, by="first"))
    assert await database.write(lambda c: commands.finish(c, "c-1", "DONE", Outcome("x"), later, by="second"))
    assert not await database.write(lambda c: commands.finish(c, "c-1", "REFUSED", Outcome("y"), later, by="second"))
    ended = await database.read(lambda c: commands.get(c, "c-1"))
    assert (ended.state, ended.outcome) == ("DONE", Outcome("x"))


def event_rows(number, at=START):
    return [
        {"event_id": f"e-{n:03}", "subject": "s", "order_id": "o", "payload": b"\x00\xff", "created_at": at}
        for n in range(number)
    ]


async def test_events_are_claimed_once_and_oldest_first(database):
    await database.write(lambda c: outbox.add(c, event_rows(100)))
    shares = await claimed_by_many(database, lambda c: outbox.settle_and_claim(c, [], [], 9, START))
    taken = [row.event_id for share in shares for row in share]
    assert sorted(taken) == [f"e-{n:03}" for n in range(100)]
    assert all([row.id for row in share[:9]] == sorted(row.id for row in share[:9]) for share in shares)
    assert bytes(next(row for share in shares for row in share).payload) == b"\x00\xff"


async def test_published_events_are_settled_and_the_next_claimed_in_one_go(database):
    await database.write(lambda c: outbox.add(c, event_rows(5)))
    first = await database.write(lambda c: outbox.settle_and_claim(c, [], [], 2, START))
    assert await database.read(outbox.pending) == (5, START)
    second = await database.write(
        lambda c: outbox.settle_and_claim(c, [row.id for row in first], [], 2, START + timedelta(seconds=1))
    )
    assert [row.event_id for row in second] == ["e-002", "e-003"]
    assert (await database.read(outbox.pending))[0] == 3
    assert await database.write(lambda c: outbox.settle_and_claim(c, [row.id for row in second], [], 0, START)) == []
    assert (await database.read(outbox.pending))[0] == 1


async def test_a_refused_event_waits_longer_each_time_and_others_go_first(database):
    await database.write(lambda c: outbox.add(c, event_rows(2)))
    now, waits = START, []
    for _ in range(8):
        (bad, *_others) = await database.write(lambda c, now=now: outbox.settle_and_claim(c, [], [], 1, now))
        failed = [(bad.id, "refused")]
        await database.write(lambda c, now=now, failed=failed: outbox.settle_and_claim(c, [], failed, 0, now))
        until = select(tables.outbox.c.claimed_until).where(tables.outbox.c.id == bad.id)
        due = await database.read(lambda c, until=until: c.scalar(until))
        waits.append((due - now).total_seconds())
        others = await database.write(lambda c, now=now: outbox.settle_and_claim(c, [], [], 5, now))
        assert bad.event_id not in [row.event_id for row in others]
        now = due + timedelta(seconds=1)
    assert waits == [0.5, 1, 2, 4, 5, 5, 5, 5]


async def test_events_of_a_relay_that_died_are_claimed_again(database):
    await database.write(lambda c: outbox.add(c, event_rows(1)))
    assert await database.write(lambda c: outbox.settle_and_claim(c, [], [], 5, START))
    assert not await database.write(lambda c: outbox.settle_and_claim(c, [], [], 5, START + outbox.CLAIM))
    after = START + outbox.CLAIM + timedelta(seconds=1)
    assert await database.write(lambda c: outbox.settle_and_claim(c, [], [], 5, after))


async def test_an_event_is_remembered_once_however_many_handle_it_at_the_same_time(database):
    firsts = await asyncio.gather(
        *(database.write(lambda c: deduplication.add(c, "e", "t", None, START)) for _ in range(10))
    )
    assert sorted(firsts) == [False] * 9 + [True]


# ---------------------------------------------------------------------- cases


async def test_an_order_has_one_open_case_per_reason(database):
    await add_orders(database, 1)

    def opened(number, reason="X"):
        return database.write(lambda c: reviews.open_case(c, f"r-{number}", "o-000", reason, f"d-{number}", START))

    assert [await opened(1), await opened(2), await opened(3, "Y")] == [True, False, True]
    cases = (await database.read(lambda c: reviews.of_orders(c, ["o-000"])))["o-000"]
    assert sorted((case.reason, case.detail) for case in cases) == [("X", "d-2"), ("Y", "d-3")]
    closed = await database.write(
        lambda c: reviews.close_cases(c, "o-000", ["X", "Z"], by="system", resolution="SETTLED", at=START)
    )
    assert closed == ["X"]
    assert await opened(4) is True
    assert await database.read(reviews.count_open_by_reason) == {"X": 1, "Y": 1}
    with pytest.raises(IntegrityError):
        await database.write(lambda c: c.execute(insert(tables.reviews), _case_row()))


def _case_row():
    return {
        "review_id": "r-9",
        "order_id": "o-000",
        "reason": "X",
        "state": "OPEN",
        "detail": "",
        "opened_at": START,
        "version": 1,
    }


async def test_of_many_who_resolve_a_case_exactly_one_succeeds(database):
    await add_orders(database, 1)
    await database.write(lambda c: reviews.open_case(c, "r-1", "o-000", "X", "d", START))
    case = await database.read(lambda c: reviews.get(c, "r-1"))
    ends = await asyncio.gather(
        *(
            database.write(lambda c, n=n: reviews.resolve(c, case, by=f"p-{n}", resolution="R", note="", at=START))
            for n in range(10)
        )
    )
    assert sorted(ends) == [False] * 9 + [True]


# ------------------------------------------------------------ lists are bounded


async def fill(database, number):
    """Many of everything."""
    everywhere = range(number)
    rows: dict[Any, list[dict[str, Any]]] = {
        tables.orders: [
            {
                "order_id": f"o-{n:04}",
                "user_id": "u",
                "customer_priority": "standard",
                "status": "PLACED",
                "inventory_status": "NONE",
                "payment_status": "NONE",
                "request_hash": "h",
                "attempts": 0,
                "created_at": START + timedelta(seconds=n),
                "updated_at": START,
                "version": 1,
            }
            for n in everywhere
        ],
        tables.reviews: [
            _case_row() | {"review_id": f"r-{n}", "order_id": f"o-{n:04}", "opened_at": START} for n in everywhere
        ],
        tables.releases: [
            {
                "order_id": f"o-{n:04}",
                "reason": "x",
                "state": "PENDING",
                "attempts": 0,
                "next_attempt_at": START,
                "created_at": START,
                "updated_at": START,
                "version": 1,
            }
            for n in everywhere
        ],
        tables.products: [
            {
                "product_id": f"p-{n}",
                "variant_id": "v",
                "available": False,
                "level": "out",
                "source": "s",
                "changed_at": START,
            }
            for n in everywhere
        ],
        tables.metric_samples: [
            {"at": START + timedelta(seconds=n), "replica": "r", "sample": {}} for n in range(number * 3)
        ],
        tables.breaker_transitions: [
            {"replica": "r", "breaker": "b", "from_state": "a", "to_state": "b", "at": START} for _ in everywhere
        ],
    }
    for table, some in rows.items():
        await database.write(lambda c, table=table, some=some: c.execute(insert(table), some))

    def transaction(connection):
        for n in everywhere:
            audit.add(connection, AuditEntry(START, "a", "A", "t", None, None, None, None, "done", None))
            dead_letter = DeadLetter(f"d-{n}", "S", n, "s", None, b"", {}, "r", 1, "OPEN", START)
            dead_letters.add(connection, dead_letter)
            commands.store(connection, Command(f"c-{n}", "k", "t", {}, "a", "STORED", START))
        orders.add_timeline(connection, "o-0000", [TimelineEntry(START, "action", "x")] * (number + 500))

    await database.write(transaction)


async def test_every_list_is_bounded_whatever_is_requested(database):
    await fill(database, 800)

    async def length(read):
        return len(await database.read(read))

    far = START - timedelta(days=1)
    found = await database.read(lambda c: order_search.find(c, OrderQuery(), limit=10**6))
    assert len(found.orders) == orders.MAX_PAGE
    assert await length(lambda c: reviews.page(c, limit=10**6)) == reviews.MAX_PAGE
    assert await length(lambda c: releases.page(c, limit=10**6)) == releases.MAX_PAGE
    assert await length(lambda c: audit.page(c, limit=10**6)) == audit.MAX_PAGE
    assert await length(lambda c: dead_letters.page(c, limit=10**6)) == dead_letters.MAX_PAGE
    assert await length(lambda c: products.page(c, START, limit=10**6)) == products.MAX_PAGE
    assert samples.MAX_SAMPLES / 3 < await length(lambda c: samples.since(c, far)) <= samples.MAX_SAMPLES
    assert await length(lambda c: breakers.transitions_since(c, far)) == 500
    assert await length(commands.latest) == 20
    assert await length(lambda c: orders.timeline(c, "o-0000")) == orders.MAX_ENTRIES
    assert await database.read(lambda c: order_search.count(c, OrderQuery(), 100)) == (100, True)


async def test_pages_forwards_and_backwards_meet(database):
    await fill(database, 50)
    whole = await database.read(lambda c: order_search.find(c, OrderQuery(), limit=50))
    assert [one.order_id for one in whole.orders] == [f"o-{n:04}" for n in reversed(range(50))]
    at = START + timedelta(seconds=30)
    older = await database.read(lambda c: order_search.find(c, OrderQuery(), limit=5, before=(at, "o-0030")))
    found = await database.read(lambda c: order_search.find(c, OrderQuery(), limit=5, after=(at, "o-0030")))
    assert [one.order_id for one in older.orders] == [f"o-{n:04}" for n in (29, 28, 27, 26, 25)]
    assert [one.order_id for one in found.orders] == [f"o-{n:04}" for n in (35, 34, 33, 32, 31)]


async def test_orders_are_found_by_order_user_and_product(database):
    await add_orders(database, 2)

    async def found(text):
        page = await database.read(lambda c: order_search.find(c, OrderQuery(text=text), limit=10))
        return [one.order_id for one in page.orders]

    assert await found("o-001") == ["o-001"]
    assert await found("user-1") == await found("lamp") == ["o-001", "o-000"]
    assert await found("nothing") == []


async def test_a_product_heard_of_by_two_at_once_is_stored_once(database):
    heard = Product("p", "v", False, "out", 0, None, "s", START, LATER)
    ends = await asyncio.gather(*(database.write(lambda c: products.put(c, heard)) for _ in range(8)))
    assert ends == [True] * 8
    assert await database.read(lambda c: products.page(c, START)) == [heard]


async def test_of_news_that_come_at_the_same_time_the_newest_stands(database):
    news = [Product("p", "v", True, "low", n, None, "s", START + timedelta(milliseconds=n), None) for n in range(20)]
    await asyncio.gather(*(database.write(lambda c, one=one: products.put(c, one)) for one in reversed(news)))
    assert await database.read(lambda c: products.page(c, START)) == [news[-1]]
    assert await database.write(lambda c: products.put(c, news[3])) is False


async def test_pruning_takes_small_steps(database):
    await database.write(lambda c: outbox.add(c, event_rows(30)))
    rows = await database.write(lambda c: outbox.settle_and_claim(c, [], [], 20, START))
    await database.write(lambda c: outbox.settle_and_claim(c, [row.id for row in rows], [], 0, START))
    pruned = [await database.write(lambda c: prune(c, tables.outbox, LATER, 8)) for _ in range(4)]
    assert pruned == [8, 8, 4, 0]
    assert (await database.read(outbox.pending))[0] == 10


# --------------------------------------------------------------- query plans


# There are as few leases as kinds of work.
RESCHEDULED = [
    rows for rows in scheduled(timedelta(hours=1), replicas.LONGEST_LEASE) if rows.table is not tables.leases
]


def _prune(kept, connection):
    delete_older(connection, kept, START, 50)


def _reschedule(rows, connection):
    reschedule(connection, rows, START, 50)


LISTS: dict[str, Any] = {
    "newest orders": lambda c: order_search.find(c, OrderQuery(), limit=50),
    "the next page": lambda c: order_search.find(c, OrderQuery(), limit=50, before=(START, "o")),
    "the page before": lambda c: order_search.find(c, OrderQuery(), limit=50, after=(START, "o")),
    "orders of a status": lambda c: order_search.find(c, OrderQuery(statuses=("PLACED",)), limit=50),
    "orders of an inventory status": lambda c: order_search.find(c, OrderQuery(inventory_statuses=("NONE",)), limit=50),
    "orders of a user": lambda c: order_search.find(c, OrderQuery(user_id="u"), limit=50),
    "orders with open cases": lambda c: order_search.find(c, OrderQuery(flagged=True), limit=50),
    "orders without open cases": lambda c: order_search.find(c, OrderQuery(unflagged=True), limit=50),
    "one order": lambda c: orders.get(c, "o"),
    "due orders": lambda c: orders.claim_due(c, START, LATER, 8),
    "how many of a status": lambda c: orders.count_with_status(c, "PLACED"),
    "open cases": lambda c: reviews.page(c, limit=50),
    "cases of orders": lambda c: reviews.of_orders(c, ["o"]),
    "release jobs": lambda c: releases.page(c, states=["PENDING"], limit=50),
    "release jobs of a cause": lambda c: releases.matching(c, ReleaseFilter(("FAILED",), "X"), sort="oldest", limit=50),
    "release jobs by attempts": lambda c: releases.matching(c, ReleaseFilter(("FAILED",)), sort="attempts", limit=50),
    "release jobs that match": lambda c: releases.count_matching(c, ReleaseFilter(("FAILED",), "X"), 50),
    "causes of release jobs": releases.groups,
    "new failures of a cause": lambda c: releases.count_failed_since(c, ["X"], START, outside_job="o", limit=50),
    "new cases of a reason": lambda c: reviews.count_opened_since(c, ["X"], START, outside_job="o", limit=50),
    "operations": lambda c: bulk_jobs.page(c, limit=50),
    "operations to carry on": lambda c: bulk_jobs.workable(c, "runner", START, 5),
    "operations without an end": bulk_jobs.unended,
    "items of an operation": lambda c: bulk_jobs.item_page(c, "o", limit=50),
    "items to send": lambda c: bulk_jobs.item_page(c, "o", states=["ASKED"], limit=8),
    "a tally": lambda c: bulk_jobs.tally(c, "o"),
    "due releases": lambda c: releases.claim_due(c, START, LATER, 8),
    "events to publish": lambda c: outbox.settle_and_claim(c, [], [], 8, START),
    "waiting events": outbox.pending,
    "whether commands wait": lambda c: commands.any_waiting(c, START),
    "waiting commands": lambda c: commands.claim(c, START, LATER, 8),
    "a timeline": lambda c: orders.timeline(c, "o"),
    "whether money was captured": lambda c: orders.shows_capture(c, "o"),
    "cases opened since": lambda c: reviews.count_open_since(c, START),
    "the audit log": lambda c: audit.page(c, limit=50),
    "open dead letters": lambda c: dead_letters.page(c, limit=50),
    **{f"retention {n}: {kept.table.name}": partial(_prune, kept) for n, kept in enumerate(KEPT)},
    **{f"clock skew: {rows.kind}": partial(_reschedule, rows) for rows in RESCHEDULED},
}


@pytest.mark.parametrize("name", LISTS)
def test_no_list_reads_a_whole_table_on_sqlite(sqlite_url, name):
    from state.engine.database import opened

    with opened(sqlite_url) as database:
        plans = database.write_now(lambda connection: plans_of(connection, LISTS[name]))
    assert plans
    # What a bounded subquery has found is read whole, and is no table.
    scanned = [step for step in plans if step.startswith("SCAN") and "USING" not in step]
    whole = [step for step in scanned if step.split()[1] in tables.metadata.tables]
    assert whole == []


def plans_of(connection, query):
    """The query plan of every statement that a function executes."""
    statements: list[str] = []
    driver = connection.connection.driver_connection
    driver.set_trace_callback(statements.append)
    query(connection)
    driver.set_trace_callback(None)
    found = [driver.execute(f"EXPLAIN QUERY PLAN {sql}").fetchall() for sql in statements]
    return [row[3] for rows in found for row in rows]


@pytest.mark.parametrize(
    "name",
    [
        "newest orders",
        "orders of a status",
        "orders of a user",
        "open dead letters",
        "release jobs",
        "release jobs of a cause",
        "operations",
        "items of an operation",
    ],
)
def test_a_list_comes_out_of_its_index_in_order(sqlite_url, name):
    from state.engine.database import opened

    with opened(sqlite_url) as database:
        plans = database.write_now(lambda connection: plans_of(connection, LISTS[name]))
    ordering = [step for step in plans[:1] if "INDEX" in step]
    assert ordering
    # Rows with the same time are put in order as they come; the list as a whole is not.
    assert not any("TEMP B-TREE FOR ORDER BY" in step for step in plans[:2])


async def test_samples_that_are_known_are_not_read_again(database):
    times = [START + timedelta(seconds=5 * number) for number in range(4)]

    def fill(connection):
        for at in times:
            samples.add(connection, at, "a", {"number": times.index(at)})
        samples.add(connection, times[2], "b", {"number": 7})

    await database.write(fill)
    known = {(at, "a"): {"number": "known"} for at in times[:3]}
    found = await database.read(lambda c: samples.since(c, times[1], known))
    numbers = {(at, replica): sample["number"] for at, replica, sample in found}
    assert numbers == {
        (times[1], "a"): "known", (times[2], "a"): "known", (times[2], "b"): 7, (times[3], "a"): 3,
    }  # fmt: skip
    assert [at for at, _, _ in found] == sorted(at for at, _, _ in found)


@pytest.mark.parametrize("details", [{"from": "PAYING", "to": "PLACED"}, {"reason": "x", "captured": True}])
async def test_money_that_was_ever_captured_is_remembered_however_long_the_timeline_is(database, details):
    at = itertools.count()

    def entry(kind, details):
        return TimelineEntry(START + timedelta(seconds=next(at)), kind, "x", details)

    def fill(connection):
        orders.add_timeline(connection, "o-1", [entry("transition", {"from": "RECEIVED", "to": "RESERVING"})])
        orders.add_timeline(connection, "o-1", [entry("transition", details)])
        orders.add_timeline(connection, "o-1", [entry("call", {"operation": "refund"})] * (orders.MAX_ENTRIES + 1))
        # What others say about their own events is no word of the gateway.
        orders.add_timeline(
            connection, "o-2", [entry("transition", {}), entry("event_in", {"captured": True, "to": "PLACED"})]
        )

    await database.write(fill)
    seen = [await database.read(lambda c, o=o: orders.shows_capture(c, o)) for o in ("o-1", "o-2", "o-3")]
    assert seen == [True, False, False]


@pytest.mark.parametrize(("replica_count", "seconds"), [(6, 5), (2, 1), (5, 5)])
async def test_the_half_hour_is_whole_however_many_replicas_sample_it_how_often(database, replica_count, seconds):
    names = [f"r-{number}" for number in range(replica_count)]
    whole = timedelta(minutes=32)
    times = [START + timedelta(seconds=at) for at in range(0, int(whole.total_seconds()) + 1, seconds)]
    rows = [{"at": at, "replica": name, "sample": {"n": n}} for n, at in enumerate(times) for name in names]
    await database.write(lambda c: c.execute(insert(tables.metric_samples), rows))

    found = await database.read(lambda c: samples.since(c, START))

    assert len(found) <= samples.MAX_SAMPLES
    assert [row[:2] for row in found] == sorted(row[:2] for row in found)
    assert (len(found) == len(rows)) == (len(rows) <= samples.MAX_SAMPLES)
    for name in names:
        own = [(at, sample["n"]) for at, replica, sample in found if replica == name]
        assert own[0][0] - START < timedelta(seconds=30)
        assert own[-1] == (times[-1], len(times) - 1)
        assert max(after - before for (before, _), (after, _) in itertools.pairwise(own)) <= timedelta(seconds=30)
        assert all(times[n] == at for at, n in own)
    known = {(at, replica): sample for at, replica, sample in found[:-3]}
    assert await database.read(lambda c: samples.since(c, START, known)) == found


async def test_parked_events_are_kept_once_found_when_ready_and_bounded(database):
    await add_orders(database, 1)

    def parked(seq, order_id, due_at=LATER):
        place = ("S", "2026-01-01T00:00:00+00:00", seq)
        return ParkedEvent(*place, "t", order_id, b"{}", {}, UNKNOWN_ORDER, "r", 0, START, due_at)

    for seq, order_id in ((1, "o-000"), (2, "theirs"), (1, "o-000")):
        assert await database.write(partial(parked_events.add, event=parked(seq, order_id), limit=3))
    placed = await database.read(lambda c: parked_events.of_placed_orders(c, ["PAYING"], 10))
    assert [event.order_id for event in placed] == ["o-000"]
    early = (await database.read(lambda c: orders.get(c, "o-000"))).status
    assert await database.read(lambda c: parked_events.of_placed_orders(c, [early], 10)) == []
    assert await database.read(lambda c: parked_events.of_placed_orders(c, [], 10, {"theirs"})) == []
    assert [event.stream_seq for event in await database.read(lambda c: parked_events.due(c, LATER, 10))] == [1, 2]
    assert await database.read(lambda c: parked_events.due(c, START, 10)) == []
    await database.write(lambda c: parked_events.put_off(c, placed[0], HANDLER_FAILED, "x", 3, START))
    (again,) = await database.read(lambda c: parked_events.due(c, START, 10))
    assert (again.cause, again.reason, again.attempts) == (HANDLER_FAILED, "x", 3)
    assert not await database.write(lambda c: parked_events.add(c, parked(3, "theirs"), 2))
    await database.write(lambda c: parked_events.remove(c, again))
    assert await database.read(parked_events.has_any)
