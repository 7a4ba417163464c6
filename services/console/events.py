"""Outgoing and incoming events, consumer lag, undeliverable events and dead letters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from services.console.access import LIVE_TTL, Topic
from services.console.bulk import BulkRequest, BulkTarget
from services.console.cache import Reading
from services.console.paging import NEWEST, PAGE_SIZE, Paged, Place, paged, with_rows
from services.domain.bulk import MAX_ITEMS, BulkAction
from services.domain.commands import CommandKind
from services.domain.external import utc_time
from services.domain.orders import events
from services.messaging.outbox_relay import ProblemKind
from state import commands, dead_letters, deduplication, outbox, replicas
from state.commands import Command
from state.dead_letters import DeadLetter, Group, Outline
from state.deduplication import Received
from state.engine.source import SourceUnavailable
from state.outbox import Outgoing, UndeliverableEvent

UNDELIVERABLE_SHOWN = 50
"""Maximum undeliverable events shown, the oldest first."""


@dataclass(frozen=True, slots=True)
class ConsumerLag:
    """Lag of a durable consumer, as last reported by a replica."""

    stream: str
    pending: int
    ack_pending: int
    redelivered: int
    as_of: datetime


@dataclass(frozen=True, slots=True)
class Delivery:
    """Outbox, broker connections and consumer lag."""

    outbox_waiting: int
    outbox_oldest_at: datetime | None
    connected: Mapping[str, bool]
    """Whether a live replica is connected to the broker, by replica."""
    relay_problems: Mapping[str, str]
    """Why the last attempt to publish failed, by replica."""
    is_refused: bool
    """Whether the broker refuses events of a live replica; otherwise publishing fails for another reason."""
    consumers: tuple[ConsumerLag, ...]
    open_dead_letters: int


@dataclass(frozen=True, slots=True)
class DeadLetterRow:
    """A dead letter with the last command on it."""

    dead_letter: DeadLetter
    command: Command | None


@dataclass(frozen=True, slots=True)
class Undeliverable:
    """An event that cannot be published as it is, with the last command on it."""

    event: UndeliverableEvent
    command: Command | None


@dataclass(frozen=True, slots=True)
class UndeliverableList:
    """The oldest undeliverable events, and how many there are in all."""

    rows: tuple[Undeliverable, ...]
    total: int


@dataclass(frozen=True, slots=True)
class EventsPage:
    """Dead letters: groups with the same cause, and one page of dead letters."""

    groups: tuple[Group, ...]
    dead_letters: Paged[DeadLetterRow]


class Events(Topic):
    """The topic of the Events page."""

    OUTGOING_TYPES = (events.ORDER_CREATED, events.ORDER_CANCELLED, events.ORDER_RETURNED, events.CONFIRM_REQUESTED)
    INCOMING_TYPES = tuple(events.INCOMING)
    OUTGOING_OUTCOMES = outbox.OUTCOMES
    INCOMING_OUTCOMES = deduplication.OUTCOMES
    DEAD_LETTER_STATES = dead_letters.STATES

    def delivery(self) -> Reading[Delivery]:
        """Outbox, broker connections and consumer lag."""
        return self._access.read("delivery", LIVE_TTL, lambda c: _delivery(c, self._access.now()))

    def outgoing(
        self,
        *,
        subject: str | None = None,
        order_id: str | None = None,
        outcome: str | None = None,
        place: Place = NEWEST,
    ) -> Reading[Paged[Outgoing]]:
        """Events stored to be published, newest first; ``outcome`` is one of OUTGOING_OUTCOMES."""
        listed = outbox.listed(subject=subject, order_id=order_id, outcome=outcome)
        key = ("outgoing", subject, order_id, outcome, place)
        return self._access.read(key, LIVE_TTL, lambda c: paged(c, listed, lambda row: Outgoing(*row), place))

    def undeliverable(self) -> Reading[UndeliverableList]:
        """Events that cannot be published as they are, the oldest first."""
        return self._access.read("undeliverable", LIVE_TTL, _undeliverable)

    def incoming(
        self,
        *,
        event_type: str | None = None,
        order_id: str | None = None,
        outcome: str | None = None,
        place: Place = NEWEST,
    ) -> Reading[Paged[Received]]:
        """Incoming events, newest first; ``outcome`` is one of INCOMING_OUTCOMES."""
        listed = deduplication.listed(event_type=event_type, order_id=order_id, outcome=outcome)
        key = ("incoming", event_type, order_id, outcome, place)
        return self._access.read(key, LIVE_TTL, lambda c: paged(c, listed, lambda row: Received(*row), place))

    def dead_letters_by_cause(
        self,
        *,
        state: str = dead_letters.OPEN,
        group: tuple[str, str] | None = None,
        order_id: str | None = None,
        place: Place = NEWEST,
    ) -> Reading[EventsPage]:
        """Dead letters by cause, optionally of one ``group`` (subject, cause) or of one order."""
        subject, cause = group or (None, None)
        listed = dead_letters.listed(state=state, subject=subject, cause=cause, order_id=order_id)

        def query(connection: Connection) -> EventsPage:
            found = paged(connection, listed, lambda row: DeadLetter(*row), place)
            given = commands.latest_of(connection, [dead_letter.id for dead_letter in found.rows])
            rows = tuple(DeadLetterRow(dead_letter, given.get(dead_letter.id)) for dead_letter in found.rows)
            groups = tuple(dead_letters.groups(connection, state=state))
            return EventsPage(groups, with_rows(found, rows))

        return self._access.read(("letters", state, group, order_id, place), LIVE_TTL, query)

    def payload(self, dead_letter_id: str) -> bytes:
        """All bytes of one dead letter, for a file; the error text if the database is down."""
        return self._bytes(lambda c: found.payload if (found := dead_letters.get(c, dead_letter_id)) else None)

    def outgoing_payload(self, row_id: int) -> bytes:
        """All bytes of one outgoing event, for a file; the error text if the database is down."""
        return self._bytes(lambda c: outbox.payload(c, row_id))

    def _bytes(self, query: Callable[[Connection], bytes | None]) -> bytes:
        try:
            return self._access.read_now(query) or b""
        except SourceUnavailable as error:
            return str(error).encode()

    def freeze(self, bulk_action: BulkAction, group: Group) -> BulkRequest:
        """Up to MAX_ITEMS open dead letters of a group, oldest first. Raises SourceUnavailable."""
        subject, cause = group.subject, group.cause

        def open_dead_letters(connection: Connection) -> list[Outline]:
            return dead_letters.outlines(connection, subject, cause, MAX_ITEMS)

        name = dead_letters.group_name(subject, cause)
        targets = tuple(
            BulkTarget(one.id, one.order_id or "", one.attempts, one.state, name, one.reason)
            for one in self._access.read_now(open_dead_letters)
        )
        return BulkRequest(
            bulk_action, None, targets, self._access.now(), name, lambda c: [one.id for one in open_dead_letters(c)]
        )


def _undeliverable(connection: Connection) -> UndeliverableList:
    found = outbox.undeliverable(connection, UNDELIVERABLE_SHOWN)
    # Row ids are numbers and may equal order ids, so the kinds narrow the search.
    kinds = (CommandKind.RETRY_OUTGOING_EVENT, CommandKind.DISCARD_OUTGOING_EVENT)
    given = commands.latest_of(connection, [str(event.id) for event in found], kinds) if found else {}
    rows = tuple(Undeliverable(event, given.get(str(event.id))) for event in found)
    return UndeliverableList(rows, outbox.count_undeliverable(connection))


def of_order(connection: Connection, order_id: str) -> tuple[tuple[Outgoing, ...], tuple[Received, ...]]:
    """The last events of one order in both directions, newest first."""
    out = outbox.listed(order_id=order_id).page(connection, PAGE_SIZE)
    into = deduplication.listed(order_id=order_id).page(connection, PAGE_SIZE)
    return tuple(Outgoing(*tuple(row)) for row in out.rows), tuple(Received(*tuple(row)) for row in into.rows)


def _delivery(connection: Connection, now: datetime) -> Delivery:
    living = replicas.alive(connection, now)
    waiting, oldest = outbox.pending(connection)
    lags: dict[str, ConsumerLag] = {}
    for row in living:
        for said in row.facts.get("consumers") or ():
            lag = _lag(said)
            if lag is None:
                continue
            known = lags.get(lag.stream)
            # Replicas share a durable consumer: the latest report counts.
            if known is None or known.as_of < lag.as_of:
                lags[lag.stream] = lag
    return Delivery(
        outbox_waiting=waiting,
        outbox_oldest_at=oldest,
        connected={row.replica: bool(row.facts.get("natsConnected", True)) for row in living},
        relay_problems={row.replica: str(row.facts["relayProblem"]) for row in living if row.facts.get("relayProblem")},
        is_refused=any(row.facts.get("relayTrouble") == ProblemKind.BROKER for row in living),
        consumers=tuple(lags[stream] for stream in sorted(lags)),
        open_dead_letters=dead_letters.count_open(connection),
    )


def _lag(said: object) -> ConsumerLag | None:
    """Parse a replica's report of a consumer; None if another version reports it in another form."""
    try:
        at = utc_time(said["at"])  # type: ignore[index]
        pending, waiting, again = (int(said[name]) for name in ("pending", "ack_pending", "redelivered"))  # type: ignore[index]
        return ConsumerLag(str(said["stream"]), pending, waiting, again, at)  # type: ignore[index]
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
