"""In-memory stand-ins that obey the rules of what they stand in for, and fail as they are told to."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from services.clients.inventory.port import Availability, LineAvailability, Reservation
from services.clients.payments import PaymentState
from services.domain.calls import (
    INVALID,
    REJECTED,
    SHORT_CIRCUITED,
    SUCCESS,
    TIMEOUT,
    UNAVAILABLE,
    Attempt,
    Attempted,
    Attempts,
    InventoryCall,
    carry,
)
from services.domain.conservation import StockState
from services.domain.errors import (
    ApiError,
    BusinessError,
    CircuitOpen,
    InsufficientInventory,
    InventoryThrottled,
    InventoryTimeout,
    InventoryUnavailable,
    PaymentOutcomeUnknown,
    ReleaseFailed,
    ReservationFailed,
)
from services.domain.orders import events
from services.domain.orders.model import Line
from services.domain.reconciliation import NO_ANSWER, LookupResult

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

Sku = tuple[str, str]
Hook = Callable[[], Awaitable[Any]]


class FrozenClock:
    """Time that passes only when a test says so."""

    def __init__(self, now: datetime = START) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class SkewedClock(FrozenClock):
    """Another machine's clock: ours, and so much more."""

    def __init__(self, ours: FrozenClock, skew: timedelta) -> None:
        super().__init__()
        self._ours = ours
        self._skew = skew

    def __call__(self) -> datetime:
        return self._ours() + self._skew


class Fault(StrEnum):
    """How the next call of an operation fails; BEFORE: it did not run, AFTER: it ran and the answer was lost."""

    TIMEOUT_BEFORE = "timeout_before"
    TIMEOUT_AFTER = "timeout_after"
    UNAVAILABLE = "unavailable"
    UNAVAILABLE_AFTER = "unavailable_after"
    BUSY = "busy"
    """429 with Retry-After: 600."""
    THROTTLED = "throttled"
    """429 with Retry-After: 600, as the client tells it."""
    CIRCUIT_OPEN = "circuit_open"
    CONFLICT = "conflict"
    """409, whatever there is of the products."""
    REFUSED = "refused"
    """422."""
    PARTIAL = "partial"
    """2xx, but not every line was reserved: what was is held."""
    NONE = "none"
    """No fault: the call in between works."""


class Hooks:
    """What a test does while a call is under way; each hook runs once."""

    def __init__(self) -> None:
        self._before: dict[str, deque[Hook]] = defaultdict(deque)
        self._after: dict[str, deque[Hook]] = defaultdict(deque)
        self._broken: dict[tuple[str, str | None], Exception] = {}

    def break_down(self, operation: str, error: Exception, *, of: str | None = None) -> None:
        """Every call of the operation raises this, for one order or for all, until mend()."""
        self._broken[operation, of] = error

    def mend(self) -> None:
        self._broken.clear()

    def before(self, operation: str, hook: Hook) -> None:
        """Run the hook when the call has left and not arrived."""
        self._before[operation].append(hook)

    def after(self, operation: str, hook: Hook) -> None:
        """Run the hook when the call has had its effect and the answer is on its way."""
        self._after[operation].append(hook)

    async def left(self, operation: str, order_id: str) -> None:
        error = self._broken.get((operation, order_id)) or self._broken.get((operation, None))
        if error is not None:
            raise error
        if self._before[operation]:
            await self._before[operation].popleft()()

    async def had_effect(self, operation: str) -> None:
        if self._after[operation]:
            await self._after[operation].popleft()()


@dataclass
class StockReservation:
    """A reservation and what has become of it."""

    reservation_id: str
    order_id: str
    quantities: dict[Sku, int]
    expires_at: datetime
    state: str = "ACTIVE"
    returned: dict[Sku, int] = field(default_factory=dict)


class InMemoryInventory:
    """InventoryGateway with the reference service's rules, and the service's side of the events.

    Reserve is idempotent by order, all or nothing, refused for tombstoned orders; a release buries
    the order; a confirmation deducts only a hold that still lasts.
    """

    def __init__(self, clock: FrozenClock, *, on_hand: int = 100, ttl_seconds: float = 1800) -> None:
        self.clock = clock
        self.ttl_seconds = ttl_seconds
        self.on_hand: dict[Sku, int] = defaultdict(lambda: on_hand)
        self.reservations: list[StockReservation] = []
        self.tombstones: set[str] = set()
        self.calls: list[tuple[str, str]] = []
        """``(operation, order id)`` of everything that was sent, in order."""
        self.restocked: list[tuple[str, str]] = []
        """``(order id, cause)`` of every restocking; the cause is ``cancel`` or a returnId."""
        self.hooks = Hooks()
        self._faults: dict[str, deque[Fault]] = defaultdict(deque)

    # ------------------------------------------------------------ for tests

    def fail(self, operation: str, *faults: Fault) -> None:
        """The next calls of the operation fail like this, one after another."""
        self._faults[operation].extend(faults)

    def heal(self) -> None:
        """Forget every fault that has not happened yet."""
        self._faults.clear()

    def reserved(self, order_id: str) -> list[StockReservation]:
        """Reservations of the order that keep stock from others now."""
        return [
            reservation
            for reservation in self.reservations
            if reservation.order_id == order_id and self._is_active(reservation)
        ]

    def leaked(self, order_id: str) -> list[StockReservation]:
        """Reservations never given back, even if only their time has ended them."""
        given_back = order_id in self.tombstones
        return [
            reservation
            for reservation in self.reservations
            if reservation.order_id == order_id and reservation.state == "ACTIVE" and not given_back
        ]

    def deducted(self, order_id: str) -> list[StockReservation]:
        return [
            reservation
            for reservation in self.reservations
            if reservation.order_id == order_id and reservation.state == "CONFIRMED"
        ]

    def available(self, sku: Sku) -> int:
        reserved = sum(
            reservation.quantities.get(sku, 0) for reservation in self.reservations if self._is_active(reservation)
        )
        return self.on_hand[sku] - reserved

    def count(self, operation: str) -> int:
        return sum(1 for called, _ in self.calls if called == operation)

    # ---------------------------------------------------------- the gateway

    async def check_availability(self, lines: tuple[Line, ...]) -> Attempted[Availability]:
        return await self._call(InventoryCall.CHECK_AVAILABILITY, "", lambda: self._check(lines), lines)

    async def reserve(self, order_id: str, lines: tuple[Line, ...], user_id: str) -> Attempted[Reservation]:
        return await self._call(InventoryCall.RESERVE, order_id, lambda: self._reserve(order_id, lines), lines)

    async def release(self, order_id: str) -> Attempted[bool]:
        return await self._call(InventoryCall.RELEASE, order_id, lambda: self._release(order_id), ())

    async def _call(self, operation: str, order_id: str, execute: Callable[[], Any], lines: Sequence[Line]) -> Any:
        faults = self._faults[operation]
        fault = faults.popleft() if faults else Fault.NONE
        if fault == Fault.CIRCUIT_OPEN:
            opened = CircuitOpen(f"inventoryService:{operation}", 12.0)
            carry(opened, self._attempts(operation, SHORT_CIRCUITED))
            raise opened
        self.calls.append((operation, order_id))
        await self.hooks.left(operation, order_id)
        try:
            self._fail_before(fault, operation, lines)
            result = execute()
            await self.hooks.had_effect(operation)
            self._fail_after(fault)
        except ApiError as error:
            carry(error, self._attempts(operation, _outcome_of(error, fault)))
            raise
        return result, self._attempts(operation, SUCCESS)

    def _attempts(self, operation: str, outcome: str) -> Attempts:
        return (Attempt(self.clock(), operation, outcome, 0.01),)

    def _fail_before(self, fault: Fault, operation: str, lines: Sequence[Line]) -> None:
        match fault:
            case Fault.TIMEOUT_BEFORE:
                raise InventoryTimeout("The Inventory Service took too long to answer.")
            case Fault.UNAVAILABLE:
                raise InventoryUnavailable("The Inventory Service answered 503.", {"status": 503})
            case Fault.BUSY:
                said = {"status": 429}
                raise InventoryUnavailable("The Inventory Service answered 429.", said, retry_after_seconds=600.0)
            case Fault.THROTTLED:
                message = "The Inventory Service answered 429."
                raise InventoryThrottled(message, {"status": 429}, was_sent=True, retry_after_seconds=600.0)
            case Fault.REFUSED if operation == InventoryCall.RELEASE:
                raise ReleaseFailed("The Inventory Service refused the release (422).", {"status": 422})
            case Fault.REFUSED:
                raise ReservationFailed("The Inventory Service refused the request (422).")
            case Fault.CONFLICT:
                raise InsufficientInventory("Not enough.", {"items": [_short(line, 0) for line in lines]})
            case _:
                return

    def _fail_after(self, fault: Fault) -> None:
        match fault:
            case Fault.TIMEOUT_AFTER:
                raise InventoryTimeout("The Inventory Service took too long to answer.")
            case Fault.UNAVAILABLE_AFTER:
                raise InventoryUnavailable("The Inventory Service cannot be reached.")
            case Fault.PARTIAL:
                raise ReservationFailed("The reservation cannot be relied on: not every line was reserved.")
            case _:
                return

    def _check(self, lines: Sequence[Line]) -> Availability:
        answers = tuple(
            LineAvailability(
                line.product_id,
                line.variant_id,
                self.available(line.sku) >= line.quantity,
                line.quantity,
                self.available(line.sku),
            )
            for line in lines
        )
        return Availability(all(answer.available for answer in answers), answers)

    def _reserve(self, order_id: str, lines: Sequence[Line]) -> Reservation:
        if order_id in self.tombstones:
            raise ReservationFailed("The order was released.", {"reason": "RELEASED"})
        quantities = {line.sku: line.quantity for line in lines}
        living = self._living(order_id)
        if living is not None:
            if living.quantities != quantities:
                raise ReservationFailed("The order holds other lines.", {"reason": "OTHER_LINES"})
            return Reservation(living.reservation_id, living.expires_at)
        short = [_short(line, self.available(line.sku)) for line in lines if self.available(line.sku) < line.quantity]
        if short:
            raise InsufficientInventory("Not enough.", {"items": short})
        expires_at = self.clock() + timedelta(seconds=self.ttl_seconds)
        reservation = StockReservation(f"reservation-{len(self.reservations) + 1}", order_id, quantities, expires_at)
        self.reservations.append(reservation)
        return Reservation(reservation.reservation_id, reservation.expires_at)

    def _release(self, order_id: str) -> bool:
        living = self._living(order_id)
        if living is not None and living.state == "CONFIRMED":
            return False
        self.tombstones.add(order_id)
        if living is None:
            return False
        living.state = "RELEASED"
        return True

    # ----------------------------------------------------------- the events

    def receive(self, event_type: str, data: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        """Handle one event of the order service; returns the events that answer it."""
        match event_type:
            case events.CONFIRM_REQUESTED:
                return [self._confirm(data["orderId"], data["reservationId"])]
            case events.ORDER_CANCELLED:
                self._cancel(data["orderId"])
            case events.ORDER_RETURNED:
                self._take_back(data)
            case _:
                pass
        return []

    def _confirm(self, order_id: str, reservation_id: str) -> tuple[str, dict[str, Any]]:
        answer = {"orderId": order_id, "reservationId": reservation_id}
        reason = self._why_not_confirmed(order_id, reservation_id)
        if reason is not None:
            return events.CONFIRMATION_FAILED, answer | {"reason": reason}
        return events.CONFIRMED, answer

    def _why_not_confirmed(self, order_id: str, reservation_id: str) -> str | None:
        reservation = next(
            (reservation for reservation in self.reservations if reservation.reservation_id == reservation_id), None
        )
        if reservation is None:
            return "RELEASED" if order_id in self.tombstones else "UNKNOWN"
        if reservation.order_id != order_id:
            return "MISMATCH"
        if reservation.state == "CONFIRMED":
            return None
        if reservation.state != "ACTIVE":
            return "RELEASED"
        if not self._is_active(reservation):
            return "RESERVATION_EXPIRED"
        reservation.state = "CONFIRMED"
        for sku, quantity in reservation.quantities.items():
            self.on_hand[sku] -= quantity
        return None

    def _cancel(self, order_id: str) -> None:
        living = self._living(order_id)
        self.tombstones.add(order_id)
        if living is None:
            return
        if living.state == "ACTIVE":
            living.state = "RELEASED"
            return
        living.state = "RESTOCKED"
        for sku, quantity in living.quantities.items():
            self.on_hand[sku] += quantity - living.returned.get(sku, 0)
        self.restocked.append((order_id, "cancel"))

    def _take_back(self, data: dict[str, Any]) -> None:
        cause = (data["orderId"], data["returnId"])
        living = self._living(data["orderId"])
        if living is None or living.state != "CONFIRMED" or cause in self.restocked:
            return
        for item in data["items"]:
            sku = (item["productId"], item["variantId"])
            before = living.returned.get(sku, 0)
            accepted = min(item["quantity"], living.quantities.get(sku, 0) - before)
            living.returned[sku] = before + accepted
            self.on_hand[sku] += accepted if data["restockable"] else 0
        self.restocked.append(cause)

    def _living(self, order_id: str) -> StockReservation | None:
        living = (
            h for h in self.reservations if h.order_id == order_id and (h.state == "CONFIRMED" or self._is_active(h))
        )
        return next(living, None)

    def _is_active(self, reservation: StockReservation) -> bool:
        return reservation.state == "ACTIVE" and reservation.expires_at > self.clock()


def _short(line: Line, available: int) -> dict[str, Any]:
    return {
        "productId": line.product_id,
        "variantId": line.variant_id,
        "requestedQuantity": line.quantity,
        "availableQuantity": available,
    }


def _outcome_of(error: ApiError, fault: Fault) -> str:
    if fault == Fault.PARTIAL:
        return INVALID
    if isinstance(error, InventoryTimeout):
        return TIMEOUT
    return REJECTED if isinstance(error, BusinessError | ReleaseFailed) else UNAVAILABLE


class InMemoryInventoryLookup:
    """InventoryLookup that reads an InMemoryInventory, unless it is away."""

    def __init__(self, inventory: InMemoryInventory) -> None:
        self.inventory = inventory
        self.is_away = False
        self.problem = NO_ANSWER
        self.asked = 0

    async def find(self, order_id: str) -> LookupResult:
        self.asked += 1
        if self.is_away:
            return LookupResult(None, problem=self.problem)
        if self.inventory.reserved(order_id):
            return LookupResult(StockState.RESERVED, "ACTIVE")
        if self.inventory.deducted(order_id):
            return LookupResult(StockState.DEDUCTED, "CONFIRMED")
        return LookupResult(StockState.FREE, "RELEASED")


class PaymentFault(StrEnum):
    """How the next call to the payment gateway ends."""

    DECLINE = "decline"
    LOST_BEFORE = "lost_before"
    """It never arrived."""
    LOST_AFTER = "lost_after"
    """It had its effect and the answer was lost."""
    LATE = "late"
    """No answer, and it has its effect only when the test says ``arrive()``."""
    NONE = "none"


CAPTURE, FIND_PAYMENT, REFUND, VOID = "capture", "find_payment", "refund", "void"


class InMemoryPayments:
    """PaymentGateway that captures and refunds each order once."""

    def __init__(self, clock: FrozenClock) -> None:
        self.clock = clock
        self.states: dict[str, PaymentState] = {}
        self.calls: list[tuple[str, str]] = []
        self.hooks = Hooks()
        self._faults: dict[str, deque[PaymentFault]] = defaultdict(deque)
        self._under_way: list[str] = []
        self.can_void = True

    def fail(self, operation: str, *faults: PaymentFault) -> None:
        """The next calls of the operation end like this, one after another."""
        self._faults[operation].extend(faults)

    def heal(self) -> None:
        self._faults.clear()

    def arrive(self) -> None:
        """Captures that were under way have their effect now."""
        for order_id in self._under_way:
            self.states.setdefault(order_id, PaymentState.CAPTURED)
        self._under_way.clear()

    def count(self, operation: str) -> int:
        return sum(1 for called, _ in self.calls if called == operation)

    async def capture(
        self, order_id: str, user_id: str, lines: tuple[Line, ...], metadata: dict[str, Any]
    ) -> Attempted[PaymentState]:
        def execute(fault: PaymentFault) -> PaymentState:
            first = PaymentState.DECLINED if fault == PaymentFault.DECLINE else PaymentState.CAPTURED
            return self.states.setdefault(order_id, first)

        return await self._call(CAPTURE, order_id, execute)

    async def find(self, order_id: str) -> Attempted[PaymentState]:
        return await self._call(FIND_PAYMENT, order_id, lambda _: self.states.get(order_id, PaymentState.ABSENT))

    async def refund(self, order_id: str) -> Attempted[PaymentState]:
        def execute(_: PaymentFault) -> PaymentState:
            if self.states.get(order_id) == PaymentState.CAPTURED:
                self.states[order_id] = PaymentState.REFUNDED
            return self.states.get(order_id, PaymentState.ABSENT)

        return await self._call(REFUND, order_id, execute)

    async def void(self, order_id: str) -> Attempted[PaymentState]:
        def execute(_: PaymentFault) -> PaymentState:
            if not self.can_void:
                return PaymentState.ABSENT
            return self.states.setdefault(order_id, PaymentState.VOIDED)

        return await self._call(VOID, order_id, execute)

    async def _call(
        self, operation: str, order_id: str, execute: Callable[[PaymentFault], PaymentState]
    ) -> Attempted[PaymentState]:
        self.calls.append((operation, order_id))
        await self.hooks.left(operation, order_id)
        faults = self._faults[operation]
        fault = faults.popleft() if faults else PaymentFault.NONE
        if fault == PaymentFault.LATE:
            self._under_way.append(order_id)
        lost_before = fault in (PaymentFault.LOST_BEFORE, PaymentFault.LATE)
        state = None if lost_before else execute(fault)
        await self.hooks.had_effect(operation)
        if state is None or fault == PaymentFault.LOST_AFTER:
            error = PaymentOutcomeUnknown("The payment gateway did not settle the payment: it took too long to answer.")
            carry(error, (Attempt(self.clock(), operation, TIMEOUT, 0.01),))
            raise error
        return state, (Attempt(self.clock(), operation, SUCCESS, 0.01),)
