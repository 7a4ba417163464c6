"""Checks by a write whether the database is writable: for /readyz, and every second for the worker.

A server that answers reads may be read-only, full or replaced; only a committed write proves that it works.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import datetime

from sqlalchemy.exc import SQLAlchemyError

from services.base.identity import utc_now
from state import replicas
from state.engine.database import Database
from state.engine.transactions import NO_ANSWER, DatabaseClosed, DatabaseOverloaded, DatabaseReplaced, failure_of

logger = logging.getLogger("holdfast.database")

PATIENCE_SECONDS = 2.0
"""How long a small write may take before the database counts as unavailable."""

OUTAGE_SECONDS = 5.0
"""Seconds of consecutive failed writes before the webhook is notified."""

OnOutage = Callable[[str | None], Awaitable[bool]]
"""Gets the reason when the database is unavailable, None when it works again; returns whether it was sent."""


class DatabaseWatch:
    """Writes and deletes a row to check the database, and reports an outage without the use of the database."""

    def __init__(
        self,
        database: Database,
        replica: str,
        on_state: Callable[[bool], None] = lambda _: None,
        on_outage: OnOutage | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        """``on_state`` is called after each check with True while the database is writable."""
        self._database = database
        self._replica = replica
        self._on_state = on_state
        self._on_outage = on_outage
        self._clock = clock
        self._probe: asyncio.Future[str | None] | None = None
        self._failing_since: float | None = None
        self._reported: str | None = None

    async def problem(self) -> str | None:
        """The reason in one sentence why the database is not writable; None when it is writable. Never raises.

        Concurrent callers share one write.
        """
        if self._probe is None or self._probe.done():
            self._probe = asyncio.ensure_future(self._write())
        # Kept in a variable: the first caller to resume may begin the next write before the others read this result.
        probe = self._probe
        done, _ = await asyncio.wait([probe], timeout=PATIENCE_SECONDS)
        found = probe.result() if done else NO_ANSWER.sentence
        self._on_state(found is None)
        return found

    async def look(self) -> bool:
        """One round of a Loop: logs and reports the beginning and the end of an outage."""
        found = await self.problem()
        now = time.monotonic()
        if found is None:
            if self._failing_since is not None:
                logger.warning("database_writable_again", extra={"seconds": round(now - self._failing_since, 1)})
            self._failing_since = None
            if self._reported is not None and await self._report(None):
                self._reported = None
            return False
        if self._failing_since is None:
            self._failing_since = now
            logger.error("database_not_writable", extra={"reason": found})
        if self._reported is None and now - self._failing_since >= OUTAGE_SECONDS and await self._report(found):
            self._reported = found
        return False

    async def _report(self, sentence: str | None) -> bool:
        return await self._on_outage(sentence) if self._on_outage else True

    async def _write(self) -> str | None:
        try:
            await self._database.write(
                lambda connection: replicas.try_writing(connection, self._replica, self._clock())
            )
        except (DatabaseReplaced, DatabaseClosed, DatabaseOverloaded) as error:
            return f"{error}."
        except SQLAlchemyError as error:
            return failure_of(error).sentence
        except Exception as error:
            # A boundary: a readiness check always returns an answer.
            logger.exception("database_not_asked")
            return f"The database could not be asked: {type(error).__name__}."
        return None
