"""The product's own use cases as values: a run is what it began with and every answer it has heard since.

A coroutine cannot be copied, but its code decides by nothing but those answers and the clock; so
it is brought to any point again by repeating them. What runs here is services.orders itself.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Hashable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from services.clients.inventory.port import Availability, LineAvailability, Reservation
from services.clients.payments import PaymentState
from services.domain.calls import SUCCESS, TIMEOUT, Attempt, Attempted, InventoryCall, RetryPolicy, carry
from services.domain.errors import (
    ApiError,
    InsufficientInventory,
    InventoryTimeout,
    PaymentOutcomeUnknown,
    ReservationFailed,
)
from services.domain.orders.model import Line, Order
from services.messaging.envelope import IncomingEvent
from services.orders.cancellation import OrderCancellation, OrderReturns, ReturnItems
from services.orders.fulfilment import FulfilmentPolicy, OrderFulfilment
from services.orders.inventory_events import InventoryEvents
from services.orders.placement import OrderPlacement
from services.orders.sweeper import OrderSweeper
from services.releases.jobs import ReleaseJobs
from services.reviews.resolution import ReviewResolution
from services.unit_of_work import OrdersContext, Recorded
from tests.model.neighbours import GONE, HELD, SHORT
from tests.model.rows import CANCEL_REASON, LINE, START, Message, RowRules, Rows, Tables, reservation_id

TRANSACTION = "transaction"
CAPTURE, FIND, REFUND, VOID = "capture", "find", "refund", "void"
CALLS = (InventoryCall.CHECK_AVAILABILITY, InventoryCall.RESERVE, InventoryCall.RELEASE, CAPTURE, FIND, REFUND, VOID)

NO_ANSWER = "no answer"
UNUSABLE = "unusable answer"

HOLD = timedelta(hours=1)
Answer = Hashable


class Run(NamedTuple):
    """One use case under way, waiting for the answer to what it asks for."""

    kind: str
    subject: Hashable
    began: int
    """The phase in which it began; it heard each answer in the phase beside it."""
    heard: tuple[tuple[int, Answer], ...] = ()
    waits_for: str = TRANSACTION
    is_overtaken: bool = False
    """It was taken for dead while it was only slow."""
    versions: tuple[int, ...] = ()
    """The versions of the order that it remembers."""

    @property
    def phase(self) -> int:
        """When it heard the last answer: the time at which it asked for what it waits for."""
        return self.heard[-1][0] if self.heard else self.began


@dataclass(frozen=True)
class Raised:
    """A transaction's end by an exception, so that it can be raised again."""

    kind: type[Exception]
    message: str = ""

    def error(self) -> Exception:
        return self.kind(self.message)


def time_of(phase: int) -> datetime:
    """Two phases to a hold's length: its beginning, and ten seconds before its end."""
    return START + HOLD * (phase // 2) + (HOLD - timedelta(seconds=10)) * (phase % 2)


class _Ask:
    """Suspends a run until the search decides on the answer."""

    def __init__(self, request: str | Callable[[Tables], Any]) -> None:
        self.request = request

    def __await__(self) -> Generator[str | Callable[[Tables], Any], Any, Any]:
        return (yield self.request)


class _Database:
    async def write(self, transaction: Callable[[Tables], Any]) -> Any:
        outcome = await _Ask(transaction)
        if isinstance(outcome, Raised):
            raise outcome.error()
        return outcome

    read = write


class _Clock:
    def __init__(self) -> None:
        self.phase = 0

    def __call__(self) -> datetime:
        return time_of(self.phase)


class _Inventory:
    """InventoryGateway with immediate retries, as ResilientInventory makes them, but no breaker."""

    def __init__(self, clock: _Clock, attempts: int) -> None:
        self._clock = clock
        self._attempts = attempts

    async def check_availability(self, lines: tuple[Line, ...]) -> Attempted[Availability]:
        answer, attempts = await self._ask(InventoryCall.CHECK_AVAILABILITY, attempts=1)
        is_available = bool(answer)
        line = LineAvailability(LINE.product_id, LINE.variant_id, is_available, 1, int(is_available))
        return Availability(is_available, (line,)), attempts

    async def reserve(self, order_id: str, lines: tuple[Line, ...], user_id: str) -> Attempted[Reservation]:
        (answer, number, ends), attempts = await self._ask(InventoryCall.RESERVE, self._attempts)
        if answer == HELD:
            return Reservation(reservation_id(number), time_of(ends)), attempts
        error = InsufficientInventory("short") if answer == SHORT else ReservationFailed(answer)
        carry(error, attempts)
        raise error

    async def release(self, order_id: str) -> Attempted[bool]:
        answer, attempts = await self._ask(InventoryCall.RELEASE, attempts=1)
        return bool(answer != GONE), attempts

    async def _ask(self, operation: str, attempts: int) -> Attempted[Any]:
        made: tuple[Attempt, ...] = ()
        for number in range(1, attempts + 1):
            answer = await _Ask(operation)
            outcome = TIMEOUT if answer == NO_ANSWER else SUCCESS
            made += (Attempt(self._clock(), operation, outcome, 0.0, number),)
            if answer != NO_ANSWER:
                return answer, made
        error = InventoryTimeout("no answer")
        carry(error, made)
        raise error


class _Payments:
    async def capture(
        self, order_id: str, user_id: str, lines: tuple[Line, ...], metadata: dict[str, Any]
    ) -> Attempted[PaymentState]:
        return await self._ask(CAPTURE)

    async def find(self, order_id: str) -> Attempted[PaymentState]:
        return await self._ask(FIND)

    async def refund(self, order_id: str) -> Attempted[PaymentState]:
        return await self._ask(REFUND)

    async def void(self, order_id: str) -> Attempted[PaymentState]:
        return await self._ask(VOID)

    async def _ask(self, operation: str) -> Attempted[PaymentState]:
        answer = await _Ask(operation)
        if answer == NO_ANSWER:
            raise PaymentOutcomeUnknown("no answer")
        return PaymentState(answer), ()


@dataclass(frozen=True)
class Attempts:
    """How often the service tries, in all, before it waits or hands over to a person."""

    reserve: int = 1
    """Immediate attempts of one reservation."""
    reservation: int = 2
    payment: int = 2
    release: int = 2
    confirmation: int = 2


Advance = tuple[Rows, tuple[Message, ...], Run | None]
"""Rows and stored events after a transaction, and the run at its next request; None: it ended."""


class OrderService:
    """Steps runs of the real use cases; what a step does depends on its arguments only, and is remembered."""

    def __init__(self, rules: RowRules, attempts: Attempts) -> None:
        self._rules = rules
        self._clock = _Clock()
        database: Any = _Database()
        context = OrdersContext(database, self._clock, lambda: "id", lambda: 0.5)
        inventory = _Inventory(self._clock, attempts.reserve)
        payments = _Payments()
        seconds = timedelta(seconds=60)
        policy = FulfilmentPolicy(seconds, seconds, _policy(attempts.reservation), _policy(attempts.payment))
        fulfilment = OrderFulfilment(context, inventory, payments, policy)
        sweeper = OrderSweeper(context, fulfilment, payments, policy, _policy(2), lambda: None)
        reviews = ReviewResolution(context, fulfilment, inventory, seconds)
        jobs = ReleaseJobs(context, inventory, _policy(attempts.release))
        placement = OrderPlacement(context, fulfilment, seconds)

        async def ask_again(_: Any) -> None:
            # What place() does with the same request, once it has found the refused order.
            order = await placement._try_again("order-1")
            if order is not None:
                await fulfilment.place(order)

        cancellation, returns, inbound = OrderCancellation(context), OrderReturns(context), InventoryEvents(context)
        self._begin: dict[str, Callable[[Any], Coroutine[Any, Any, Any]]] = {
            "place": fulfilment.place,
            "again": ask_again,
            "sweep": sweeper._move_on,
            "release": jobs._attempt,
            "resolve": reviews.resolve,
            "cancel": lambda _: cancellation.cancel("order-1", CANCEL_REASON, actor="customer"),
            "return": lambda _: returns.take_back(ReturnItems("order-1", (LINE,), "DAMAGED"), actor="customer"),
            "event": lambda event: inbound.handle(_incoming(event)),
        }
        self._steps: dict[Any, Any] = {}

    def begin(self, kind: str, subject: Hashable, phase: int) -> Run | None:
        return self._settled(Run(kind, subject, phase))

    def hear(self, run: Run, answer: Answer, phase: int) -> Run | None:
        """The run goes on with an answer; None: it ended."""
        key = (run, answer, phase)
        if key not in self._steps:
            self._steps[key] = self._settled(run._replace(heard=(*run.heard, (phase, answer))))
        return self._steps[key]

    def commit(self, run: Run, rows: Rows, phase: int) -> Advance:
        """The transaction that the run waits for is carried out."""
        key = (run, rows, phase)
        if key not in self._steps:
            self._steps[key] = self._commit(run, Tables(rows, self._rules), rows, phase)
        return self._steps[key]

    def at_once(self, kind: str, subject: Hashable, rows: Rows, phase: int, *, was_handled: bool = False) -> Advance:
        """A use case of transactions only, carried out in one go."""
        key = (kind, subject, rows, phase, was_handled)
        if key not in self._steps:
            self._steps[key] = self._at_once(kind, subject, rows, phase, was_handled)
        return self._steps[key]

    def _at_once(self, kind: str, subject: Hashable, rows: Rows, phase: int, was_handled: bool) -> Advance:
        run = self.begin(kind, subject, phase)
        stored: tuple[Message, ...] = ()
        while run is not None:
            rows, more, run = self._commit(run, Tables(rows, self._rules, was_handled=was_handled), rows, phase)
            stored += more
        return rows, stored, None

    def _commit(self, run: Run, tables: Tables, before: Rows, phase: int) -> Advance:
        coroutine, transaction = self._position(run)
        coroutine.close()
        self._clock.phase = phase
        try:
            outcome = transaction(tables)
        except Exception as error:
            run_after = self.hear(run, Raised(type(error), str(error.args[0]) if error.args else ""), phase)
            return before, (), run_after
        return tables.rows(), tuple(tables.stored), self.hear(run, outcome, phase)

    def _settled(self, run: Run) -> Run | None:
        """The run at its next request."""
        coroutine, request = self._position(run)
        coroutine.close()
        if request is None:
            return None
        waits_for = request if isinstance(request, str) else TRANSACTION
        return run._replace(waits_for=waits_for, versions=tuple(sorted(_versions_in((run.subject, run.heard)))))

    def _position(self, run: Run) -> tuple[Coroutine[Any, Any, Any], Any]:
        """The use case brought to where the run stands, and what it asks for there."""
        self._clock.phase = run.began
        coroutine = self._begin[run.kind](run.subject)
        try:
            request = coroutine.send(None)
            for phase, answer in run.heard:
                self._clock.phase = phase
                request = coroutine.send(answer)
        except (StopIteration, ApiError):
            return coroutine, None
        return coroutine, request


def _policy(attempts: int) -> RetryPolicy:
    return RetryPolicy(attempts, base_delay_seconds=10.0, max_delay_seconds=10.0)


def _incoming(event: Message) -> IncomingEvent:
    data = {"orderId": "order-1", "reservationId": reservation_id(event.reservation), "reason": "RESERVATION_EXPIRED"}
    return IncomingEvent("event-1", event.type, None, data)


def _versions_in(value: Any) -> set[int]:
    if isinstance(value, Order):
        return {value.version}
    if isinstance(value, Recorded):
        return {value.order.version}
    if isinstance(value, tuple):
        return set().union(*(_versions_in(item) for item in value))
    return set()


def renumbered(value: Any, ranks: dict[int, int]) -> Any:
    """The same with other version numbers of the order: only which of them are equal matters."""
    if isinstance(value, Order):
        return replace(value, version=ranks[value.version])
    if isinstance(value, Recorded):
        return replace(value, order=renumbered(value.order, ranks))
    if isinstance(value, Run):
        heard = tuple((phase, renumbered(answer, ranks)) for phase, answer in value.heard)
        versions = tuple(ranks[version] for version in value.versions)
        return value._replace(subject=renumbered(value.subject, ranks), heard=heard, versions=versions)
    if type(value) is tuple:
        return tuple(renumbered(item, ranks) for item in value)
    return value
