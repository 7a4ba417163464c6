"""The outbox relay: publishes stored events at least once, as soon as they are committed.

Source: docs/adr/0004.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, StrEnum, auto
from typing import Literal, Protocol

from services.base.identity import utc_now
from services.domain.calls import Randomness, RetryPolicy
from services.domain.external import cut_text
from state import outbox
from state.engine.database import Database
from state.engine.transactions import is_of_database

log = logging.getLogger(__name__)

PublishOutcome = Literal["published", "failed"]
OnPublished = Callable[[str, PublishOutcome], None]
"""Called with the event type and the outcome of one attempt to publish it."""

BACKOFF = RetryPolicy(attempts=sys.maxsize, base_delay_seconds=0.1, max_delay_seconds=5.0)
"""Pauses while no event can be published."""

PROBLEM_SECONDS = 15.0
"""How long a problem is reported after it was found. Refused rows are retried sooner, or by another replica."""


TRIES = 4
"""A row becomes undeliverable after this many unexpected errors, if other rows were published meanwhile."""

MAX_REASON = 500
MAX_RAISING = 1000
"""Rows whose unexpected errors are counted."""


class ProblemKind(StrEnum):
    """Where the fault lies when events are not published; the remedy depends on it."""

    BROKER = "broker"
    """The broker refuses events, or its streams are missing: a restart of the broker may help."""
    DATABASE = "database"
    """The outbox cannot be read or written; nothing is sent to the broker."""
    OURS = "ours"
    """Publishing raised an unexpected error, which does not implicate the broker."""


@dataclass(frozen=True, slots=True)
class PublishProblem:
    """The present problem; ``reason`` is one sentence for the engineer on call."""

    kind: ProblemKind
    reason: str


def worst_kind(problems: list[PublishProblem]) -> ProblemKind | None:
    """The fault to act on: BROKER before DATABASE before OURS; None without problems."""
    kinds = [problem.kind for problem in problems]
    return next((one for one in ProblemKind if one in kinds), None)


class Undeliverable(str):
    """Reason for a row whose content or size the broker can never accept."""

    __slots__ = ()


class Raised(str):
    """Reason for a row whose publishing raised an unexpected error."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """One stored event, encoded and ready to be published."""

    id: int
    event_id: str
    subject: str
    payload: bytes
    order_id: str
    created_at: datetime
    traceparent: str | None = None
    """Traceparent of the transaction that stored the event; sent as a header."""


class Publisher(Protocol):
    """Publishes rows to the broker."""

    @property
    def is_available(self) -> bool:
        """Whether publishing can succeed now."""
        ...

    async def publish(self, rows: Sequence[OutboxRow]) -> Mapping[int, str]:
        """Publish all rows; returns the reasons of those that the broker did not acknowledge, by row id.

        Never raises for a row. Publishing a row again has no effect while the broker remembers its event id.
        """
        ...


class SqlOutbox:
    """Events that wait to be published, stored in the transactions that caused them."""

    def __init__(self, database: Database, clock: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._clock = clock

    async def settle_and_claim(
        self, settled: Sequence[int], failed: Sequence[tuple[int, str]], limit: int
    ) -> list[OutboxRow]:
        """In one transaction: mark rows published, note failures with their reasons, claim due rows, oldest first.

        No other relay gets a claimed row until it is settled, noted as failed, or its lease ends. Each failed row
        has its own growing delay; a row whose reason is Undeliverable does not become due again. ``limit`` may be 0.
        """
        never = [(row_id, str(reason)) for row_id, reason in failed if isinstance(reason, Undeliverable)]
        again = [(row_id, reason) for row_id, reason in failed if not isinstance(reason, Undeliverable)]
        rows = await self._database.write(
            lambda c: outbox.settle_and_claim(c, list(settled), again, limit, self._clock(), undeliverable=never)
        )
        return [OutboxRow(*row) for row in rows]


class OutboxRelay:
    """Publishes outbox rows until it is stopped.

    A row is marked only after the broker acknowledged it. A crash in between publishes the event twice under the
    same id and never loses it. The poll finds rows that a crashed replica had claimed. The relay claims nothing
    while the publisher is unavailable.
    """

    def __init__(
        self,
        outbox: SqlOutbox,
        publisher: Publisher,
        *,
        on_published: OnPublished = lambda _type, _outcome: None,
        on_failure: Callable[[], None] = lambda: None,
        batch_size: int = 256,
        poll_seconds: float = 1.0,
        randomness: Randomness = random.random,
        woken: asyncio.Event | None = None,
    ) -> None:
        """``on_failure`` is called for each round that could not read the outbox or raised an unexpected error.

        Setting ``woken`` starts the next round at once, like wake().
        """
        self._outbox = outbox
        self._publisher = publisher
        self._on_published = on_published
        self._on_failure = on_failure
        self._batch_size = batch_size
        self._poll_seconds = poll_seconds
        self._randomness = randomness
        self._woken = woken or asyncio.Event()
        self._stopping = asyncio.Event()
        self._settled: list[int] = []
        self._failed: list[tuple[int, str]] = []
        self._published = 0
        self._raising: dict[int, tuple[int, int]] = {}
        """Per row: the number of unexpected errors, and how many rows had been published at that time."""
        self._problem: PublishProblem | None = None
        self._problem_at = 0.0

    def wake(self) -> None:
        """Start a round now. Call it on the loop after each commit that stored events, and on reconnect."""
        self._woken.set()

    def stop(self) -> None:
        """Claim no more rows; run() returns when the claimed rows are published and settled."""
        self._stopping.set()
        self._woken.set()

    @property
    def problem(self) -> PublishProblem | None:
        """Why the last attempt to publish failed; None when it succeeded, or once PROBLEM_SECONDS have passed."""
        return self._problem if time.monotonic() - self._problem_at < PROBLEM_SECONDS else None

    async def run(self) -> None:
        """Publish until stop(). Call it once."""
        futile_rounds = 0
        while not self._stopping.is_set():
            self._woken.clear()
            match await self._round():
                case _Round.PROGRESS:
                    futile_rounds = 0
                case _Round.IDLE:
                    futile_rounds = 0
                    await _wait(self._woken, self._poll_seconds)
                case _Round.FUTILE:
                    futile_rounds += 1
                    await _wait(self._stopping, self._delay_seconds(futile_rounds))
        await self._claim(0)

    async def _round(self) -> _Round:
        rows = await self._claim(self._batch_size if self._publisher.is_available else 0)
        if rows is None:
            return _Round.FUTILE
        if not rows:
            return _Round.IDLE
        await self._publish(rows)
        is_any_ended = bool(self._settled) or any(isinstance(reason, Undeliverable) for _, reason in self._failed)
        return _Round.PROGRESS if is_any_ended else _Round.FUTILE

    async def _claim(self, limit: int) -> list[OutboxRow] | None:
        """Settle published rows and claim more; None when the outbox cannot be used."""
        if not (limit or self._settled or self._failed):
            return []
        try:
            rows = await self._outbox.settle_and_claim(self._settled, self._failed, limit)
        except Exception as error:
            # A boundary: the relay continues while the database is unavailable.
            log.warning("outbox_unavailable", extra={"reason": repr(error)}, exc_info=not is_of_database(error))
            self._on_failure()
            self._note(PublishProblem(ProblemKind.DATABASE, f"the outbox cannot be read: {error!r}"))
            return None
        self._settled, self._failed = [], []
        if self._problem is not None and self._problem.kind is ProblemKind.DATABASE:
            # Without rows to publish, no other code would clear the problem.
            self._note(None)
        return rows

    async def _publish(self, rows: list[OutboxRow]) -> None:
        failures = await self._failures(rows)
        self._settled = [row.id for row in rows if row.id not in failures]
        self._published += len(self._settled)
        self._failed = [(row.id, self._counted(row.id, failures[row.id])) for row in rows if row.id in failures]
        for row in rows:
            self._on_published(row.subject, "failed" if row.id in failures else "published")
        self._report(rows)

    async def _failures(self, rows: Sequence[OutboxRow]) -> Mapping[int, str]:
        """Publish the rows and return the reasons of failures by row; rows that raise together are tried singly."""
        try:
            return await self._publisher.publish(rows)
        except Exception as error:
            # A boundary: the broker may have stored the rows. It deduplicates them when they are sent again.
            log.warning("publishing_failed", extra={"rows": len(rows)}, exc_info=error)
            self._on_failure()
            if len(rows) == 1:
                return {rows[0].id: Raised(cut_text(repr(error), MAX_REASON))}
        # Tried singly, so that the row that raises does not block the others.
        every = await asyncio.gather(*(self._failures([row]) for row in rows))
        return {row_id: reason for failures in every for row_id, reason in failures.items()}

    def _counted(self, row_id: int, reason: str) -> str:
        """The reason of the row; an Undeliverable one after TRIES errors while other rows were published."""
        if not isinstance(reason, Raised):
            return reason
        tries, published = self._raising.pop(row_id, (0, -1))
        tries += self._published > published
        if tries >= TRIES:
            return Undeliverable(f"It failed unexpectedly {tries} times. {reason}")
        self._raising[row_id] = (tries, self._published)
        if len(self._raising) > MAX_RAISING:
            del self._raising[next(iter(self._raising))]
        return reason

    def _report(self, rows: list[OutboxRow]) -> None:
        failures = dict(self._failed)
        for row in rows:
            if isinstance(reason := failures.get(row.id), Undeliverable):
                extra = {"event_id": row.event_id, "order_id": row.order_id, "reason": str(reason)}
                log.error("event_undeliverable", extra=extra)
        # A fault of one event does not prevent the others from being published.
        passing = [reason for reason in failures.values() if not isinstance(reason, Undeliverable)]
        refused = [reason for reason in passing if not isinstance(reason, Raised)]
        if refused:
            self._note(PublishProblem(ProblemKind.BROKER, refused[0]))
        else:
            self._note(PublishProblem(ProblemKind.OURS, str(passing[0])) if passing else None)
        if passing:
            log.warning("events_not_published", extra={"count": len(passing), "reason": passing[0]})

    def _note(self, problem: PublishProblem | None) -> None:
        self._problem, self._problem_at = problem, time.monotonic()

    def _delay_seconds(self, futile_rounds: int) -> float:
        return BACKOFF.delay_seconds(futile_rounds, self._randomness) or BACKOFF.max_delay_seconds


class _Round(Enum):
    PROGRESS = auto()
    IDLE = auto()
    FUTILE = auto()
    """Rows may have been due, and none was published."""


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
