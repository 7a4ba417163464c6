"""Overrides that people ask for on the console: executed once, audited under the command's id, refused with words."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from services.base.settings import Settings
from services.breakers.overrides import BreakerOverrides
from services.clients.inventory.resilient import inventory_breakers
from services.commands.handlers import HANDLERS
from services.domain.commands import COMMANDS, CommandState, Outcome, read_arguments
from services.domain.errors import InvalidState, NotFound, ValidationFailed
from services.use_cases import UseCases
from state import audit, breakers
from state.commands import Command
from state.engine.database import Database, opened

START = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
RESERVER = "inventoryServiceReserver"
GIVEN = {"state": "forced_open", "reason": "sale drill", "expiresIn": 600_000}


@pytest.fixture
def database(sqlite_url: str) -> Iterator[Database]:
    with opened(sqlite_url) as database:
        yield database


def at(now: datetime, database: Database) -> BreakerOverrides:
    return BreakerOverrides(database, lambda: now, inventory_breakers(Settings.load(), clock=lambda: now))


def asked(kind: str = "set_override", target: str = RESERVER, command_id: str = "c-1", **changes: Any) -> Command:
    return Command(command_id, kind, target, GIVEN | changes, "olga", CommandState.STORED, START)


async def run(overrides: BreakerOverrides, command: Command) -> Outcome:
    use_cases = cast("UseCases", SimpleNamespace(overrides=overrides))
    arguments = read_arguments(COMMANDS[command.kind], command.arguments)
    return await HANDLERS[command.kind](use_cases, command, arguments)


async def test_an_override_runs_from_the_click_on_and_is_audited_under_the_commands_id(database: Database) -> None:
    lending = at(START + timedelta(seconds=5), database)
    outcome = await run(lending, asked())
    assert outcome.title == "Forced open until 03:10:00 UTC"
    override = database.read_now(lambda c: breakers.active_overrides(c, START))[RESERVER]
    assert (override.state, override.reason, override.actor, override.expires_at) == (
        "forced_open",
        "sale drill",
        "olga",
        START + timedelta(minutes=10),
    )
    (entry,) = database.read_now(audit.page)
    assert (entry.actor, entry.action, entry.reason, entry.action_id) == ("olga", "FORCE_BREAKER", "sale drill", "c-1")
    assert entry.before == {"override": "none"}


async def test_a_command_run_twice_lends_once_even_when_the_override_was_ended_between(database: Database) -> None:
    lending = at(START, database)
    await run(lending, asked())
    await run(lending, asked("end_override", command_id="c-2"))
    await run(lending, asked())
    await run(lending, asked("end_override", command_id="c-2"))
    assert database.read_now(lambda c: breakers.active_overrides(c, START)) == {}
    assert [entry.action for entry in database.read_now(audit.page)] == ["END_BREAKER_OVERRIDE", "FORCE_BREAKER"]


async def test_an_override_that_no_worker_came_to_in_time_is_refused(database: Database) -> None:
    with pytest.raises(InvalidState, match="would have ended"):
        await run(at(START + timedelta(minutes=10), database), asked())
    assert database.read_now(audit.page) == []


async def test_ending_an_override_that_does_not_exist_reports_it(database: Database) -> None:
    outcome = await run(at(START, database), asked("end_override"))
    assert outcome.title == "No override was active any more"
    assert database.read_now(audit.page) == []


@pytest.mark.parametrize(
    ("field", "value"), [("state", "half_open"), ("expiresIn", 0), ("expiresIn", 86_400_001), ("reason", "  ")]
)
async def test_an_invalid_override_is_refused_with_the_field(database: Database, field: str, value: Any) -> None:
    with pytest.raises(ValidationFailed, match=field):
        await run(at(START, database), asked(**{field: value}))
    assert database.read_now(lambda c: breakers.active_overrides(c, START)) == {}


@pytest.mark.parametrize("kind", ["set_override", "end_override"])
async def test_an_unknown_breaker_is_refused(database: Database, kind: str) -> None:
    with pytest.raises(NotFound):
        await run(at(START, database), asked(kind, target="inventoryServicePainter"))
