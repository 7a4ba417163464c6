"""The registry of commands: every kind with its target, its arguments, its roles and its label.

To add a kind, declare it here, add its handler to ``services/commands/handlers.py``, and offer it on a page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic.alias_generators import to_camel

from services.domain.bulk import ControlAction
from services.domain.errors import ValidationFailed
from services.domain.external import INT32, INT64
from services.domain.roles import OPERATE


class CommandState(StrEnum):
    """The state of a stored command."""

    STORED = "STORED"
    RUNNING = "RUNNING"
    DONE = "DONE"
    REFUSED = "REFUSED"
    WITHDRAWN = "WITHDRAWN"
    """Undone by a person before a worker ran it."""
    FAILED = "FAILED"
    """Given up after unexpected errors. The command may have taken effect."""


UNFINISHED = frozenset({CommandState.STORED, CommandState.RUNNING})

QUEUED = "QUEUED"
"""Outcome code: an open circuit breaker delays the command, or the work that it started."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a command, as texts for the console. Code may compare only ``code``."""

    title: str
    detail: str | None = None
    code: str | None = None
    """QUEUED or an error code; None otherwise."""

    def stored(self) -> dict[str, str | None]:
        """Return the JSON object that is stored with the command."""
        return {"title": self.title, "detail": self.detail, "code": self.code}

    @classmethod
    def read(cls, stored: object) -> Outcome | None:
        """Return the outcome from its stored form; None for a missing or unknown form."""
        if not isinstance(stored, Mapping):
            return None
        title, detail, code = (stored.get(name) for name in ("title", "detail", "code"))
        return cls(str(title or ""), str(detail) if detail else None, str(code) if code else None)


MAX_TEXT = 4000
MAX_ORDERS = 1000
Text = Annotated[str, Field(max_length=MAX_TEXT)]
RequiredText = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_TEXT)]
Version = Annotated[int, Field(ge=INT32[0], le=INT32[1])]
Milliseconds = Annotated[int, Field(ge=INT64[0], le=INT64[1])]


class Arguments(BaseModel):
    """Typed arguments of a command. The stored JSON object uses camelCase names."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)


class NoArguments(Arguments):
    """No arguments: the target suffices."""


class Note(Arguments):
    """An optional remark."""

    note: Text = ""


class RequiredNote(Arguments):
    """The required reason for discarding an event."""

    note: RequiredText


class CancelOrder(Arguments):
    """Cancel an order."""

    reason: Text


class ReturnedLine(Arguments):
    """The returned quantity of one order line."""

    product_id: Text
    variant_id: Text
    quantity: Annotated[int, Field(ge=1, le=INT32[1])]


class ReturnItems(Arguments):
    """Record returned items. The id of the command becomes the id of the return."""

    items: Annotated[tuple[ReturnedLine, ...], Field(min_length=1)]
    reason: Text
    restockable: bool


class LookUpInventory(Arguments):
    """Look up the inventory status of one order, and renew the claim on ``review_id``."""

    review_id: Text | None = None


class LookUpInventoryMany(Arguments):
    """Look up the inventory status of the orders of a preview."""

    order_ids: Annotated[tuple[Text, ...], Field(max_length=MAX_ORDERS)]


class ResolveReviewCase(Arguments):
    """Resolve a review case whose ``version`` the actor saw."""

    action: Text
    version: Version
    note: Text = ""
    reason: Text | None = None
    turn: Annotated[int, Field(ge=0, le=INT32[1])] = 0
    """Number of attempts that an open breaker stopped after the action had begun."""


class ClaimReview(Arguments):
    """Claim a review case; an admin may take over another actor's claim."""

    take_over: bool = False


class MarkReleasedWithProof(Arguments):
    """Close a failed release job whose ``version`` the actor saw."""

    version: Version
    proof: Text


class Compensate(Arguments):
    """Apply the compensation of one difference."""

    order_id: Text
    kind: Text
    reason: Text


class ControlBulkJob(Arguments):
    """Pause, resume or cancel a bulk job."""

    control: ControlAction = Field(alias="move")


class StartOverride(Arguments):
    """Force a breaker open or closed for a limited time."""

    state: Literal["forced_open", "forced_closed"]
    expires_in: Annotated[int, Field(ge=1000, le=86_400_000)]
    """Milliseconds from the time at which the command was stored."""
    reason: RequiredText


class SilenceAlert(Arguments):
    """Silence the matching alerts."""

    matchers: Any
    """Matchers in stored form; see ``services.alerting.state_machine.matchers_of``."""
    expires_in: Milliseconds
    reason: Text


class StartDrill(Arguments):
    """Start a drill; the target is its kind."""

    seconds: Annotated[int, Field(ge=INT32[0], le=INT32[1])]
    level: float | None = None
    reason: Text


class SetTraffic(Arguments):
    """Set the rate of the sandbox traffic."""

    orders_per_second: float


class CommandKind(StrEnum):
    """Every kind of command, by its stored name."""

    CANCEL_ORDER = "cancel_order"
    RETURN_ITEMS = "return_items"
    LOOK_UP_INVENTORY = "ask_theirs"
    LOOK_UP_INVENTORY_MANY = "ask_theirs_many"
    RESOLVE_REVIEW = "resolve_review"
    CLAIM_REVIEW = "claim_review"
    RELEASE_CLAIM = "release_claim"
    RETRY_RELEASE = "retry_release"
    MARK_RELEASED = "mark_released"
    COMPENSATE = "compensate"
    CONTROL_BULK_JOB = "steer_operation"
    REPLAY_DEAD_LETTER = "replay_dead_letter"
    DISCARD_DEAD_LETTER = "discard_dead_letter"
    RETRY_OUTGOING_EVENT = "retry_outgoing_event"
    DISCARD_OUTGOING_EVENT = "discard_outgoing_event"
    START_OVERRIDE = "set_override"
    END_OVERRIDE = "end_override"
    ACKNOWLEDGE_ALERT = "acknowledge_alert"
    SILENCE_ALERT = "silence_alert"
    END_SILENCE = "end_silence"
    START_DRILL = "start_drill"
    STOP_DRILL = "stop_drill"
    SET_TRAFFIC = "set_traffic"


@dataclass(frozen=True, slots=True)
class CommandDefinition:
    """One kind of command."""

    kind: CommandKind
    target: str
    """Noun that precedes the target's id in the audit log."""
    arguments: type[Arguments]
    label: str
    """Name of the command on the console."""
    roles: frozenset[str] = OPERATE
    """Roles of the actors that may give this command."""

    @property
    def is_named_by_order(self) -> bool:
        """Whether the id of the target is an order id."""
        return self.target in ("order", "release")


_K = CommandKind
COMMANDS: Mapping[str, CommandDefinition] = {
    definition.kind: definition
    for definition in (
        CommandDefinition(_K.CANCEL_ORDER, "order", CancelOrder, "Cancel order"),
        CommandDefinition(_K.RETURN_ITEMS, "order", ReturnItems, "Return items"),
        CommandDefinition(_K.LOOK_UP_INVENTORY, "order", LookUpInventory, "Ask the Inventory Service"),
        CommandDefinition(
            _K.LOOK_UP_INVENTORY_MANY,
            "preview",
            LookUpInventoryMany,
            "Ask the Inventory Service about several orders",
        ),
        CommandDefinition(_K.RESOLVE_REVIEW, "review", ResolveReviewCase, "Resolve case"),
        CommandDefinition(_K.CLAIM_REVIEW, "review", ClaimReview, "Claim case"),
        CommandDefinition(_K.RELEASE_CLAIM, "review", NoArguments, "Hand case back"),
        CommandDefinition(_K.RETRY_RELEASE, "release", NoArguments, "Retry release"),
        CommandDefinition(_K.MARK_RELEASED, "release", MarkReleasedWithProof, "Mark released"),
        CommandDefinition(_K.COMPENSATE, "difference", Compensate, "Compensate"),
        CommandDefinition(_K.CONTROL_BULK_JOB, "operation", ControlBulkJob, "Control bulk job"),
        CommandDefinition(_K.REPLAY_DEAD_LETTER, "dead-letter", NoArguments, "Replay event"),
        CommandDefinition(_K.DISCARD_DEAD_LETTER, "dead-letter", RequiredNote, "Discard event"),
        CommandDefinition(_K.RETRY_OUTGOING_EVENT, "outbox-event", Note, "Publish event again"),
        CommandDefinition(_K.DISCARD_OUTGOING_EVENT, "outbox-event", RequiredNote, "Give event up"),
        CommandDefinition(_K.START_OVERRIDE, "breaker", StartOverride, "Override breaker"),
        CommandDefinition(_K.END_OVERRIDE, "breaker", NoArguments, "End the override"),
        CommandDefinition(_K.ACKNOWLEDGE_ALERT, "alert", Note, "Acknowledge alert"),
        CommandDefinition(_K.SILENCE_ALERT, "alert", SilenceAlert, "Silence"),
        CommandDefinition(_K.END_SILENCE, "silence", NoArguments, "End silence"),
        CommandDefinition(_K.START_DRILL, "drill", StartDrill, "Start drill"),
        CommandDefinition(_K.STOP_DRILL, "drill", NoArguments, "Stop drill"),
        CommandDefinition(_K.SET_TRAFFIC, "sandbox", SetTraffic, "Set traffic"),
    )
}

LOOKUPS = (CommandKind.LOOK_UP_INVENTORY, CommandKind.LOOK_UP_INVENTORY_MANY)
"""Commands that only read from the Inventory Service. They run concurrently and block no other command."""


def read_arguments(definition: CommandDefinition, stored: Mapping[str, Any]) -> Arguments:
    """Return the typed arguments of a stored command. Raises ValidationFailed for a missing or malformed argument."""
    try:
        return definition.arguments.model_validate(stored)
    except ValidationError as error:
        problems = [
            {"field": ".".join(map(str, problem["loc"])), "problem": problem["msg"]}
            for problem in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        first = problems[0]
        raise ValidationFailed(
            f"The command could not be understood: {first['field']}: {first['problem']}", {"problems": problems}
        ) from error
