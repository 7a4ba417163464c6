"""Checks that the embedded broker, while it is up, stores published messages.

A stream whose disk was full refuses every publish until its server is restarted. The server answers all other
requests meanwhile, and other streams store messages: only real publishing shows the fault. The worker and the
reference Inventory Service each report the outcome for the streams that they publish to.
"""

from __future__ import annotations

import asyncio
import http.client
import logging
import os
import time
from collections.abc import Callable, Mapping
from enum import Enum, auto
from pathlib import Path
from typing import Any

from services.base.addresses import reachable_host
from services.domain.external import read_json
from services.messaging.outbox_relay import ProblemKind

log = logging.getLogger(__name__)

FIRST_PATIENCE_SECONDS = 10.0
"""How long publishing must fail without interruption before the broker counts as broken."""

LONGEST_PATIENCE_SECONDS = 600.0
"""Upper limit of that time. Each verdict doubles it, so that a restart that does not help is repeated rarely."""

ROOM_BYTES = 16 * 2**20
ROOM_FILES = 64
"""Minimum of free files on the file system of the store; with less, no restart helps."""

ANSWER_SECONDS = 2.0
MAX_ANSWER_BYTES = 2**16


class Publishing(Enum):
    """Outcome of publishing as one client of the broker reports it."""

    TAKEN = auto()
    """The broker refuses no message, or none was published lately."""
    REFUSED = auto()
    UNKNOWN = auto()
    """The client does not answer or is not connected, which does not implicate the broker."""


class PublishingVerdict:
    """Decides from consecutive observations when a running broker is broken."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` returns seconds and is monotonic."""
        self._clock = clock
        self._patience = FIRST_PATIENCE_SECONDS
        self._failing_since: float | None = None
        self._working_since: float | None = None

    def is_working(self, observed: Publishing, *, has_room: bool) -> bool:
        """Return False when the broker must be restarted."""
        now = self._clock()
        if observed is Publishing.UNKNOWN:
            self._failing_since = self._working_since = None
            return True
        if observed is Publishing.TAKEN:
            self._note_working(now)
            return True
        self._working_since = None
        if not has_room:
            # The time starts when the store has room again, because the next attempt to publish may then succeed.
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
    """Checks the outcome of publishing at the clients of the broker, and the free space of the store."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._verdict = PublishingVerdict()
        self._checks: list[Callable[[], Publishing]] = []

    def add_worker(self, api_host: str, api_port: int) -> None:
        """Include the worker from now on."""
        self._checks.append(lambda: worker_publishing(fetch_object(reachable_host(api_host), api_port, "/readyz")))

    def add_inventory(self, host: str, port: int) -> None:
        """Include the reference Inventory Service from now on."""
        self._checks.append(lambda: inventory_publishing(fetch_object(host, port, "/healthz")))

    async def __call__(self) -> bool:
        """Return False when the broker must be restarted; True also when the state is unknown."""
        # In a thread, because clients and the file system may be slow.
        observed, free = await asyncio.to_thread(self._observe)
        return self._verdict.is_working(observed, has_room=free)

    def _observe(self) -> tuple[Publishing, bool]:
        observed = {check() for check in self._checks}
        worst = (each for each in (Publishing.REFUSED, Publishing.TAKEN) if each in observed)
        return next(worst, Publishing.UNKNOWN), has_room(self._store)


def worker_publishing(answer: Mapping[str, Any] | None) -> Publishing:
    """Outcome from ``/readyz``.

    UNKNOWN without database or connection, since nothing can be published then, and when the broker is not the
    reason for unpublished events.
    """
    if answer is None or answer.get("database") is not True or answer.get("nats") is not True:
        return Publishing.UNKNOWN
    is_publishing = answer.get("publishing") is not False and answer.get("streams") is not False
    if is_publishing:
        return Publishing.TAKEN
    return Publishing.REFUSED if answer.get("trouble") == ProblemKind.BROKER else Publishing.UNKNOWN


def inventory_publishing(answer: Mapping[str, Any] | None) -> Publishing:
    """Outcome from ``/healthz`` of the reference Inventory Service."""
    data = answer.get("data") if answer else None
    if not isinstance(data, dict) or data.get("nats") != "connected":
        return Publishing.UNKNOWN
    return Publishing.REFUSED if data.get("publishing") is False else Publishing.TAKEN


def fetch_object(host: str, port: int, path: str) -> dict[str, Any] | None:
    """Return the JSON object of the response, whatever its HTTP status; None when it cannot be read. Blocks."""
    connection = http.client.HTTPConnection(host, port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        answer = read_json(connection.getresponse().read(MAX_ANSWER_BYTES), MAX_ANSWER_BYTES)
    except (OSError, http.client.HTTPException, ValueError) as error:
        log.debug("client_of_broker_not_asked", extra={"port": port, "reason": repr(error)})
        return None
    finally:
        connection.close()
    return answer if isinstance(answer, dict) else None


def has_room(place: Path) -> bool:
    """Whether the files of a broker can grow in the directory. Blocks."""
    try:
        found = os.statvfs(place)
    except OSError:
        return False
    # Some file systems (btrfs) do not count files and report 0.
    has_files = found.f_files == 0 or found.f_favail >= ROOM_FILES
    return found.f_bavail * found.f_frsize >= ROOM_BYTES and has_files
