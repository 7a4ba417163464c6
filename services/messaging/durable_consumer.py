"""Creates a durable consumer at the broker, restores its settings, reports foreign changes, and counts attempts.

Source: contract 5.
"""

from __future__ import annotations

import json
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import nats.errors
from nats.js.api import AckPolicy, ConsumerConfig, ConsumerInfo, DeliverPolicy
from nats.js.errors import APIError, NotFoundError

from services.base.identity import utc_now
from services.domain.calls import Randomness
from services.domain.external import cut_text
from services.messaging.jetstream import OURS, Connection

log = logging.getLogger(__name__)

OWNER = "holdfast-owner"
"""Key in a consumer's metadata: the identity of the database that its messages are applied to."""

SHAPE = "holdfast-shape"
"""Key in a consumer's metadata: the settings that Holdfast gave it. A foreign client changed those that differ."""

NO_SUCH_CONSUMER = 10014
"""Error code of the JetStream API."""

MAX_UNSETTLED = 1000
"""Deliveries that may be in handlers or wait for their retry; at this number the server delivers no more."""

REPORTED_SECONDS = 900.0
"""How long a correction is reported, so that an operator can notice it."""

READ_AGAIN = timedelta(days=7)
"""How long our streams keep a message. The inbox keeps handled events for longer than this."""

DELAYS_SECONDS = (1, 2, 5, 15, 30)
"""Delay before each redelivery, varied by up to a fifth; the last delay repeats."""

Place = tuple[str, int]
"""Incarnation of the stream and sequence number in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerSettings:
    """Which messages a durable consumer delivers, and how often."""

    stream: str
    durable: str
    subjects: Sequence[str]
    owner: str = ""
    """Identity of the database that the messages are applied to."""
    succeeds: str | None = None
    """The earlier name of the durable consumer, whose position it takes over."""
    concurrency: int = 64
    """Messages that one process handles at the same time."""
    attempts: int = 8
    """Failed attempts after which a message becomes a dead letter."""
    ack_wait_seconds: float = 30.0
    delays_seconds: Sequence[float] = DELAYS_SECONDS


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a durable consumer is behind its stream, over all replicas."""

    stream: str
    durable: str
    pending: int
    """Messages not delivered yet."""
    ack_pending: int
    """Delivered and not settled: in handlers, or waiting for their next delivery."""
    redelivered: int
    """Unsettled messages that were delivered more than once."""


class Durable:
    """One durable consumer of one stream, which all replicas of an installation share."""

    def __init__(
        self, connection: Connection, settings: ConsumerSettings, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._connection = connection
        self._stream = settings.stream
        self.name = settings.durable
        self._subjects = sorted(settings.subjects)
        self._owner = settings.owner
        self._succeeds = settings.succeeds
        self._monotonic = monotonic
        self._foreign: str | None = None
        self._reported: dict[str, float] = {}
        """Reported problems, and when each was found last."""
        self._read_up_to: int | None = None
        """At the last check, every message of our subjects up to this sequence number was settled."""
        self._config = ConsumerConfig(
            name=self.name,
            durable_name=self.name,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=settings.ack_wait_seconds,
            max_deliver=-1,
            max_ack_pending=MAX_UNSETTLED,
            filter_subjects=self._subjects,
            # No backoff: it would replace ack_wait and lengthen the delays of PullConsumer.
        )
        self._config = self._config.evolve(metadata={**OURS, OWNER: self._owner, SHAPE: _shape(self._config)})

    @property
    def problem(self) -> str | None:
        """A conflicting user of the consumer or a recent foreign change of its settings; None without either."""
        recent = [reported for reported, at in self._reported.items() if self._monotonic() - at < REPORTED_SECONDS]
        return self._foreign or (recent[-1] if recent else None)

    async def ensure(self) -> None:
        """Create or update the durable consumer; raises NotFoundError when its stream is missing.

        Safe to repeat after a failure at any step: the position is taken over before the earlier consumer is deleted.
        """
        existing = await self._find(self.name)
        before = await self._find(self._succeeds) if self._succeeds is not None else None
        is_ours = before is not None and self._is_predecessor(before)
        if existing is not None:
            self._note_owner(existing)
            await self._bring_up_to_date(existing)
        else:
            await self._add(_begun_after(self._config, before) if before is not None and is_ours else self._config)
        if before is not None and is_ours:
            await self._delete(before.name)
        elif before is not None:
            self._report(
                "consumer_left_alone",
                f"consumer {before.name} has the name of a former consumer of ours and is another's: it was left",
                shape=_shape(before.config),
            )

    async def look(self) -> Lag | None:
        """Correct foreign changes and return the lag of the consumer; None when the server does not answer."""
        if not self._connection.is_connected:
            return None
        try:
            known: ConsumerInfo = await self._connection.js.consumer_info(self._stream, self.name)
            self._note_owner(known)
            if self._foreign is None and self._is_changed(known):
                await self._bring_up_to_date(known)
            elif known.ack_floor is not None:
                self._read_up_to = known.ack_floor.stream_seq
        except (nats.errors.Error, TimeoutError):
            return None
        return Lag(
            self._stream,
            self.name,
            pending=known.num_pending or 0,
            ack_pending=known.num_ack_pending or 0,
            redelivered=known.num_redelivered or 0,
        )

    async def _find(self, name: str) -> ConsumerInfo | None:
        try:
            known: ConsumerInfo = await self._connection.js.consumer_info(self._stream, name)
        except NotFoundError as error:
            if error.err_code == NO_SUCH_CONSUMER:
                return None
            raise
        return known

    async def _bring_up_to_date(self, existing: ConsumerInfo) -> None:
        if self._is_changed(existing):
            problem = f"consumer {self.name} was {self._how_changed(existing)}; it was corrected"
            self._report("consumer_changed_by_others", problem, shape=_shape(existing.config))
            if self._may_have_skipped(existing):
                await self._read_again()
                return
        try:
            await self._add(_begun_as(self._config, existing))
        except NotFoundError:
            raise
        except APIError as error:
            self._report(
                "consumer_not_corrected",
                f"consumer {self.name} is not as it must be and the broker refuses to change it: delete it"
                f" ({cut_text(error.description or str(error.err_code), 128)})",
                shape=_shape(existing.config),
            )
            raise

    def _may_have_skipped(self, changed: ConsumerInfo) -> bool:
        """Whether the changed consumer may have skipped our events, because of its filter or its start position."""
        filtered = _subjects(changed.config)
        is_hiding = bool(filtered) and not set(self._subjects) <= set(filtered)
        return _is_pulled(changed.config) and (is_hiding or not _is_marked(changed.config))

    async def _read_again(self) -> None:
        """Recreate the consumer at the position before the first message that it may have skipped.

        Widening the filter alone would not deliver skipped messages. The inbox detects messages handled before.
        """
        if self._read_up_to is not None:
            begin: dict[str, Any] = {
                "deliver_policy": DeliverPolicy.BY_START_SEQUENCE,
                "opt_start_seq": self._read_up_to + 1,
            }
        else:
            begin = {"deliver_policy": DeliverPolicy.BY_START_TIME, "opt_start_time": utc_now() - READ_AGAIN}
        await self._delete(self.name)
        await self._add(self._config.evolve(**begin))

    async def _add(self, config: ConsumerConfig) -> None:
        await self._connection.js.add_consumer(self._stream, config)

    async def _delete(self, name: str) -> None:
        try:
            await self._connection.js.delete_consumer(self._stream, name)
        except NotFoundError as error:
            # Another replica deleted it first.
            if error.err_code != NO_SUCH_CONSUMER:
                raise

    def _is_predecessor(self, before: ConsumerInfo) -> bool:
        """Whether an earlier version of Holdfast created this consumer; a foreign consumer never qualifies."""
        config = before.config
        is_alike = _is_pulled(config) and _subjects(config) == self._subjects
        return is_alike and (config.metadata or {}).get(OWNER, self._owner) in ("", self._owner)

    def _is_changed(self, known: ConsumerInfo) -> bool:
        """Whether a foreign client changed the settings. Settings of another Holdfast version are no foreign change."""
        given = (known.config.metadata or {}).get(SHAPE, _shape(self._config))
        return not _is_marked(known.config) or _shape(known.config) != given

    def _how_changed(self, known: ConsumerInfo) -> str:
        if not _is_marked(known.config):
            return "made by another program"
        if _subjects(known.config) != self._subjects:
            return f"given other filter subjects ({cut_text(', '.join(_subjects(known.config)) or 'none', 128)})"
        return "given other settings"

    def _note_owner(self, known: ConsumerInfo) -> None:
        owner = (known.config.metadata or {}).get(OWNER)
        is_foreign = owner is not None and owner != self._owner
        problem = f"consumer {self.name} belongs to installation {cut_text(str(owner), 64)}" if is_foreign else None
        if problem and problem != self._foreign:
            log.error("consumer_of_another_installation", extra={"durable": self.name, "owner": str(owner)})
        self._foreign = problem

    def _report(self, event: str, problem: str, **facts: object) -> None:
        is_new = self._monotonic() - self._reported.get(problem, float("-inf")) >= REPORTED_SECONDS
        self._reported.pop(problem, None)
        self._reported[problem] = self._monotonic()
        if is_new:
            log.error(event, extra={"durable": self.name, "stream": self._stream, "reason": problem, **facts})


def _begun_after(config: ConsumerConfig, before: ConsumerInfo) -> ConsumerConfig:
    """The configuration of a consumer that starts after the last message that an earlier one acknowledged."""
    if before.ack_floor is None:
        return config
    first = before.ack_floor.stream_seq + 1
    return config.evolve(deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=first)


def _begun_as(config: ConsumerConfig, existing: ConsumerInfo) -> ConsumerConfig:
    """The configuration to update an existing consumer. The server refuses to change the start position."""
    begun = existing.config
    return config.evolve(
        deliver_policy=begun.deliver_policy, opt_start_seq=begun.opt_start_seq, opt_start_time=begun.opt_start_time
    )


def _is_marked(config: ConsumerConfig) -> bool:
    """Whether Holdfast created the consumer."""
    return OURS.items() <= (config.metadata or {}).items()


def _is_pulled(config: ConsumerConfig) -> bool:
    return config.ack_policy == AckPolicy.EXPLICIT and not config.deliver_subject


def _subjects(config: ConsumerConfig) -> list[str]:
    return sorted(config.filter_subjects or ([config.filter_subject] if config.filter_subject else []))


def _shape(config: ConsumerConfig) -> str:
    """The settings that decide which messages are delivered and how often, as text for comparison."""
    facts = {
        "ack": config.ack_policy,
        "ackWait": float(config.ack_wait or 0),
        "backoff": config.backoff or None,
        "maxDeliver": config.max_deliver,
        "maxUnsettled": config.max_ack_pending,
        "push": config.deliver_subject or None,
        "subjects": _subjects(config),
    }
    return json.dumps(facts)


class Excused:
    """Counts, per message, the deliveries that the database made fail; stores at most MAX_UNSETTLED messages."""

    def __init__(self) -> None:
        self._excused: OrderedDict[Place, int] = OrderedDict()

    def count(self, place: Place) -> int:
        """Return how many deliveries of the message do not count as attempts."""
        return self._excused.get(place, 0)

    def add(self, place: Place) -> None:
        """Record one more delivery that does not count."""
        self._excused[place] = self.count(place) + 1
        self._excused.move_to_end(place)
        if len(self._excused) > MAX_UNSETTLED:
            self._excused.popitem(last=False)

    def forget(self, place: Place) -> None:
        """Drop the count of a message that is settled."""
        self._excused.pop(place, None)


def redelivery_delay_seconds(
    num_delivered: int, randomness: Randomness, delays_seconds: Sequence[float] = DELAYS_SECONDS
) -> float:
    """Seconds until the redelivery after a failed delivery: the planned delay, plus or minus a fifth."""
    planned = delays_seconds[min(num_delivered, len(delays_seconds)) - 1]
    return planned * (0.8 + 0.4 * randomness())
