"""Whether the database can be written, found out by writing: asked by /readyz, and every second by the worker itself.

A server that answers questions may be read-only, full or replaced; only a committed write shows that it is none of it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import datetime

from sqlalchemy.exc import SQLAlchemyError

from services.base.clock import utc_now
from state import leases
from state.engine.database import Database
from state.engine.failures import NO_ANSWER, failure_of
from state.engine.transactions import DatabaseClosed, DatabaseOverloaded, DatabaseReplaced

logger = logging.getLogger("holdfast.database")

PATIENCE_SECONDS = 2.0
"""How long a small write may take before the database counts as away."""

OUTAGE_SECONDS = 5.0
"""Of failed writes in a row, after which people are told."""

OnOutage = Callable[[str | None], Awaitable[bool]]
"""Is given the sentence while the database is away, None when it is back; returns whether people were told."""


class DatabaseWatch:
    """Writes a row and takes it back to see whether that works, and tells of an outage without the database's help."""

    def __init__(
        self,
        database: Database,
        replica: str,
        on_state: Callable[[bool], None] = lambda _: None,
        on_outage: OnOutage | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        """``on_state`` is told after each look whether the database can be written."""
        self._database = database
        self._replica = replica
        self._on_state = on_state
        self._on_outage = on_outage
        self._clock = clock
        self._probe: asyncio.Future[str | None] | None = None
        self._failing_since: float | None = None
        self._told: str | None = None

    async def problem(self) -> str | None:
        """One sentence about why nothing can be written now; None when it can. Never raises.

        Those who ask at the same time share one write, so that many cost no more than one.
        """
        if self._probe is None or self._probe.done():
            self._probe = asyncio.ensure_future(self._write())
        # Who resumes first may begin the next write before the others have read the answer of this one.
        probe = self._probe
        done, _ = await asyncio.wait([probe], timeout=PATIENCE_SECONDS)
        found = probe.result() if done else NO_ANSWER.sentence
        self._on_state(found is None)
        return found

    async def look(self) -> bool:
        """One round of a Loop: logs the beginning and the end of an outage, and has people told of it."""
        found = await self.problem()
        now = time.monotonic()
        if found is None:
            if self._failing_since is not None:
                logger.warning("database_writable_again", extra={"seconds": round(now - self._failing_since, 1)})
            self._failing_since = None
            if self._told is not None and await self._tell(None):
                self._told = None
            return False
        if self._failing_since is None:
            self._failing_since = now
            logger.error("database_not_writable", extra={"reason": found})
        if self._told is None and now - self._failing_since >= OUTAGE_SECONDS and await self._tell(found):
            self._told = found
        return False

    async def _tell(self, sentence: str | None) -> bool:
        return await self._on_outage(sentence) if self._on_outage else True

    async def _write(self) -> str | None:
        try:
            await self._database.write(lambda connection: leases.try_writing(connection, self._replica, self._clock()))
        except (DatabaseReplaced, DatabaseClosed, DatabaseOverloaded) as error:
            return f"{error}."
        except SQLAlchemyError as error:
            return failure_of(error).sentence
        except Exception as error:
            # A boundary: whoever asks whether the service is ready gets an answer.
            logger.exception("database_not_asked")
            return f"The database could not be asked: {type(error).__name__}."
        return None
