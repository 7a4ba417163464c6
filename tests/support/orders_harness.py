"""The order use cases wired over a real database, with the clock, the other services and chance in a test's hands."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import orjson
from sqlalchemy import Connection, select

from services.alerting.actions import AlertActions
from services.base.settings import Settings
from services.breakers.overrides import BreakerOverrides
from services.bulk.actions import item_actions
from services.bulk.control import BulkControl
from services.bulk.runner import BulkRunner, breaker_gate, paced_gate
from services.clients.inventory.pacing import Pacer
from services.clients.inventory.port import InventoryGateway
from services.clients.inventory.resilient import InventoryBreakers, ResilientInventory, inventory_breakers
from services.commands.handlers import HANDLERS, Handler
from services.commands.queue import CommandExecutor
from services.conservation.audit import ConservationAudit
from services.domain.calls import InventoryCall, RetryPolicy
from services.domain.commands import COMMANDS, CommandState, Outcome, read_arguments
from services.domain.errors import ApiError
from services.domain.orders.changes import TimelineEntry
from services.domain.orders.model import Line, Order
from services.messaging.dead_letters import DeadLetters, UndeliverableEvents
from services.messaging.envelope import IncomingEvent
from services.orders.cancellation import OrderCancellation, OrderReturns, ReturnItems
from services.orders.fulfilment import FulfilmentPolicy, OrderFulfilment
from services.orders.inventory_events import InventoryEvents
from services.orders.placement import OrderPlacement, PlaceOrder
from services.orders.sweeper import OrderSweeper
from services.releases.jobs import ReleaseJobs
from services.releases.mark_released import ReleaseByProof
from services.reviews.cases import ResolveReview, ReviewClaims
from services.reviews.comparison import Reconciliation
from services.reviews.resolution import ReviewResolution
from services.unit_of_work import OrdersContext, Recorded
from services.use_cases import UseCases
from state import audit, order_search, orders, outbox, releases, reviews, tables
from state.audit import AuditEntry
from state.commands import Command
from state.commands import get as get_command
from state.commands import store as store_command
from state.engine.database import Database, Transaction, opened
from state.order_search import OrderQuery
from state.releases import Release
from state.reviews import Review
from tests.support.fakes import FrozenClock, InMemoryInventory, InMemoryInventoryLookup, InMemoryPayments

T = TypeVar("T")

LINES = (Line("chair", "oak", 2), Line("lamp", "brass", 1))

POLICY = FulfilmentPolicy(
    step_deadline=timedelta(seconds=60),
    confirmation_timeout=timedelta(seconds=300),
    reservation_retry=RetryPolicy(attempts=7, base_delay_seconds=30, max_delay_seconds=900),
    payment_retry=RetryPolicy(attempts=8, base_delay_seconds=5, max_delay_seconds=300),
)
RELEASE_RETRY = RetryPolicy(attempts=8, base_delay_seconds=1, max_delay_seconds=900)
REFUND_RETRY = RetryPolicy(attempts=12, base_delay_seconds=2, max_delay_seconds=300)


class Crash(BaseException):
    """The process ended here: nothing after this line ran, no handler of exceptions either."""


class CrashingDatabase:
    """A Database whose process can die just before or just after one of its commits."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.commits = 0
        """Transactions committed so far."""
        self._dies_at: tuple[int, bool] | None = None
        self._refuses: Exception | None = None

    def die_at(self, commit: int, *, after: bool) -> None:
        """Die at the given coming commit, 1 being the next one: before it or after it."""
        self._dies_at = (self.commits + commit, after)

    def refuse(self, error: Exception) -> None:
        """Every write raises this until survive()."""
        self._refuses = error

    def survive(self) -> None:
        self._dies_at = self._refuses = None

    async def write(self, transaction: Transaction[T]) -> T:
        if self._refuses is not None:
            raise self._refuses
        if self._dies_at is not None and self.commits + 1 >= self._dies_at[0]:
            if self._dies_at[1] and self.commits + 1 == self._dies_at[0]:
                await self._database.write(transaction)
                self.commits += 1
            # A dead process writes nothing more.
            raise Crash
        result = await self._database.write(transaction)
        self.commits += 1
        return result

    async def read(self, transaction: Transaction[T]) -> T:
        return await self._database.read(transaction)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)


@dataclass(frozen=True)
class Sent:
    """One event in the outbox."""

    event_id: str
    type: str
    order_id: str
    envelope: dict[str, Any]

    @property
    def data(self) -> dict[str, Any]:
        data: dict[str, Any] = self.envelope["data"]
        return data


class OrdersHarness:
    """Everything that a worker composes, without sockets, loops and real time."""

    def __init__(self, url: str, *, resilient: bool = False) -> None:
        self.clock = FrozenClock()
        self.inventory = InMemoryInventory(self.clock)
        self.payments = InMemoryPayments(self.clock)
        self.lookup = InMemoryInventoryLookup(self.inventory)
        self.real_database = Database(url)
        self.database: Any = CrashingDatabase(self.real_database)
        self.recorded: list[Recorded] = []
        self.release_outcomes: list[str] = []
        self.breaker_retry_in_seconds: float | None = None
        self.breakers: InventoryBreakers = inventory_breakers(Settings(), clock=self.clock)
        self._resilient = resilient
        self.pacer = Pacer(self.monotonic)
        self._ids = count(1)
        self._passed_seconds, self._last_look = 0.0, self.clock()
        self.start()

    def new_id(self) -> str:
        return f"id-{next(self._ids):04}"

    def monotonic(self) -> float:
        """Seconds that have passed; a clock that is set back takes none away."""
        passed = (self.clock() - self._last_look).total_seconds()
        self._passed_seconds, self._last_look = self._passed_seconds + max(0.0, passed), self.clock()
        return self._passed_seconds

    def start(self) -> None:
        """Build the use cases; called again, it is a new process over the same database."""
        self.database.survive()
        gateway = self._gateway()
        self.context = OrdersContext(self.database, self.clock, self.new_id, lambda: 0.5, [self.recorded.append])
        self.fulfilment = OrderFulfilment(self.context, gateway, self.payments, POLICY)
        self.placement = self.placement_over(self.context)
        self.cancellation = OrderCancellation(self.context)
        self.returns = OrderReturns(self.context)
        gate_of = breaker_gate(self.breakers)
        self.reconciliation = Reconciliation(
            self.context, self.lookup, gate=lambda: gate_of(InventoryCall.CHECK_AVAILABILITY)
        )
        self.claims = ReviewClaims(self.context)
        self.reviews = ReviewResolution(
            self.context, self.fulfilment, gateway, POLICY.confirmation_timeout, self.reconciliation
        )
        self.releases = ReleaseJobs(self.context, gateway, RELEASE_RETRY, self.release_outcomes.append)
        self.sweeper = OrderSweeper(
            self.context, self.fulfilment, self.payments, POLICY, REFUND_RETRY, lambda: self.breaker_retry_in_seconds
        )
        self.inbound = InventoryEvents(self.context)
        self.conservation = ConservationAudit(self.context, self.lookup, self.payments)
        self.proofs = ReleaseByProof(self.context, self.reconciliation)
        self.bulk_control = BulkControl(self.context)
        self.dead_letters = DeadLetters(self.database, self.clock, self.new_id, self.inbound.handle)
        self.commands = self.executor()
        self.bulk_jobs = self.bulk_runner("runner-1")

    def placement_over(self, context: OrdersContext) -> OrderPlacement:
        """Places orders in another context over the same services."""
        fulfilment = OrderFulfilment(context, self._gateway(), self.payments, POLICY)
        return OrderPlacement(context, fulfilment, POLICY.step_deadline, patience=timedelta(seconds=0.2))

    def use_cases(self, **given: Any) -> UseCases:
        """The use cases of the shop; those ``given`` stand in for its own."""
        own = {
            "placement": self.placement,
            "cancellation": self.cancellation,
            "returns": self.returns,
            "reviews": self.reviews,
            "claims": self.claims,
            "reconciliation": self.reconciliation,
            "releases": self.releases,
            "proofs": self.proofs,
            "conservation": self.conservation,
            "bulk_control": self.bulk_control,
            "dead_letters": self.dead_letters,
            "undeliverable": UndeliverableEvents(self.database, self.clock),
            "overrides": BreakerOverrides(self.database, self.clock, self.breakers),
            "alerts": AlertActions(self.database, self.clock, self.new_id),
            "gate_of": breaker_gate(self.breakers),
        }
        return UseCases(**(own | given))

    def executor(self, handlers: Mapping[str, Handler] | None = None, **use_cases: Any) -> CommandExecutor:
        """Executes commands; ``handlers`` stand in for those of the product, ``use_cases`` for those of the shop."""
        return CommandExecutor(self.context, self.use_cases(**use_cases), {**HANDLERS, **(handlers or {})})

    async def run_handler(self, command: Command) -> Outcome:
        """Run the handler of a command again, as a worker does after a crash."""
        definition = COMMANDS[command.kind]
        use_cases = self.commands._use_cases
        return await HANDLERS[command.kind](use_cases, command, read_arguments(definition, command.arguments))

    def bulk_runner(self, name: str) -> BulkRunner:
        """The runner of a replica of that name; all share the database, the breakers and the other services."""
        actions = item_actions(self.releases, self.proofs, self.reviews, self.dead_letters)
        gate = paced_gate(breaker_gate(self.breakers), lambda: self.pacer.closed_seconds)
        return BulkRunner(self.context, actions, gate, POLICY.confirmation_timeout, name, monotonic=self.monotonic)

    def _gateway(self) -> InventoryGateway:
        if not self._resilient:
            return self.inventory
        return ResilientInventory(
            self.inventory, self.breakers, Settings().immediate_retry, self.clock, sleep=self._sleep, pacer=self.pacer
        )

    async def _sleep(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def close(self) -> None:
        self.real_database.close()

    # ------------------------------------------------------------- use cases

    async def place(self, **given: Any) -> Order:
        """Place an order of LINES by user-1, or as given."""
        command = {"user_id": "user-1", "lines": LINES, **given}
        return await self.placement.place(PlaceOrder(**command))

    async def place_high(self, **given: Any) -> Order:
        return await self.place(customer_priority="high", **given)

    async def place_confirmed(self, **given: Any) -> Order:
        """An order whose stock the Inventory Service has deducted."""
        order = await self.place(**given)
        await self.pump()
        return await self.order(order.order_id)

    async def cancel(self, order_id: str, reason: str = "CUSTOMER_CANCELLED", **more: Any) -> Order:
        return await self.cancellation.cancel(order_id, reason, **({"actor": "customer"} | more))

    async def take_back(self, order_id: str, *lines: Line, **more: Any) -> tuple[Order, str]:
        command = {"order_id": order_id, "lines": lines or LINES, "reason": "DAMAGED", **more}
        return await self.returns.take_back(ReturnItems(**command), actor="customer")

    async def resolve(self, review: Review, action: str, **given: Any) -> Review:
        command = {"review_id": review.review_id, "action": action, "note": "seen", "version": review.version}
        return await self.reviews.resolve(ResolveReview(**(command | {"actor": "ada"} | given)))

    async def deliver(
        self, event_type: str, order: Order, *, event_id: str | None = None, at: Any = None, **data: Any
    ) -> str:
        """Hand over an inventory event about an order; the reservation is the order's unless given."""
        body = {"orderId": order.order_id, "reservationId": order.reservation_id, **data}
        return await self.deliver_raw(event_type, body, event_id=event_id, at=at)

    async def deliver_raw(
        self, event_type: str, data: dict[str, Any], *, event_id: str | None = None, at: Any = None
    ) -> str:
        return await self.inbound.handle(IncomingEvent(event_id or self.new_id(), event_type, at, data))

    async def command(self, kind: str, target_id: str, command_id: str | None = None, /, **arguments: Any) -> str:
        """Store a console command; returns its id."""
        stored = Command(
            command_id or self.new_id(), kind, target_id, arguments, "ada", CommandState.STORED, self.clock()
        )
        return await self.store(stored)

    async def store(self, stored: Command) -> str:
        """Store a command as it is; returns its id."""
        await self.real_database.write(lambda connection: store_command(connection, stored))
        return stored.command_id

    async def stored_command(self, command_id: str) -> Command:
        """The command as it stands now."""
        command = await self.real_database.read(lambda connection: get_command(connection, command_id))
        assert command is not None
        return command

    # ----------------------------------------------------- time and workers

    async def sweep(self) -> int:
        """One round of the sweeper."""
        return await self.sweeper.run_due()

    async def sweep_when_due(self, order_id: str) -> Order:
        """Let time pass until the order is due, and sweep."""
        order = await self.order(order_id)
        assert order.due_at is not None, f"nothing is due: {order}"
        self.clock.now = max(self.clock.now, order.due_at)
        await self.sweep()
        return await self.order(order_id)

    async def pump(self) -> list[tuple[str, dict[str, Any]]]:
        """Publish the outbox to the Inventory Service and deliver its answers; returns the answers."""
        answers = self.publish(await self.take_outbox())
        for event_type, data in answers:
            await self.deliver_raw(event_type, data)
        return answers

    async def take_outbox(self) -> list[Sent]:
        """Claim every unpublished event and mark it published."""
        now = self.clock()
        rows = await self.real_database.write(lambda c: outbox.settle_and_claim(c, [], [], 1000, now))
        ids = [row.id for row in rows]
        await self.real_database.write(lambda c: outbox.settle_and_claim(c, ids, [], 0, now))
        return [Sent(row.event_id, row.subject, row.order_id, orjson.loads(row.payload)) for row in rows]

    def publish(self, sent: list[Sent]) -> list[tuple[str, dict[str, Any]]]:
        answers: list[tuple[str, dict[str, Any]]] = []
        for one in sent:
            answers += self.inventory.receive(one.type, one.data)
        return answers

    async def quiesce(self, *, rounds: int = 300) -> None:
        """Let everything that waits happen, time passing as it must, until nothing is due any more."""
        for _ in range(rounds):
            await self.pump()
            while await self.releases.run_due() or await self.sweep():
                await self.pump()
            due = await self._next_due()
            if due is None:
                return
            self.clock.now = max(self.clock.now, due)
        raise AssertionError("the orders never came to rest")

    async def _next_due(self) -> Any:
        def read(connection: Connection) -> list[Any]:
            jobs = select(tables.releases.c.next_attempt_at).where(tables.releases.c.state == "PENDING")
            waiting = select(tables.orders.c.due_at).where(tables.orders.c.due_at.is_not(None))
            return [*connection.scalars(jobs), *connection.scalars(waiting)]

        return min(await self.real_database.read(read), default=None)

    async def crash(self, commit: int, run: Callable[[], Awaitable[Any]], *, after: bool = True) -> bool:
        """Run until the process dies at the given commit, then start a new one; False when it did not come to that."""
        self.database.die_at(commit, after=after)
        died = False
        with suppress(ApiError):
            try:
                await run()
            except Crash:
                died = True
        self.start()
        return died

    # ---------------------------------------------------------------- looking

    async def order(self, order_id: str) -> Order:
        return await self.context.get(order_id)

    async def timeline(self, order_id: str) -> list[TimelineEntry]:
        return await self.real_database.read(lambda c: orders.timeline(c, order_id))

    async def titles(self, order_id: str) -> list[str]:
        return [entry.title for entry in await self.timeline(order_id)]

    async def cases(self, order_id: str) -> list[Review]:
        return (await self.real_database.read(lambda c: reviews.of_orders(c, [order_id])))[order_id]

    async def open_case(self, order_id: str, reason: str | None = None) -> Review:
        """The one open case of the order."""
        found = [case for case in await self.cases(order_id) if case.state == "OPEN" and reason in (None, case.reason)]
        (case,) = found
        return case

    async def open_reasons(self, order_id: str) -> list[str]:
        return [case.reason for case in await self.cases(order_id) if case.state == "OPEN"]

    async def release(self, order_id: str) -> Release | None:
        return await self.real_database.read(lambda c: releases.get(c, order_id))

    async def sent(self, order_id: str | None = None) -> list[Sent]:
        """Every event stored so far, published or not."""
        table = tables.outbox
        statement = select(table.c.event_id, table.c.subject, table.c.order_id, table.c.payload).order_by(table.c.id)
        rows = await self.real_database.read(lambda c: c.execute(statement).all())
        found = [Sent(event_id, subject, oid, orjson.loads(payload)) for event_id, subject, oid, payload in rows]
        return [one for one in found if order_id in (None, one.order_id)]

    async def sent_types(self, order_id: str | None = None) -> list[str]:
        return [one.type for one in await self.sent(order_id)]

    async def audit(self) -> list[AuditEntry]:
        """Oldest first."""
        return list(reversed(await self.real_database.read(audit.page)))

    async def all_orders(self) -> list[Order]:
        found = await self.real_database.read(lambda c: order_search.find(c, OrderQuery(), limit=200))
        return list(found.orders)

    async def everything(self) -> dict[str, list[Any]]:
        """Every row of every table, to show that nothing was written."""

        def read(connection: Connection) -> dict[str, list[Any]]:
            return {table.name: list(connection.execute(select(table))) for table in tables.metadata.sorted_tables}

        return await self.real_database.read(read)

    @property
    def became(self) -> list[str]:
        """The statuses that the metrics were told of."""
        return [status for recorded in self.recorded for status in recorded.became]

    @property
    def called(self) -> list[str]:
        """Operations of other services, inventory and payments apart."""
        return [name for name, _ in self.inventory.calls] + [name for name, _ in self.payments.calls]


class SqliteTemplate:
    """A database file that is filled once and copied for each test."""

    def __init__(self, path: Path, fill: Callable[[Database], object]) -> None:
        self._path = path
        with opened(f"sqlite:///{path}") as database:
            fill(database)

    def copy_to(self, path: Path) -> str:
        """The URL of a fresh copy."""
        shutil.copyfile(self._path, path)
        return f"sqlite:///{path}"
