"""Executing what people asked for on the console. Source: console rules 2 and 8."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from services.base.context import correlated
from services.bulk.control import BulkControl
from services.bulk.runner import GateOf
from services.conservation.audit import ConservationAudit
from services.domain.arguments import reading_arguments
from services.domain.bulk import Gate
from services.domain.causes import was_not_sent
from services.domain.commands import OF_ORDERS, TARGETS
from services.domain.conservation import StockState
from services.domain.errors import ApiError, CircuitOpen, ReleaseFailed, ReviewConflict
from services.domain.orders.events import timestamp
from services.domain.roles import ADMIN, OPERATE
from services.orders.cancellation import OrderCancellation
from services.orders.context import OrdersContext, raise_first
from services.releases.jobs import ReleaseJobs
from services.releases.mark_released import MarkReleased, ReleaseByProof
from services.reviews.claims import ReviewClaims
from services.reviews.comparison import Reconciliation, in_words, many_in_words
from services.reviews.resolution import ResolveReview, ReviewResolution
from services.unit_of_work import SYSTEM
from state import audit, commands
from state.audit import AuditEntry
from state.commands import DONE, FAILED, REFUSED, Command

logger = logging.getLogger("holdfast.commands")

CLAIM = timedelta(seconds=60)
"""A worker that has not renewed its claim for so long is taken for dead, and the command is run again."""

AT_ONCE = 8

ATTEMPTS = 4
"""A command that went wrong so often, or took its worker along so often, is not tried again."""

RETRIED_AFTER = timedelta(seconds=5)
"""After the first attempt; four times as long after each further one."""

RENEWED_AFTER_SECONDS = 20.0
"""How often the claim of a running command is renewed."""

QUEUED = "Queued until the breaker closes"
LOOK_AGAIN = timedelta(seconds=5)
"""A command that waits for a breaker is looked at so often at least: a forced state can be ended early."""

LOOK_UP_INVENTORY, LOOK_UP_INVENTORY_MANY = "ask_theirs", "ask_theirs_many"
LOOKUPS = (LOOK_UP_INVENTORY, LOOK_UP_INVENTORY_MANY)

Outcome = dict[str, Any]
"""``{title, detail, code}``: what the console shows."""

Execute = Callable[[Command], Awaitable[Outcome]]
"""Runs one command; raises ApiError when it is refused. Running it twice has one effect."""


class _Queued(Exception):
    """The breaker of the call that a command would make is open: it waits for another turn."""

    def __init__(self, seconds: float, arguments: Mapping[str, Any]) -> None:
        super().__init__("queued")
        self.seconds, self.arguments = seconds, dict(arguments)


class CommandExecutor:
    """Claims stored commands one after another; each can be run twice without a second effect."""

    def __init__(
        self,
        context: OrdersContext,
        cancellation: OrderCancellation,
        reviews: ReviewResolution,
        releases: ReleaseJobs,
        conservation: ConservationAudit,
        proofs: ReleaseByProof,
        bulk_control: BulkControl,
        claims: ReviewClaims,
        reconciliation: Reconciliation,
        more: Mapping[str, Execute] | None = None,
        gate_of: GateOf = lambda _: Gate(),
    ) -> None:
        """``more`` executes kinds of commands that are no business of orders; ``gate_of`` knows the breakers."""
        self._gate_of = gate_of
        self._context = context
        self._cancellation = cancellation
        self._reviews = reviews
        self._releases = releases
        self._conservation = conservation
        self._proofs = proofs
        self._bulk_control = bulk_control
        self._claims = claims
        self._reconciliation = reconciliation
        self._kinds: dict[str, Execute] = {
            "cancel_order": self._cancel_order,
            "resolve_review": self._resolve_review,
            "retry_release": self._retry_release,
            "compensate": self._compensate,
            "claim_review": self._claim_review,
            "release_claim": self._release_claim,
            LOOK_UP_INVENTORY: self._look_up_inventory,
            LOOK_UP_INVENTORY_MANY: self._look_up_inventory_many,
            "mark_released": self._mark_released,
            "steer_operation": self._control_bulk_job,
            **(more or {}),
        }

    async def run_waiting(self) -> bool:
        """One round; returns whether there was anything to do."""
        # Questions wait for another service; what people have decided does not wait for them.
        ran = await asyncio.gather(self._decide(), self._ask(), return_exceptions=True)
        raise_first(ran)
        return any(ran)

    async def _decide(self) -> bool:
        """Run commands one after another, each claimed when its turn comes."""
        for turn in range(AT_ONCE):
            claim = self._context.new_id()
            claimed = await self._claim(claim, 1, never=LOOKUPS)
            if not claimed:
                return turn > 0
            await self._run(claimed[0], claim)
        return True

    async def _ask(self) -> bool:
        """Run questions all at once."""
        claim = self._context.new_id()
        claimed = await self._claim(claim, AT_ONCE, only=LOOKUPS)
        ends = await asyncio.gather(*(self._run(command, claim) for command in claimed), return_exceptions=True)
        raise_first(ends)
        return bool(claimed)

    async def _claim(self, claim: str, limit: int, **kinds: Collection[str]) -> list[Command]:
        now = self._context.clock()
        if not await self._context.database.read(lambda c: commands.any_waiting(c, now, **kinds)):
            return []
        return await self._context.database.write(
            lambda c: commands.claim(c, now, now + CLAIM, limit, by=claim, **kinds)
        )

    async def _run(self, command: Command, claim: str) -> None:
        with correlated(command.command_id):
            try:
                state, outcome = await self._executed(command, claim)
            except _Queued as queued:
                await self._queue(command, claim, queued)
                return
            except Exception as error:
                # A boundary: one command that hits a mistake of ours must not hold up the others, nor run for ever.
                facts = {"command": command.command_id, "kind": command.kind, "attempt": command.attempts}
                logger.warning("command_failed", extra=facts, exc_info=error)
                self._context.failed("commands")
                if command.attempts < ATTEMPTS:
                    await self._try_later(command, claim, error)
                    return
                state, outcome = FAILED, _not_known(f"{type(error).__name__} at the last of {command.attempts} tries")
        await self._finish(command, claim, state, outcome)

    async def _executed(self, command: Command, claim: str) -> tuple[str, Outcome]:
        if command.attempts > ATTEMPTS:
            return FAILED, _not_known(f"the worker ended {ATTEMPTS} times while running it")
        keeping = asyncio.create_task(self._keep(command, claim))
        try:
            return await self._outcome(command)
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)

    async def _keep(self, command: Command, claim: str) -> None:
        """Renew the claim for as long as it is ours."""
        is_ours = True
        while is_ours:
            await asyncio.sleep(RENEWED_AFTER_SECONDS)
            until = self._context.clock() + CLAIM
            try:
                is_ours = await self._context.database.write(
                    lambda c, until=until: commands.keep(c, command.command_id, claim, until)  # type: ignore[misc]
                )
            except Exception as error:  # noqa: BLE001 - a boundary: the next turn may find the database again
                logger.warning("command_claim_not_renewed", extra={"command": command.command_id, "error": repr(error)})

    async def _try_later(self, command: Command, claim: str, error: Exception) -> None:
        until = self._context.clock() + RETRIED_AFTER * 4 ** (command.attempts - 1)
        said = outcome_of("Went wrong, is tried again", type(error).__name__, "INTERNAL_ERROR")
        await self._context.database.write(lambda c: commands.keep(c, command.command_id, claim, until, said))

    async def _finish(self, command: Command, claim: str, state: str, outcome: Outcome) -> None:
        at = self._context.clock()

        def finish(connection: Connection) -> bool:
            if not commands.finish(connection, command.command_id, state, outcome, at, by=claim):
                return False
            if state == FAILED:
                audit.add(connection, _on_record(command, outcome, at, "failed: effect unknown"))
            elif state == REFUSED and not audit.has(connection, command.command_id):
                audit.add(connection, _on_record(command, outcome, at, f"refused: {outcome['code']}"))
            return True

        if not await self._context.database.write(finish):
            logger.warning("command_claim_lost", extra={"command": command.command_id, "dropped": outcome["title"]})

    async def _queue(self, command: Command, claim: str, queued: _Queued) -> None:
        wait = min(max(queued.seconds, 1.0), LOOK_AGAIN.total_seconds())
        until = self._context.clock() + timedelta(seconds=wait)
        said = outcome_of(QUEUED, "It runs by itself when calls may pass again.")
        await self._context.database.write(
            lambda c: commands.postpone(c, command.command_id, claim, until, queued.arguments, said)
        )

    async def _outcome(self, command: Command) -> tuple[str, Outcome]:
        execute = self._kinds.get(command.kind)
        if execute is None:
            return REFUSED, outcome_of(f"Unknown command {command.kind}", code="VALIDATION_ERROR")
        if command.role not in OPERATE:
            return REFUSED, outcome_of(f"Role {command.role} may not do this.", code="FORBIDDEN")
        try:
            return DONE, await execute(command)
        except ApiError as error:
            return REFUSED, outcome_of(error.message, code=error.code)

    async def _cancel_order(self, command: Command) -> Outcome:
        with reading_arguments():
            reason = str(command.arguments["reason"])
        order = await self._cancellation.cancel(command.target_id, reason, actor=command.actor, by_person=True)
        return outcome_of("Cancelled" if order.status == "CANCELLED" else "Cancel recorded, payment is being settled")

    async def _resolve_review(self, command: Command) -> Outcome:
        wanted = _wanted(command)
        gate = self._gate_of(await self._reviews.called_by(wanted.review_id, wanted.action))
        if gate.budget == 0:
            raise _Queued(gate.retry_in_seconds, command.arguments)
        try:
            case = await self._reviews.resolve(wanted)
        except CircuitOpen as error:
            raise _turned_back(command, error.retry_after_seconds) from None
        except ReviewConflict as error:
            if (command.outcome or {}).get("title") != QUEUED or error.details.get("by") != SYSTEM:
                raise
            # It waited for a breaker; so did the service's own retry, which came first.
            return outcome_of("Settled by itself while it was queued")
        if case.state == "OPEN" and was_not_sent(case.detail):
            raise _turned_back(command)
        if case.state == "OPEN":
            return outcome_of("Tried without success, the case stays open", case.detail)
        return outcome_of("Case resolved")

    async def _claim_review(self, command: Command) -> Outcome:
        take_over = bool(command.arguments.get("takeOver")) and command.role == ADMIN
        case = await self._claims.claim(command.target_id, actor=command.actor, take_over=take_over)
        return outcome_of("Case claimed", f"until {timestamp(case.claimed_until)}" if case.claimed_until else None)

    async def _release_claim(self, command: Command) -> Outcome:
        await self._claims.release(command.target_id, actor=command.actor, take_over=command.role == ADMIN)
        return outcome_of("Case handed back")

    async def _look_up_inventory(self, command: Command) -> Outcome:
        if review_id := _optional(command.arguments.get("reviewId")):
            await self._claims.renew(review_id, actor=command.actor)
        answer = await self._reconciliation.look_up(command.target_id, asked_by=command.actor)
        return outcome_of(in_words(answer.result))

    async def _look_up_inventory_many(self, command: Command) -> Outcome:
        with reading_arguments():
            order_ids = [str(order_id) for order_id in command.arguments["orderIds"]]
        return outcome_of(*many_in_words(await self._reconciliation.look_up_many(order_ids, asked_by=command.actor)))

    async def _compensate(self, command: Command) -> Outcome:
        given = command.arguments
        with reading_arguments():
            order_id, kind, reason = str(given["orderId"]), str(given["kind"]), str(given["reason"])
        await self._conservation.compensate(
            order_id, kind, actor=command.actor, reason=reason, action_id=command.command_id
        )
        return outcome_of("Compensation started", "Settled once both sides agree again")

    async def _retry_release(self, command: Command) -> Outcome:
        try:
            await self._releases.retry_now(command.target_id, actor=command.actor, action_id=command.command_id)
        except ReleaseFailed as error:
            if "queuedUntil" not in error.details:
                raise
            return outcome_of(QUEUED, "Nothing was sent yet; the job runs by itself then.")
        return outcome_of("Release confirmed by the Inventory Service")

    async def _mark_released(self, command: Command) -> Outcome:
        given = command.arguments
        with reading_arguments():
            version, proof = int(given["version"]), str(given["proof"])
        wanted = MarkReleased(
            command.target_id, version, proof, command.actor, command.command_id, by_admin=command.role == ADMIN
        )
        stock = await self._proofs.mark_released(wanted)
        if stock == StockState.FREE:
            return outcome_of("Marked released", "The Inventory Service holds nothing for it.")
        return outcome_of("Marked released on the proof alone", "The Inventory Service could not be asked.")

    async def _control_bulk_job(self, command: Command) -> Outcome:
        with reading_arguments():
            move = str(command.arguments["move"])
        operation = await self._bulk_control.apply_control(
            command.target_id, move, actor=command.actor, action_id=command.command_id
        )
        return outcome_of(f"Operation {operation.state.lower()}")


def _wanted(command: Command) -> ResolveReview:
    given = command.arguments
    with reading_arguments():
        turn, version, action = int(given.get("turn", 0)), int(given["version"]), str(given["action"])
    return ResolveReview(
        review_id=command.target_id,
        action=action,
        note=str(given.get("note", "")),
        version=version,
        actor=command.actor,
        action_id=f"{command.command_id}/{turn}" if turn else command.command_id,
        reason=_optional(given.get("reason")),
        by_admin=command.role == ADMIN,
    )


def _turned_back(command: Command, retry_in_seconds: float | None = None) -> _Queued:
    """The breaker opened after the action had begun: its next turn expects the version that this one left."""
    given = command.arguments
    again = {"version": int(given["version"]) + 1, "turn": int(given.get("turn", 0)) + 1}
    return _Queued(retry_in_seconds or 1.0, given | again)


def _not_known(why: str) -> Outcome:
    detail = f"It was given up: {why}. See what became of it before you ask again."
    return outcome_of("Not known whether it took effect", detail, "INTERNAL_ERROR")


def _on_record(command: Command, outcome: Outcome, at: datetime, result: str) -> AuditEntry:
    """The audit entry of what somebody asked for and did not get, or perhaps did not get."""
    of_order = command.kind in OF_ORDERS
    given = command.arguments
    return AuditEntry(
        at=at,
        actor=command.actor,
        action=str(given.get("action") or command.kind).upper(),
        target=f"{TARGETS.get(command.kind, command.kind)}:{command.target_id}"[:128],
        order_id=command.target_id if of_order else given.get("orderId"),
        reason=given.get("reason") or given.get("note"),
        before=None,
        after={"refusal" if result.startswith("refused") else "failure": outcome["title"], "detail": outcome["detail"]},
        result=result[:40],
        action_id=None,
        correlation_id=command.command_id,
    )


def _optional(value: object) -> str | None:
    return str(value) if value else None


def outcome_of(title: str, detail: str | None = None, code: str | None = None) -> Outcome:
    """What the console shows of an executed command."""
    return {"title": title, "detail": detail, "code": code}
