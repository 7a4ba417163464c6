"""The review queue, claims, held commands and the cause memory on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any, TypeVar

import pytest

from benchmarks.asked import asked
from services.domain.commands import Outcome
from services.domain.conservation import StockState
from services.domain.orders.model import Line
from services.domain.reconciliation import NO_ANSWER, LookupResult
from services.domain.reviews import standings
from state import audit, commands, inventory_lookups, orders, releases, review_queue, reviews, tables
from state.audit import AuditEntry
from state.commands import Command
from state.engine.database import Database, opened
from state.inventory_lookups import StoredLookup
from state.review_queue import CaseFilter
from tests.support.retention import prune
from tests.support.seed_console import order

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
PEOPLE = 6
T = TypeVar("T")


def minutes(number: float) -> timedelta:
    return timedelta(minutes=number)


def add(database: Database, name: str, *, status: str = "PLACED", reason: str = "CONFIRMATION_TIMEOUT",
        cause: str = "", waits: float = 10, **more: Any) -> str:  # fmt: skip
    """An order with an open case; returns the id of the case."""
    made = order(f"ORD-{name}", status, NOON - minutes(waits), **more)

    def write(connection: Any) -> None:
        orders.add(connection, made, "h")
        reviews.open_case(connection, f"REV-{name}", made.order_id, reason, "", NOON - minutes(waits), cause=cause)

    database.write_now(write)
    return f"REV-{name}"


def ids(database: Database, **wanted: Any) -> list[str]:
    found = database.read_now(lambda c: review_queue.page(c, CaseFilter(**wanted), NOON, limit=50))
    number = database.read_now(lambda c: review_queue.count(c, CaseFilter(**wanted), NOON))
    assert number == len(found)
    return [review.review_id.removeprefix("REV-") for review in found]


def at_once(url: str, *attempts: Callable[[Any], T]) -> list[T]:
    """Each attempt in a transaction of a database object, and so of a connection, of its own."""
    barrier = Barrier(len(attempts))

    def attempt(run: Callable[[Any], T]) -> T:
        with opened(url) as mine:
            mine.read_now(lambda c: commands.any_waiting(c, NOON))
            barrier.wait(30)
            return mine.write_now(run)

    with ThreadPoolExecutor(len(attempts)) as pool:
        return list(pool.map(attempt, attempts))


def test_of_people_who_claim_at_once_in_processes_of_their_own_exactly_one_wins(
    database: Database, database_url: str
) -> None:
    review_id = add(database, "1")

    def claim(person: str) -> Callable[[Any], bool]:
        return lambda c: reviews.claim(c, review_id, person, NOON, NOON + minutes(15), take=False)

    won = at_once(database_url, *(claim(f"p{number}") for number in range(PEOPLE)))
    assert sum(won) == 1
    owner = database.read_now(lambda c: reviews.get(c, review_id))
    assert owner is not None
    assert owner.owner == f"p{won.index(True)}"


@pytest.mark.parametrize("attempt", range(3))
def test_taking_back_and_running_at_once_have_exactly_one_winner(
    database: Database, database_url: str, attempt: int
) -> None:
    held = Command("c-1", "resolve_review", "REV-1", {}, "ada", "STORED", NOON, undo_until=NOON)
    database.write_now(lambda c: commands.store(c, held))
    ran, taken = at_once(
        database_url,
        lambda c: bool(commands.claim(c, NOON + minutes(1), NOON + minutes(2), 8)),
        lambda c: commands.withdraw(c, "c-1", Outcome("Taken back"), NOON + minutes(1)) is not None,
    )
    assert ran is not taken
    now = database.read_now(lambda c: commands.get(c, "c-1"))
    assert now is not None
    assert now.state == ("RUNNING" if ran else "WITHDRAWN")


def test_a_delayed_command_is_not_claimed_before_its_time(database: Database) -> None:
    held = Command("c-1", "resolve_review", "REV-1", {}, "ada", "STORED", NOON, undo_until=NOON + minutes(1))
    database.write_now(lambda c: commands.store(c, held))
    for at, expected in ((NOON, []), (NOON + minutes(1), ["c-1"])):
        assert database.read_now(lambda c, at=at: commands.any_waiting(c, at)) is bool(expected)
        claimed = database.write_now(lambda c, at=at: commands.claim(c, at, at + minutes(1), 8))
        assert [command.command_id for command in claimed] == expected


def test_the_newest_command_of_each_target_is_found_by_kind_or_of_all_kinds(database: Database) -> None:
    def given(number: int, kind: str, target: str) -> Command:
        return Command(f"c-{number}", kind, target, {}, "ada", "DONE", NOON + timedelta(seconds=number))

    stored = [given(1, "a", "x"), given(2, "b", "x"), given(3, "a", "y"), given(4, "a", "x"), given(5, "c", "x")]
    # Of two at one instant the choice is always the same.
    stored.append(replace(stored[2], command_id="c-9"))
    database.write_now(lambda c: [commands.store(c, command) for command in stored])

    def latest(targets: list[str], *kinds: str) -> dict[str, str]:
        found = database.read_now(lambda c: commands.latest_of(c, targets, kinds))
        return {target: command.command_id for target, command in found.items()}

    assert latest(["x", "y", "z"]) == {"x": "c-5", "y": "c-9"}
    assert latest(["x", "y"], "a") == {"x": "c-4", "y": "c-9"}
    assert latest(["x", "y"], "a", "b") == {"x": "c-4", "y": "c-9"}
    assert latest(["x", "y"], "b") == {"x": "c-2"}
    assert latest([]) == {}
    assert latest([f"t{number}" for number in range(450)] + ["x"]) == {"x": "c-5"}


def test_the_most_urgent_come_first_and_other_orders_can_be_requested(database: Database) -> None:
    one, many = (Line("a", "x", 1),), (Line("a", "x", 9),)
    add(database, "old", waits=90, reservation_expires_at=None, lines=one)
    add(database, "high", waits=5, reservation_expires_at=None, customer_priority="high", lines=one)
    add(database, "soon", waits=3, reservation_expires_at=NOON + minutes(2), lines=one)
    add(database, "later", waits=60, reservation_expires_at=NOON + minutes(9), lines=many)
    add(database, "over", waits=20, reservation_expires_at=NOON - minutes(1), lines=one)
    assert ids(database) == ["soon", "later", "high", "old", "over"]
    assert ids(database, sort="oldest") == ["old", "later", "over", "high", "soon"]
    assert ids(database, sort="newest") == ["soon", "high", "over", "later", "old"]
    assert ids(database, sort="units")[0] == "later"


def test_a_reservation_that_nobody_needs_any_more_makes_nothing_urgent(database: Database) -> None:
    add(database, "leak", status="CANCELLED", inventory_status="RELEASE_FAILED", waits=5)
    add(database, "old", waits=90, reservation_expires_at=None)
    assert ids(database) == ["old", "leak"]


def test_each_filter_and_all_of_them_together(database: Database) -> None:
    add(database, "1", cause="AA_CODE", user_id="u-1", customer_priority="high", lines=(Line("lamp", "x", 1),))
    add(database, "2", cause="BB_CODE", user_id="u-1", reason="PAYMENT_UNKNOWN")
    add(database, "3", user_id="u-2")
    database.write_now(lambda c: reviews.claim(c, "REV-1", "ada", NOON, NOON + minutes(1), take=False))
    database.write_now(lambda c: reviews.claim(c, "REV-2", "ada", NOON - minutes(20), NOON, take=False))
    assert ids(database, reason="PAYMENT_UNKNOWN") == ["2"]
    assert ids(database, cause="AA_CODE") == ["1"]
    assert ids(database, cause="") == ["3"]
    assert ids(database, owner="ada") == ["1"]
    assert sorted(ids(database, unclaimed=True)) == ["2", "3"]
    assert ids(database, priority="high") == ["1"]
    assert ids(database, product="lamp") == ["1"]
    assert sorted(ids(database, text="u-1")) == ["1", "2"]
    assert ids(database, text="ORD-3") == ["3"]
    assert ids(database, text="REV-3") == ["3"]
    assert ids(database, text="u-") == []
    assert ids(database, text="u-1", cause="AA_CODE", owner="ada", priority="high", product="lamp") == ["1"]
    assert ids(database, state="RESOLVED") == []


def test_pages_hold_every_case_once(database: Database) -> None:
    names = [f"{number:02}" for number in range(23)]
    for name in names:
        add(database, name, waits=7)

    def page(offset: int) -> list[str]:
        found = database.read_now(lambda c: review_queue.page(c, CaseFilter(), NOON, limit=10, offset=offset))
        return [review.review_id.removeprefix("REV-") for review in found]

    assert [*page(0), *page(10), *page(20)] == names


def test_groups_count_cases_by_cause_and_by_product_within_the_filter(database: Database) -> None:
    both = (Line("lamp", "x", 1), Line("lamp", "y", 1), Line("desk", "x", 1))
    add(database, "1", cause="AA_CODE", lines=both)
    add(database, "2", cause="AA_CODE", lines=(Line("desk", "x", 5),))
    add(database, "3", reason="PAYMENT_UNKNOWN", lines=(Line("desk", "x", 1),))

    def groups(find: Any, **wanted: Any) -> list[tuple[tuple[str, ...], int]]:
        found = database.read_now(lambda c: find(c, CaseFilter(**wanted), NOON))
        return [(group.keys, group.count) for group in found]

    assert groups(review_queue.by_cause) == [(("CONFIRMATION_TIMEOUT", "AA_CODE"), 2), (("PAYMENT_UNKNOWN", ""), 1)]
    assert groups(review_queue.by_product) == [(("desk",), 3), (("lamp",), 1)]
    assert groups(review_queue.by_product, reason="PAYMENT_UNKNOWN") == [(("desk",), 1)]


def test_what_an_action_fits_is_counted_and_listed_by_reason_and_status(database: Database) -> None:
    add(database, "late", waits=30)
    add(database, "later", waits=20)
    add(database, "moved", status="CONFIRMED")
    add(database, "waiting", status="PENDING_INVENTORY", reason="PENDING_INVENTORY")

    def listed(action: str, limit: int = 50, **wanted: Any) -> list[str]:
        found = database.read_now(
            lambda c: review_queue.standing(c, CaseFilter(**wanted), NOON, standings(action), limit=limit)
        )
        return [review.review_id.removeprefix("REV-") for review in found]

    assert listed("RECONFIRM") == ["late", "later"]
    assert listed("RECONFIRM", limit=1) == ["late"]
    assert listed("CANCEL_ORDER") == ["late", "later", "waiting"]
    assert listed("CANCEL_ORDER", reason="PENDING_INVENTORY") == ["waiting"]
    assert listed("MARK_RELEASED") == []
    counted = database.read_now(lambda c: review_queue.by_standing(c, CaseFilter(), NOON))
    assert {group.keys: group.count for group in counted} == {
        ("CONFIRMATION_TIMEOUT", "PLACED"): 2,
        ("CONFIRMATION_TIMEOUT", "CONFIRMED"): 1,
        ("PENDING_INVENTORY", "PENDING_INVENTORY"): 1,
    }


def test_the_past_resolutions_are_the_last_cases_of_one_cause_and_what_became_of_them(database: Database) -> None:
    for number in range(3):
        add(database, f"{number}", cause="AA_CODE", waits=60 - number, status="CONFIRMED")
    add(database, "other", cause="BB_CODE", waits=60)

    def resolve(connection: Any) -> None:
        for number in range(3):
            case = reviews.get(connection, f"REV-{number}")
            assert case is not None
            at = NOON - minutes(30 - number)
            reviews.resolve(connection, case, by="ada", resolution="RECONFIRM", note="n", at=at, reason=None)
            target = f"review:REV-{number}"
            done = AuditEntry(at, "ada", "RECONFIRM", target, case.order_id, "n", {}, {}, "done", None)
            audit.add(connection, done)
            audit.add(connection, replace(done, action="CLAIM"))
        reviews.open_case(connection, "REV-again", "ORD-1", "PAYMENT_UNKNOWN", "", NOON)

    database.write_now(resolve)
    found = database.read_now(lambda c: reviews.last_cases(c, "CONFIRMATION_TIMEOUT", "AA_CODE"))
    assert [(case.review_id, case.order_status, case.came_again) for case in found] == [
        ("REV-2", "CONFIRMED", False),
        ("REV-1", "CONFIRMED", True),
        ("REV-0", "CONFIRMED", False),
    ]
    done = database.read_now(lambda c: reviews.actions_on(c, found, ["RECONFIRM"]))
    assert [(action.review_id, action.action) for action in done] == [
        ("REV-0", "RECONFIRM"),
        ("REV-1", "RECONFIRM"),
        ("REV-2", "RECONFIRM"),
    ]


def test_the_latest_answer_of_the_other_side_is_kept_and_old_ones_are_pruned(database: Database) -> None:
    add(database, "1")
    add(database, "2")
    held = LookupResult(StockState.RESERVED, "ACTIVE", "r-1", NOON + minutes(9))
    first = StoredLookup("ORD-1", held, NOON, "ada")
    silent = StoredLookup("ORD-1", LookupResult(None, problem=NO_ANSWER), NOON + minutes(1), "bob")
    for answer in (first, silent, replace(first, asked_by="late")):
        database.write_now(lambda c, answer=answer: inventory_lookups.note(c, answer))
    assert database.read_now(lambda c: inventory_lookups.of_orders(c, ["ORD-1", "ORD-2"])) == {"ORD-1": silent}
    assert database.write_now(lambda c: prune(c, tables.inventory_lookups, NOON, 10)) == 0
    assert database.write_now(lambda c: prune(c, tables.inventory_lookups, NOON + minutes(2), 10)) == 1


def test_what_was_done_about_releases_is_kept_by_cause_decided_once_and_pruned(database: Database) -> None:
    add(database, "1")
    at = [NOON + minutes(number) for number in range(4)]

    def fill(connection: Any) -> None:
        releases.add_action(connection, "ORD-1", "X: y", "RETRY", "ada", at[0])
        releases.add_action(connection, "ORD-1", "X: y", "RETRY", "bob", at[1])
        assert releases.has_undecided(connection, "ORD-1")
        assert releases.decide_action(connection, "ORD-1", "HELD")
        assert not releases.decide_action(connection, "ORD-1", "FAILED")
        releases.add_action(connection, "ORD-1", "NOT_TRIED", "RETRY", "eve", at[2])

    database.write_now(fill)
    found = database.read_now(lambda c: releases.last_actions(c, "X: y"))
    assert [(one.actor, one.outcome, one.at) for one in found] == [("bob", "HELD", at[1]), ("ada", "FAILED", at[0])]
    database.write_now(lambda c: releases.came_again(c, "ORD-1"))
    again = database.read_now(lambda c: releases.last_actions(c, "X: y"))
    assert [one.outcome for one in again] == ["FAILED", "FAILED"]
    assert database.write_now(lambda c: prune(c, tables.release_actions, at[1], 10)) == 1


def test_a_command_that_waits_is_claimed_again_with_its_new_arguments_and_can_be_undone(database: Database) -> None:
    given = Command("c-1", "resolve_review", "REV-1", {"version": 1}, "ada", "STORED", NOON)
    outcome = Outcome("Queued")

    def queue(connection: Any) -> None:
        commands.store(connection, given)
        # Only what runs can be put off: what was taken back meanwhile stays taken back.
        assert not commands.postpone(connection, "c-1", "w", NOON + minutes(1), {"version": 9}, outcome)
        assert commands.get(connection, "c-1") == given
        commands.claim(connection, NOON, NOON + minutes(1), 8, by="w")
        assert not commands.postpone(connection, "c-1", "another", NOON + minutes(1), {"version": 9}, outcome)
        assert commands.postpone(connection, "c-1", "w", NOON + minutes(1), {"version": 2}, outcome)

    database.write_now(queue)
    assert not database.read_now(lambda c: commands.any_waiting(c, NOON))
    (again,) = database.write_now(lambda c: commands.claim(c, NOON + minutes(2), NOON + minutes(3), 8, by="w"))
    assert (again.arguments, again.outcome, again.attempts) == ({"version": 2}, outcome, 1)
    assert database.write_now(lambda c: commands.postpone(c, "c-1", "w", NOON + minutes(4), {"version": 2}, outcome))
    taken = database.write_now(lambda c: commands.withdraw(c, "c-1", outcome, NOON + minutes(3)))
    assert taken is not None
    assert taken.state == "WITHDRAWN"


def test_only_orders_without_a_fresh_answer_have_to_be_asked_about(database: Database) -> None:
    for name in ("1", "2", "3"):
        add(database, name)
    young = StoredLookup("ORD-1", LookupResult(StockState.RESERVED), NOON - timedelta(seconds=9), "ada")
    old = replace(young, order_id="ORD-2", asked_at=NOON - timedelta(seconds=11))
    for answer in (young, old):
        database.write_now(lambda c, answer=answer: inventory_lookups.note(c, answer))
    asked = ["ORD-3", "ORD-1", "nobody", "ORD-2", "ORD-3"]
    assert database.read_now(lambda c: inventory_lookups.not_fresh(c, asked, NOON)) == ["ORD-3", "ORD-2"]


def test_no_question_of_the_desk_reads_a_whole_table(sqlite_url: str) -> None:
    with opened(sqlite_url) as database:
        add(database, "1", cause="AA_CODE")

        def look(connection: Any) -> None:
            for wanted in (CaseFilter(), CaseFilter(reason="X", owner="a", product="p"), CaseFilter(state="RESOLVED")):
                review_queue.page(connection, wanted, NOON, limit=20)
                review_queue.count(connection, wanted, NOON)
                review_queue.by_standing(connection, wanted, NOON)
                review_queue.standing(connection, wanted, NOON, standings("CANCEL_ORDER"), limit=20)
                review_queue.by_cause(connection, wanted, NOON)
                review_queue.by_product(connection, wanted, NOON)
            review_queue.page(connection, CaseFilter(text="ORD-1"), NOON, limit=20)
            past = reviews.last_cases(connection, "CONFIRMATION_TIMEOUT", "AA_CODE")
            reviews.actions_on(connection, past, ["RECONFIRM"])
            commands.latest_of(connection, ["a", "b"], ("x", "y"))
            inventory_lookups.of_orders(connection, ["a"])
            inventory_lookups.not_fresh(connection, ["a"], NOON)
            releases.last_actions(connection, "X: y")

        with database.engine.connect() as connection:
            questions = asked(connection, look)
            assert len(questions) > 20
            for statement, parameters in questions:
                plan = connection.connection.cursor().execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
                steps = [step[-1] for step in plan]
                scanned = [step for step in steps if step.startswith("SCAN") and step.split()[1] in TABLES]
                assert not scanned, (statement, steps)


TABLES = {
    "reviews", "orders", "order_items", "commands", "audit_log", "their_answers", "release_moves", "later", "one",
}  # fmt: skip
