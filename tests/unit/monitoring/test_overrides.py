"""Forcing a breaker as an override."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from services.base.settings import Settings
from services.breakers.overrides import BreakerOverrides
from services.clients.inventory.resilient import InventoryBreakers, inventory_breakers
from services.domain.errors import NotFound
from state import audit
from state.engine.database import Database, opened
from state.schema import migrate

START = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Time:
    """A wall clock and a monotonic one that move together."""

    def __init__(self) -> None:
        self.passed = timedelta()

    def now(self) -> datetime:
        return START + self.passed

    def monotonic_ns(self) -> int:
        return self.passed // timedelta(microseconds=1) * 1000


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with opened(f"sqlite:///{tmp_path / 'holdfast.db'}") as database:
        migrate(database)
        yield database


@pytest.fixture
def time() -> Time:
    return Time()


def a_replica(database: Database, time: Time) -> tuple[InventoryBreakers, BreakerOverrides]:
    breakers = inventory_breakers(Settings.load(), clock=time.now, monotonic_ns=time.monotonic_ns)
    return breakers, BreakerOverrides(database, time.now, breakers)


async def test_every_replica_applies_an_override_to_the_named_breaker_only(database: Database, time: Time) -> None:
    first, lending = a_replica(database, time)
    second, following = a_replica(database, time)

    await lending.start("inventoryServiceReserver", "forced_open", reason="drill", expires_in=HOUR, actor="olga")
    await following.follow()

    assert [breakers.reserver.effective_state for breakers in (first, second)] == ["forced_open", "forced_open"]
    assert [breakers.checker.effective_state for breakers in (first, second)] == ["closed", "closed"]


async def test_an_override_ends_by_itself_also_where_it_was_learnt_late(database: Database, time: Time) -> None:
    _, lending = a_replica(database, time)
    second, following = a_replica(database, time)
    await lending.start("inventoryServiceReserver", "forced_open", reason="drill", expires_in=HOUR, actor="olga")

    time.passed = HOUR - timedelta(seconds=1)
    await following.follow()
    assert second.reserver.effective_state == "forced_open"

    time.passed = HOUR
    assert second.reserver.effective_state == "closed"


async def test_an_override_that_is_given_back_ends_everywhere_and_twice_is_once(database: Database, time: Time) -> None:
    first, lending = a_replica(database, time)
    second, following = a_replica(database, time)
    await lending.start("inventoryServiceReserver", "forced_closed", reason="drill", expires_in=HOUR, actor="olga")
    await following.follow()

    await lending.end("inventoryServiceReserver", actor="piet")
    await lending.end("inventoryServiceReserver", actor="piet")
    await following.follow()

    assert first.reserver.effective_state == second.reserver.effective_state == "closed"
    entries = database.read_now(audit.page)
    assert [(entry.actor, entry.action) for entry in entries] == [
        ("piet", "END_BREAKER_OVERRIDE"),
        ("olga", "FORCE_BREAKER"),
    ]


async def test_a_new_override_replaces_the_one_before(database: Database, time: Time) -> None:
    breakers, lending = a_replica(database, time)
    await lending.start("inventoryServiceReserver", "forced_open", reason="drill", expires_in=HOUR, actor="olga")
    await lending.start("inventoryServiceReserver", "forced_closed", reason="over", expires_in=HOUR, actor="piet")

    assert breakers.reserver.effective_state == "forced_closed"
    entry = database.read_now(audit.page)[0]
    assert (entry.before or {})["override"] == "forced_open"


async def test_an_unknown_breaker_is_refused_and_nothing_is_written(database: Database, time: Time) -> None:
    _, lending = a_replica(database, time)

    with pytest.raises(NotFound):
        await lending.start("inventoryServicePainter", "forced_open", reason="?", expires_in=HOUR, actor="olga")

    assert database.read_now(audit.page) == []
