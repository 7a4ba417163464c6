"""The console's facade over a real database: what it finds, what it stores, and what it does without one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import Column, DateTime, Integer, Text

from services.base.settings import Settings
from services.console.facade import Console, same_sight_key
from services.console.orders import OrderFilter, OrderRow
from services.console.paging import Paged, Place, parsed, written
from state import commands, order_search, orders
from state.commands import Command
from state.engine.database import Database, opened
from state.engine.source import Source, SourceUnavailable
from tests.support.seed_console import order, seed

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture
def database(sqlite_url: str) -> Iterator[Database]:
    with opened(sqlite_url) as made:
        yield made


@pytest.fixture
def console(sqlite_url: str) -> Iterator[Console]:
    tick = count(step=60)
    made = Console(Settings.load(database_url=sqlite_url), lambda: NOON, lambda: float(next(tick)))
    yield made
    made.close()


def add(database: Database, *names: str, at: datetime = NOON) -> None:
    for name in names:
        made = order(name, "PLACED", at)
        database.write_now(lambda connection, made=made: orders.add(connection, made, "h"))


def page(console: Console, wanted: OrderFilter | None = None, **place: str | None) -> Paged[OrderRow]:
    found = console.orders.page(wanted or OrderFilter(), Place(**place)).value
    assert found is not None
    return found.rows


def ids(found: Paged[OrderRow]) -> list[str]:
    return [row.order.order_id for row in found.rows]


def test_orders_of_one_instant_are_paged_without_loss_or_repetition(database: Database, console: Console) -> None:
    add(database, *(f"ORD-{number:03}" for number in range(45)))
    first = page(console)
    second = page(console, before=first.older)
    third = page(console, before=second.older)
    assert [*ids(first), *ids(second), *ids(third)] == [f"ORD-{number:03}" for number in reversed(range(45))]
    assert third.older is None
    assert ids(page(console, after=third.newer)) == ids(second)


def test_one_page_back_near_the_top_is_the_newest_page_itself(database: Database, console: Console) -> None:
    add(database, *(f"ORD-{number:03}" for number in range(25)))
    older = page(console, before=page(console).older)
    add(database, "ORD-900", at=NOON + timedelta(seconds=1))
    back = page(console, after=written((NOON, "ORD-010")))
    assert ids(older) == [f"ORD-{number:03}" for number in (4, 3, 2, 1, 0)]
    assert ids(back)[0] == "ORD-900"
    assert back.newer is None


def test_matches_are_counted_no_further_than_the_limit(database: Database) -> None:
    add(database, "ORD-1", "ORD-2", "ORD-3")
    assert database.read_now(lambda connection: order_search.count(connection, OrderFilter(), 2)) == (2, True)
    assert database.read_now(lambda connection: order_search.count(connection, OrderFilter(), 9)) == (3, False)


def test_a_paused_list_keeps_its_rows_and_counts_the_rows_above_them(database: Database, console: Console) -> None:
    add(database, *(f"ORD-{number:03}" for number in range(25)))
    first = page(console)
    add(database, *(f"ORD-9{number:02}" for number in range(30)), at=NOON + timedelta(microseconds=1))
    paused = page(console, paused_at=first.top)
    assert (ids(paused), paused.new, paused.newer, paused.top) == (ids(first), 30, None, first.top)
    add(database, *(f"ORD-A{number:02}" for number in range(90)), at=NOON + timedelta(seconds=1))
    assert page(console, paused_at=first.top).new == 100
    assert ids(page(console, before=paused.older)) == [f"ORD-{number:03}" for number in (4, 3, 2, 1, 0)]


def test_a_paused_and_filtered_list_counts_the_rows_that_match(database: Database, console: Console) -> None:
    waiting = OrderFilter(statuses=("PLACED",), inventory_statuses=("CONFIRM_REQUESTED",))
    add(database, "ORD-1")
    top = page(console, waiting).top
    add(database, "ORD-2", at=NOON + timedelta(seconds=1))
    paying = order("ORD-3", "PAYING", NOON + timedelta(seconds=2))
    database.write_now(lambda connection: orders.add(connection, paying, "h"))
    assert page(console, waiting, paused_at=top).new == 1


def test_a_place_survives_the_way_through_an_address() -> None:
    at = datetime(2026, 11, 22, 12, 0, 0, 123_456, tzinfo=UTC)
    time, text, number = (Column(type_) for type_ in (DateTime(), Text(), Integer()))
    assert parsed([time, text], written((at, "ORD~1~x"))) == (at, "ORD~1~x")
    assert parsed([time, number], written((at, 7))) == (at, 7)
    assert parsed([number], written((7,))) == (7,)


@pytest.mark.parametrize("text", [None, "", "~", "12", "x~ORD-1", "-5~ORD-1", "12~", "9" * 30 + "~ORD-1"])
def test_a_place_that_is_not_ours_is_none(text: str | None) -> None:
    assert parsed([Column(DateTime()), Column(Text())], text) is None


def test_a_search_text_that_is_several_kinds_of_id_finds_all_of_them(database: Database, console: Console) -> None:
    twin = order("SAME", "PLACED", NOON, user_id="SAME")
    other = order("ORD-2", "PLACED", NOON, user_id="SAME")
    for made in (twin, other):
        database.write_now(lambda connection, made=made: orders.add(connection, made, "h"))
    add(database, "ORD-3")
    assert ids(page(console, OrderFilter(text="SAME"))) == ["SAME", "ORD-2"]


def test_a_command_is_stored_once_per_key(database: Database, console: Console) -> None:
    store = partial(console.access.store_command, "cancel_order", "ORD-1", command_id="key")
    first = store({"reason": "one"}, actor="olga")
    again = store({"reason": "two"}, actor="ben")
    assert again == first
    assert again.arguments == {"reason": "one"}
    assert len(database.read_now(commands.latest)) == 1


def test_an_unknown_kind_of_command_is_not_stored(database: Database, console: Console) -> None:
    with pytest.raises(ValueError, match="unknown command"):
        console.access.store_command("drop_everything", "ORD-1", {}, actor="olga", command_id="key")
    assert database.read_now(commands.latest) == []


def test_a_key_is_the_same_for_the_same_sight_and_new_when_the_last_command_has_changed() -> None:
    last = Command("CMD-1", "retry_release", "ORD-1", {}, "olga", "DONE", NOON)
    assert same_sight_key("retry_release", "ORD-1", 3, None) == same_sight_key("retry_release", "ORD-1", 3, None)
    keys = {
        same_sight_key("retry_release", "ORD-1", version, command) for version in (3, 4) for command in (None, last)
    }
    assert len(keys) == 4


def test_the_whole_busy_day_is_read(database: Database, console: Console) -> None:
    seed(database, NOON)
    live, trends = console.status.live().value, console.status.trends().value
    assert live is not None
    assert trends is not None
    assert live.queues == {
        "reservation": 1,
        "release": 3,
        "failed_releases": 3,
        "reviews": 6,
        "outbox": 3,
        "dead_letters": 12,
        "differences": 1,
    }
    assert [breaker.state for breaker in live.breakers] == ["closed", "open", "closed"]
    assert trends.sampled_at == NOON
    assert len(trends.orders_per_minute) == 60


def test_a_source_reads_again_when_the_file_was_replaced(tmp_path: Path, sqlite_url: str) -> None:
    place = tmp_path / "moved.db"
    source = Source(f"sqlite:///{place}")
    with pytest.raises(SourceUnavailable, match="does not exist yet"):
        source.read(lambda connection: connection)
    Path(sqlite_url.removeprefix("sqlite:///")).rename(place)
    assert source.read(lambda connection: order_search.count(connection, OrderFilter(), 10)) == (0, False)
    source.close()


def test_a_write_to_a_database_that_is_away_is_refused_in_words(tmp_path: Path) -> None:
    away = Console(Settings.load(database_url=f"sqlite:///{tmp_path / 'none' / 'x.db'}"))
    with pytest.raises(SourceUnavailable, match="does not exist yet"):
        away.access.store_command("cancel_order", "ORD-1", {"reason": "why"}, actor="olga", command_id="key")
    assert not (tmp_path / "none").exists()
    away.close()


def test_a_server_that_does_not_answer_is_reported_as_silent() -> None:
    source = Source("postgresql+psycopg://nobody@127.0.0.1:9/none")
    with pytest.raises(SourceUnavailable, match="does not answer"):
        source.read(lambda connection: connection)
    source.close()
