"""The streams of our events: ensured at the start, and again when one of them is missing.

The events of a lost stream are published again. Source: contract 5.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import nats.errors

from services.base.identity import utc_now
from services.domain.orders import events
from services.domain.orders.model import OrderStatus
from services.messaging.jetstream import Connection, ensure_streams
from services.messaging.outbox_relay import ProblemKind, PublishProblem
from state import orders, outbox
from state.engine.database import Database
from state.engine.transactions import is_of_database

log = logging.getLogger(__name__)

SENT_AGAIN = tuple(subject for subject in events.OUTGOING if subject != events.CONFIRM_REQUESTED)
"""Subjects that are published again. The sweeper repeats confirmation requests under new ids instead."""

KEPT = timedelta(days=1)
"""Events that were published longer than this before their stream was created count as delivered."""

STEP = 500
"""Rows in one transaction."""

OnStreams = Callable[[datetime], Awaitable[None]]
"""Called with the creation time of our newest stream; events published before that time may be lost."""

Known = tuple[datetime | None, tuple[str, ...]]
"""Creation time of a stream, and the subjects that it stores."""


class Topology:
    """Stores which stream has which subject, and updates this when the broker loses or regains its store."""

    def __init__(self, connection: Connection, on_streams: OnStreams) -> None:
        self._connection = connection
        self._on_streams = on_streams
        self._ensuring = asyncio.Lock()
        self._known: dict[str, Known] = {}
        self._problem: PublishProblem | None = PublishProblem(ProblemKind.BROKER, "the streams are not known yet")
        self.placement: Mapping[str, str] = {}
        """Subject to stream; empty before the first success."""

    @property
    def problem(self) -> PublishProblem | None:
        """A missing stream, or the reason why lost events cannot be published again; None without either."""
        return self._problem

    async def open(self) -> Mapping[str, str]:
        """Connect and ensure the streams, both without a time limit; returns the placement."""
        await self._connection.open()
        await self.watch()
        while not self.placement:
            await asyncio.sleep(0.5)
            await self.watch()
        return self.placement

    async def ensure(self) -> Mapping[str, str]:
        """Ensure that a stream stores every event; raises nats.errors.Error while that is impossible."""
        async with self._ensuring:
            try:
                placement = await ensure_streams(self._connection.js)
                known = await self._check(set(placement.values()))
            except (nats.errors.Error, OSError) as error:
                self._note(ProblemKind.BROKER, f"streams cannot be ensured: {str(error) or type(error).__name__}")
                raise
            made = {name: at for name, (at, _) in known.items()}
            if made != {name: at for name, (at, _) in self._known.items()}:
                log.info("streams_ensured", extra={"streams": sorted(made)})
                if newest := max((at for at in made.values() if at is not None), default=None):
                    await self._send_again(newest)
            self.placement, self._known = placement, known
            self._problem = None
            return placement

    async def recover(self) -> None:
        """Ensure the streams after a caller found one missing; a failure is noted and retried in the next round."""
        try:
            await self.ensure()
        except (nats.errors.Error, OSError):
            # ensure() has noted the problem, and logged it if it is new.
            return
        except Exception:
            # A boundary: publishing and consuming continue, and detect the missing streams again.
            log.exception("streams_not_recovered")

    async def watch(self) -> bool:
        """Check whether the ensured streams still exist; one round of a Loop."""
        if not self._connection.is_connected:
            return False
        try:
            found = await self._check(set(self._known))
            is_same = bool(found) and found == self._known
            self._note_changes(found)
        except (nats.errors.Error, OSError) as error:
            self._note(ProblemKind.BROKER, f"streams are missing: {str(error) or type(error).__name__}")
            is_same = False
        if not is_same:
            await self.recover()
        else:
            self._problem = None
        return False

    async def _send_again(self, newest: datetime) -> None:
        try:
            await self._on_streams(newest)
        except Exception as error:
            # The streams exist. Publishing their lost events again failed on our side; the next round retries it.
            kind = ProblemKind.DATABASE if is_of_database(error) else ProblemKind.OURS
            self._note(kind, f"what the streams may have lost cannot be sent again: {type(error).__name__}")
            raise

    async def _check(self, streams: set[str]) -> dict[str, Known]:
        found = {name: await self._connection.js.stream_info(name) for name in sorted(streams)}
        return {name: (info.created, tuple(sorted(info.config.subjects or ()))) for name, info in found.items()}

    def _note_changes(self, found: dict[str, Known]) -> None:
        """Log subjects that a foreign client added to a stream or removed; subjects of ours are assigned again."""
        for name, (made, subjects) in found.items():
            known_made, known = self._known.get(name, (made, subjects))
            if made == known_made and subjects != known:
                extra = {"stream": name, "subjects": list(subjects), "before": list(known)}
                log.warning("stream_changed_by_others", extra=extra)

    def _note(self, kind: ProblemKind, reason: str) -> None:
        problem = PublishProblem(kind, reason)
        if problem != self._problem:
            log.warning("streams_missing", extra={"kind": kind, "reason": reason})
        self._problem = problem


@dataclass(slots=True)
class EventRecovery:
    """Publishes the events of a lost stream again; confirmation requests are repeated under new ids."""

    database: Database
    confirmation_timeout: timedelta
    wake: Callable[[], None]
    """Starts a round of the outbox relay."""
    clock: Callable[[], datetime] = utc_now

    async def streams_made(self, at: datetime) -> None:
        """Publish the lost events again; ``at`` is the creation time of the newest stream. Idempotent."""
        while await self.database.write(lambda c: outbox.send_again(c, SENT_AGAIN, at - KEPT, at, STEP)) == STEP:
            self.wake()
        # The answer may be lost too. The Inventory Service ignores a repeated id, so each request gets a new one.
        due_before = at + self.confirmation_timeout
        asked = await self.database.write(
            lambda c: orders.make_confirmations_due(c, OrderStatus.PLACED, due_before, self.clock())
        )
        if asked:
            log.warning("confirmations_asked_again", extra={"orders": asked})
        self.wake()
