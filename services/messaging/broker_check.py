"""Whether the embedded broker, which is up, stores what the worker publishes.

A stream whose disk was full refuses every publish until its server is started again, while the server answers
everything else: only the outcome of real publishing, which ``/readyz`` of the worker tells, shows it.
"""

from __future__ import annotations

import asyncio
import http.client
import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from services.addresses import reachable_host
from services.domain.external import read_json

log = logging.getLogger(__name__)

FIRST_PATIENCE_SECONDS = 10.0
"""Publishing fails for so long, without a break, before the broker counts as broken."""

LONGEST_PATIENCE_SECONDS = 600.0
"""The patience doubles with each verdict, up to this: a restart that does not help is not repeated in haste."""

ROOM_BYTES = 16 * 2**20
ROOM_FILES = 64
"""Free on the file system of the store; with less, no restart helps."""

ANSWER_SECONDS = 2.0
MAX_ANSWER_BYTES = 2**16


class PublishingVerdict:
    """Decides, from one observation after the other, when a broker that is up is broken."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` in seconds, never set back."""
        self._clock = clock
        self._patience = FIRST_PATIENCE_SECONDS
        self._failing_since: float | None = None
        self._working_since: float | None = None

    def is_working(self, readiness: Mapping[str, Any] | None, *, has_room: bool) -> bool:
        """False when it is time to start the broker again.

        ``readiness``: the parts of ``/readyz``; None when the worker did not tell, which says nothing of the broker.
        """
        now = self._clock()
        if readiness is None or not _is_connected(readiness):
            self._failing_since = self._working_since = None
            return True
        if not _is_refused(readiness):
            self._note_working(now)
            return True
        self._working_since = None
        if not has_room:
            # The time counts from when there is room: the worker's next attempt may succeed.
            self._failing_since = None
            return True
        if self._failing_since is None:
            self._failing_since = now
        if now - self._failing_since < self._patience:
            return True
        self._failing_since = None
        self._patience = min(2 * self._patience, LONGEST_PATIENCE_SECONDS)
        return False

    def _note_working(self, now: float) -> None:
        self._failing_since = None
        if self._working_since is None:
            self._working_since = now
        if now - self._working_since >= self._patience:
            self._patience = FIRST_PATIENCE_SECONDS


class BrokerCheck:
    """Asks the worker how publishing goes, and the file system of the store for its room."""

    def __init__(self, store: Path, api_host: str, api_port: int) -> None:
        self._store = store
        self._address = (reachable_host(api_host), api_port)
        self._verdict = PublishingVerdict()

    async def __call__(self) -> bool:
        """Whether the broker works, or nothing says that it does not."""
        # Not on the loop: the worker may be slow, and so may a file system.
        readiness, free = await asyncio.to_thread(lambda: (readiness_at(*self._address), has_room(self._store)))
        return self._verdict.is_working(readiness, has_room=free)


def readiness_at(host: str, port: int) -> dict[str, Any] | None:
    """The answer of ``/readyz``, ready or not; None when there is none that can be read. Blocks."""
    connection = http.client.HTTPConnection(host, port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", "/readyz", headers={"Connection": "close"})
        answer = read_json(connection.getresponse().read(MAX_ANSWER_BYTES), MAX_ANSWER_BYTES)
    except (OSError, http.client.HTTPException, ValueError) as error:
        log.debug("worker_not_asked", extra={"reason": repr(error)})
        return None
    finally:
        connection.close()
    return answer if isinstance(answer, dict) else None


def has_room(place: Path) -> bool:
    """Whether files of a broker can grow there. Blocks."""
    try:
        found = os.statvfs(place)
    except OSError:
        return False
    # Some file systems (btrfs) do not count files and tell 0.
    has_files = found.f_files == 0 or found.f_favail >= ROOM_FILES
    return found.f_bavail * found.f_frsize >= ROOM_BYTES and has_files


def _is_connected(readiness: Mapping[str, Any]) -> bool:
    """Whether the worker has what it needs to publish: what fails without it is not the broker's fault."""
    return readiness.get("database") is True and readiness.get("nats") is True


def _is_refused(readiness: Mapping[str, Any]) -> bool:
    return readiness.get("publishing") is False or readiness.get("streams") is False
