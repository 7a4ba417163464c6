"""The registry of commands: typed arguments, stored names and decisions that no wording changes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from services.domain.commands import (
    COMMANDS,
    QUEUED,
    Arguments,
    CommandKind,
    CommandState,
    ControlBulkJob,
    Outcome,
    ResolveReviewCase,
    read_arguments,
)
from services.domain.errors import ValidationFailed
from state.commands import Command

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def read(kind: CommandKind, **stored: Any) -> Arguments:
    return read_arguments(COMMANDS[kind], stored)


def test_arguments_are_read_by_their_stored_names() -> None:
    assert read(CommandKind.CONTROL_BULK_JOB, move="pause") == ControlBulkJob(control="pause")
    found = read(CommandKind.RESOLVE_REVIEW, action="APPROVE", version="3", reason=None, somethingElse=1)
    assert found == ResolveReviewCase(action="APPROVE", version=3)


@pytest.mark.parametrize(
    ("kind", "stored", "field"),
    [
        (CommandKind.CANCEL_ORDER, {}, "reason"),
        (CommandKind.MARK_RELEASED, {"version": "x", "proof": "seen"}, "version"),
        (CommandKind.MARK_RELEASED, {"version": 2**40, "proof": "seen"}, "version"),
        (CommandKind.DISCARD_DEAD_LETTER, {"note": "  "}, "note"),
        (CommandKind.RETURN_ITEMS, {"items": [], "reason": "X", "restockable": True}, "items"),
        (CommandKind.CONTROL_BULK_JOB, {"move": "fly"}, "move"),
        (CommandKind.START_OVERRIDE, {"state": "forced_open", "reason": "x", "expiresIn": 86_400_001}, "expiresIn"),
        (CommandKind.SILENCE_ALERT, {"matchers": [], "reason": "x", "expiresIn": "long"}, "expiresIn"),
        (CommandKind.CANCEL_ORDER, {"reason": "x" * 4001}, "reason"),
    ],
)
def test_a_missing_or_malformed_argument_is_refused_with_its_field(
    kind: CommandKind, stored: dict[str, Any], field: str
) -> None:
    with pytest.raises(ValidationFailed) as caught:
        read(kind, **stored)
    assert caught.value.details["problems"][0]["field"] == field  # type: ignore[index]


def test_every_kind_is_declared_once_under_its_own_name() -> None:
    assert {kind: definition.kind for kind, definition in COMMANDS.items()} == {kind: kind for kind in CommandKind}


@pytest.mark.parametrize("stored", [None, [], "done", 3])
def test_an_outcome_of_an_unknown_form_is_none(stored: object) -> None:
    assert Outcome.read(stored) is None


def test_an_outcome_survives_its_row() -> None:
    outcome = Outcome("Refused", "too late", "REVIEW_CONFLICT")
    assert Outcome.read(outcome.stored()) == outcome


@pytest.mark.parametrize("title", ["Queued until the breaker closes", "Wartet", ""])
def test_a_command_is_queued_by_the_code_of_its_outcome_and_never_by_its_title(title: str) -> None:
    command = Command("c-1", CommandKind.RESOLVE_REVIEW, "REV-1", {}, "ada", CommandState.STORED, NOON)
    assert replace(command, outcome=Outcome(title, code=QUEUED)).is_queued
    assert not replace(command, outcome=Outcome(title)).is_queued
    assert not replace(command, state=CommandState.DONE, outcome=Outcome(title, code=QUEUED)).is_queued
