"""Whether the embedded broker, which is up, stores what is published to it.

A stream whose disk was full refuses every publish until its server is started again, while the server answers
everything else, and takes what goes to other streams: only the outcome of real publishing shows it. Worker and
reference Inventory Service tell it, each of the streams that it publishes to.
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
"""Publishing fails for so long, without a break, before the broker counts as broken."""

LONGEST_PATIENCE_SECONDS = 600.0
"""The patience doubles with each verdict, up to this: a restart that does not help is not repeated in haste."""

ROOM_BYTES = 16 * 2**20
ROOM_FILES = 64
"""Free on the file system of the store; with less, no restart helps."""

ANSWER_SECONDS = 2.0
MAX_ANSWER_BYTES = 2**16


class Publishing(Enum):
    """What one client of the broker tells of it."""

    TAKEN = auto()
    """Nothing is refused, or nothing was published lately."""
    REFUSED = auto()
    UNKNOWN = auto()
    """No answer, or no connection: that says nothing of the broker."""


class PublishingVerdict:
    """Decides, from one observation after the other, when a broker that is up is broken."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` in seconds, never set back."""
        self._clock = clock
        self._patience = FIRST_PATIENCE_SECONDS
        self._failing_since: float | None = None
        self._working_since: float | None = None

    def is_working(self, told: Publishing, *, has_room: bool) -> bool:
        """False when it is time to start the broker again."""
        now = self._clock()
        if told is Publishing.UNKNOWN:
            self._failing_since = self._working_since = None
            return True
        if told is Publishing.TAKEN:
            self._note_working(now)
            return True
        self._working_since = None
        if not has_room:
            # The time counts from when there is room: the next attempt to publish may succeed.
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
    """Asks the clients of the broker how publishing goes, and the file system of the store for its room."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._verdict = PublishingVerdict()
        self._questions: list[Callable[[], Publishing]] = []

    def ask_worker(self, api_host: str, api_port: int) -> None:
        """From now on ask the worker, too."""
        self._questions.append(lambda: told_by_worker(answer_of(reachable_host(api_host), api_port, "/readyz")))

    def ask_inventory(self, host: str, port: int) -> None:
        """From now on ask the reference Inventory Service, too."""
        self._questions.append(lambda: told_by_inventory(answer_of(host, port, "/healthz")))

    async def __call__(self) -> bool:
        """Whether the broker works, or nothing says that it does not."""
        # Not on the loop: clients may be slow, and so may a file system.
        told, free = await asyncio.to_thread(self._look)
        return self._verdict.is_working(told, has_room=free)

    def _look(self) -> tuple[Publishing, bool]:
        told = {ask() for ask in self._questions}
        worst = (each for each in (Publishing.REFUSED, Publishing.TAKEN) if each in told)
        return next(worst, Publishing.UNKNOWN), has_room(self._store)


def told_by_worker(answer: Mapping[str, Any] | None) -> Publishing:
    """What ``/readyz`` says; without its database or its connection nothing can be published.

    Events that are not published for another reason than the broker's say nothing of it.
    """
    if answer is None or answer.get("database") is not True or answer.get("nats") is not True:
        return Publishing.UNKNOWN
    is_publishing = answer.get("publishing") is not False and answer.get("streams") is not False
    if is_publishing:
        return Publishing.TAKEN
    return Publishing.REFUSED if answer.get("trouble") == ProblemKind.BROKER else Publishing.UNKNOWN


def told_by_inventory(answer: Mapping[str, Any] | None) -> Publishing:
    """What ``/healthz`` of the reference Inventory Service says."""
    data = answer.get("data") if answer else None
    if not isinstance(data, dict) or data.get("nats") != "connected":
        return Publishing.UNKNOWN
    return Publishing.REFUSED if data.get("publishing") is False else Publishing.TAKEN


def answer_of(host: str, port: int, path: str) -> dict[str, Any] | None:
    """The JSON object that is answered, whatever the status; None when there is none that can be read. Blocks."""
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
    """Whether files of a broker can grow there. Blocks."""
    try:
        found = os.statvfs(place)
    except OSError:
        return False
    # Some file systems (btrfs) do not count files and tell 0.
    has_files = found.f_files == 0 or found.f_favail >= ROOM_FILES
    return found.f_bavail * found.f_frsize >= ROOM_BYTES and has_files
