"""What goes out and comes in as events, how far behind either side is, and what could not be handled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import Connection

from services.console.access import LIVE_TTL, Access
from services.console.paging import PAGE_SIZE, Paged, number, paged, time_and_text
from services.console.readings import Reading
from services.domain import events
from services.messaging.dead_letters import REPLAYS_PER_SECOND
from services.orders.letter_commands import MAX_GROUP
from state import commands, dead_letters, inbox, outbox, replicas
from state.commands import Command
from state.dead_letters import DeadLetter, Group
from state.inbox import Received
from state.outbox import Outgoing

__all__ = ["DeadLetter", "Events", "EventsPage", "Group", "Letter", "Outgoing", "Received"]

REPLAY, DISCARD = "replay_dead_letter", "discard_dead_letter"
REPLAY_GROUP, DISCARD_GROUP = "replay_dead_letters", "discard_dead_letters"
KINDS = (REPLAY, DISCARD, REPLAY_GROUP, DISCARD_GROUP)

OUTGOING_TYPES = (events.ORDER_CREATED, events.ORDER_CANCELLED, events.ORDER_RETURNED, events.CONFIRM_REQUESTED)
INCOMING_TYPES = tuple(events.INCOMING)
ALIVE = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class ConsumerLag:
    """How far a durable consumer is behind, as a worker last asked."""

    stream: str
    pending: int
    ack_pending: int
    redelivered: int
    as_of: datetime


@dataclass(frozen=True, slots=True)
class Delivery:
    """How the events flow in both directions."""

    outbox_waiting: int
    outbox_oldest_at: datetime | None
    connected: Mapping[str, bool]
    """By replica that lives."""
    relay_problems: Mapping[str, str]
    """Why the last attempt to publish failed, by replica."""
    consumers: tuple[ConsumerLag, ...]
    open_letters: int


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter with the last command given on it."""

    letter: DeadLetter
    command: Command | None


@dataclass(frozen=True, slots=True)
class EventsPage:
    """Dead letters: groups with the same cause, and one page of letters."""

    groups: tuple[Group, ...]
    letters: Paged[Letter]
    commands: tuple[Command, ...]
    """The last commands on groups, newest first."""


class Events:
    """The topic of the Events page."""

    OUTGOING_TYPES = OUTGOING_TYPES
    INCOMING_TYPES = INCOMING_TYPES
    OUTGOING_OUTCOMES = outbox.OUTCOMES
    INCOMING_OUTCOMES = inbox.OUTCOMES
    LETTER_STATES = dead_letters.STATES
    MAX_GROUP = MAX_GROUP
    REPLAYS_PER_SECOND = REPLAYS_PER_SECOND

    def __init__(self, access: Access) -> None:
        self._access = access

    def delivery(self) -> Reading[Delivery]:
        """How the events flow."""
        return self._access.read("delivery", LIVE_TTL, lambda c: _delivery(c, self._access.now()))

    def outgoing(
        self,
        *,
        subject: str | None = None,
        order_id: str | None = None,
        outcome: str | None = None,
        before: str | None = None,
        after: str | None = None,
    ) -> Reading[Paged[Outgoing]]:
        """Events stored to be published, newest first; ``outcome`` pending, failing or published."""

        def query(connection: Connection) -> Paged[Outgoing]:
            read = partial(outbox.page, connection, subject=subject, order_id=order_id, outcome=outcome)
            return paged(_sliced(read), lambda row: Outgoing(*row), lambda row: (row.id,), number, before, after)

        return self._access.read(("outgoing", subject, order_id, outcome, before, after), LIVE_TTL, query)

    def incoming(
        self,
        *,
        event_type: str | None = None,
        order_id: str | None = None,
        outcome: str | None = None,
        before: str | None = None,
        after: str | None = None,
    ) -> Reading[Paged[Received]]:
        """Events that came in, newest first; ``outcome`` handled, ignored or duplicate."""

        def query(connection: Connection) -> Paged[Received]:
            read = partial(inbox.page, connection, event_type=event_type, order_id=order_id, outcome=outcome)
            key = lambda row: (row.received_at, row.event_id)  # noqa: E731 - it has no other name
            return paged(_sliced(read), lambda row: Received(*row), key, time_and_text, before, after)

        return self._access.read(("incoming", event_type, order_id, outcome, before, after), LIVE_TTL, query)

    def letters(
        self,
        *,
        state: str = dead_letters.OPEN,
        group: tuple[str, str] | None = None,
        order_id: str | None = None,
        before: str | None = None,
        after: str | None = None,
    ) -> Reading[EventsPage]:
        """Dead letters by cause; of one ``group`` (subject, cause), or of one order, when given."""

        def query(connection: Connection) -> EventsPage:
            subject, cause = group or (None, None)
            read = partial(
                dead_letters.search, connection, state=state, subject=subject, cause=cause, order_id=order_id
            )
            key = lambda row: (row.created_at, row.id)  # noqa: E731 - it has no other name
            found = paged(_sliced(read), lambda row: DeadLetter(*row), key, time_and_text, before, after)
            given = commands.latest_of(connection, [letter.id for letter in found.rows])
            rows = tuple(Letter(letter, given.get(letter.id)) for letter in found.rows)
            asked = [
                command
                for command in commands.latest(connection, limit=50)
                if command.kind in (REPLAY_GROUP, DISCARD_GROUP)
            ]
            return EventsPage(
                tuple(dead_letters.groups(connection, state=state)),
                Paged(rows, found.older, found.newer, found.looked_back_to),
                tuple(asked[:5]),
            )

        return self._access.read(("letters", state, group, order_id, before, after), LIVE_TTL, query)

    def ids_of_group(self, group: Group) -> list[str]:
        """The open letters of a group, oldest first, at most MAX_GROUP; raises SourceUnavailable."""
        return self._access.ask(lambda c: dead_letters.ids_of(c, group.subject, group.cause, MAX_GROUP))

    def replay(self, letter: DeadLetter, *, actor: str, command_id: str) -> Command:
        return self._access.store(REPLAY, letter.id, {}, actor=actor, command_id=command_id)

    def discard(self, letter: DeadLetter, note: str, *, actor: str, command_id: str) -> Command:
        return self._access.store(DISCARD, letter.id, {"note": note}, actor=actor, command_id=command_id)

    def replay_group(self, group: Group, ids: Sequence[str], *, actor: str, command_id: str) -> Command:
        arguments: dict[str, Any] = {"ids": list(ids), "cause": group.cause}
        return self._access.store(REPLAY_GROUP, group.subject, arguments, actor=actor, command_id=command_id)

    def discard_group(self, group: Group, ids: Sequence[str], note: str, *, actor: str, command_id: str) -> Command:
        arguments: dict[str, Any] = {"ids": list(ids), "cause": group.cause, "note": note}
        return self._access.store(DISCARD_GROUP, group.subject, arguments, actor=actor, command_id=command_id)


def _sliced(read: Any) -> Any:
    return lambda limit, *, before, after: read(limit=limit, before=before, after=after)


def of_order(connection: Connection, order_id: str) -> tuple[tuple[Outgoing, ...], tuple[Received, ...]]:
    """The last events of one order in both directions, newest first."""
    out = outbox.page(connection, limit=PAGE_SIZE, order_id=order_id)
    into = inbox.page(connection, limit=PAGE_SIZE, order_id=order_id)
    return tuple(Outgoing(*tuple(row)) for row in out.rows), tuple(Received(*tuple(row)) for row in into.rows)


def _delivery(connection: Connection, now: datetime) -> Delivery:
    living = replicas.alive(connection, now - ALIVE)
    waiting, oldest = outbox.pending(connection)
    lags: dict[str, ConsumerLag] = {}
    for row in living:
        for said in row.facts.get("consumers") or ():
            lag = _lag(said)
            known = lags.get(lag.stream)
            # A durable is shared: of what the replicas say, the latest counts.
            if known is None or known.as_of < lag.as_of:
                lags[lag.stream] = lag
    return Delivery(
        outbox_waiting=waiting,
        outbox_oldest_at=oldest,
        connected={row.replica: bool(row.facts.get("natsConnected", True)) for row in living},
        relay_problems={row.replica: str(row.facts["relayProblem"]) for row in living if row.facts.get("relayProblem")},
        consumers=tuple(lags[stream] for stream in sorted(lags)),
        open_letters=dead_letters.count_open(connection),
    )


def _lag(said: Mapping[str, Any]) -> ConsumerLag:
    at = datetime.fromisoformat(str(said["at"]))
    return ConsumerLag(
        str(said["stream"]), int(said["pending"]), int(said["ack_pending"]), int(said["redelivered"]), at
    )
