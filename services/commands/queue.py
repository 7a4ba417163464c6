"""The queue of stored commands: claims, execution, retries, and audit entries of refused commands.

Source: requirements 11.1, rule 2 and 8.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

from sqlalchemy import Connection

from services.base.context import correlated
from services.commands.handlers import HANDLERS, Handler, Postponed
from services.domain.commands import COMMANDS, LOOKUPS, QUEUED, CommandState, Outcome, read_arguments
from services.domain.errors import ApiError
from services.unit_of_work import OrdersContext, raise_first
from services.use_cases import UseCases
from state import audit, commands
from state.audit import AuditEntry
from state.commands import Command

logger = logging.getLogger("holdfast.commands")

CLAIM = timedelta(seconds=60)
"""Duration of a claim. When it expires without renewal, another worker runs the command again."""

COMMANDS_PER_ROUND = 8

ATTEMPTS = 4
"""Number of attempts, each ended by an unexpected error or a crash, after which the command is given up."""

RETRY_DELAY = timedelta(seconds=5)
"""Delay after the first failed attempt; each further failed attempt multiplies it by four."""

CLAIM_RENEWAL_SECONDS = 20.0
"""Interval at which the claim of a running command is renewed."""

BREAKER_POLL = timedelta(seconds=5)
"""Longest delay of a command that waits for a breaker, because an override may end early."""


class CommandExecutor:
    """Executes stored commands. A command that runs twice has no second effect."""

    def __init__(self, context: OrdersContext, use_cases: UseCases, handlers: Mapping[str, Handler] = HANDLERS) -> None:
        self._context = context
        self._use_cases = use_cases
        self._handlers = handlers

    async def run_waiting(self) -> bool:
        """Run one round of waiting commands; returns False when no command waited."""
        # Lookups run concurrently, so that a slow Inventory Service does not delay other commands.
        lookups = self._run_claimed(COMMANDS_PER_ROUND, only=LOOKUPS)
        ran = await asyncio.gather(self._run_in_turn(), lookups, return_exceptions=True)
        raise_first(ran)
        return any(ran)

    async def _run_in_turn(self) -> bool:
        """Run commands one after another; claim each command just before it runs."""
        for turn in range(COMMANDS_PER_ROUND):
            if not await self._run_claimed(1, never=LOOKUPS):
                return turn > 0
        return True

    async def _run_claimed(self, limit: int, **kinds: Collection[str]) -> bool:
        """Claim up to ``limit`` commands and run them concurrently; returns False when no command was claimed."""
        now, claim = self._context.clock(), self._context.new_id()
        if not await self._context.database.read(lambda c: commands.any_waiting(c, now, **kinds)):
            return False
        claimed = await self._context.database.write(
            lambda c: commands.claim(c, now, now + CLAIM, limit, by=claim, **kinds)
        )
        ends = await asyncio.gather(*(self._run(command, claim) for command in claimed), return_exceptions=True)
        raise_first(ends)
        return bool(claimed)

    async def _run(self, command: Command, claim: str) -> None:
        with correlated(command.command_id):
            try:
                state, outcome = await self._execute(command, claim)
            except Postponed as postponed:
                await self._postpone(command, claim, postponed)
                return
            except Exception as error:
                # A boundary: one command with an unexpected error must neither block the others nor run for ever.
                facts = {"command": command.command_id, "kind": command.kind, "attempt": command.attempts}
                logger.warning("command_failed", extra=facts, exc_info=error)
                self._context.failed("commands")
                if command.attempts < ATTEMPTS:
                    await self._retry_later(command, claim, error)
                    return
                state = CommandState.FAILED
                outcome = _effect_unknown(f"{type(error).__name__} at the last of {command.attempts} tries")
        await self._finish(command, claim, state, outcome)

    async def _execute(self, command: Command, claim: str) -> tuple[CommandState, Outcome]:
        """Run the handler of a permitted command, under a claim that is renewed meanwhile."""
        if command.attempts > ATTEMPTS:
            return CommandState.FAILED, _effect_unknown(f"the worker ended {ATTEMPTS} times while running it")
        definition, handler = COMMANDS.get(command.kind), self._handlers.get(command.kind)
        if definition is None or handler is None:
            return CommandState.REFUSED, Outcome(f"Unknown command {command.kind}", code="VALIDATION_ERROR")
        if command.role not in definition.roles:
            return CommandState.REFUSED, Outcome(f"Role {command.role} may not do this.", code="FORBIDDEN")
        renewal = asyncio.create_task(self._renew_claim(command, claim))
        try:
            arguments = read_arguments(definition, command.arguments)
            return CommandState.DONE, await handler(self._use_cases, command, arguments)
        except ApiError as error:
            return CommandState.REFUSED, Outcome(error.message, code=error.code)
        finally:
            renewal.cancel()
            await asyncio.gather(renewal, return_exceptions=True)

    async def _renew_claim(self, command: Command, claim: str) -> None:
        """Renew the claim until another worker has taken it."""
        is_ours = True
        while is_ours:
            await asyncio.sleep(CLAIM_RENEWAL_SECONDS)
            until = self._context.clock() + CLAIM
            try:
                is_ours = await self._context.database.write(
                    lambda c, until=until: commands.keep(c, command.command_id, claim, until)  # type: ignore[misc]
                )
            except Exception as error:  # noqa: BLE001 - a boundary: the next renewal may succeed
                logger.warning("command_claim_not_renewed", extra={"command": command.command_id, "error": repr(error)})

    async def _retry_later(self, command: Command, claim: str, error: Exception) -> None:
        until = self._context.clock() + RETRY_DELAY * 4 ** (command.attempts - 1)
        outcome = Outcome("Went wrong, is tried again", type(error).__name__, "INTERNAL_ERROR")
        await self._context.database.write(lambda c: commands.keep(c, command.command_id, claim, until, outcome))

    async def _postpone(self, command: Command, claim: str, postponed: Postponed) -> None:
        wait = min(max(postponed.seconds, 1.0), BREAKER_POLL.total_seconds())
        until = self._context.clock() + timedelta(seconds=wait)
        outcome = Outcome("Queued until the breaker closes", "It runs by itself when calls may pass again.", QUEUED)
        await self._context.database.write(
            lambda c: commands.postpone(c, command.command_id, claim, until, postponed.arguments, outcome)
        )

    async def _finish(self, command: Command, claim: str, state: CommandState, outcome: Outcome) -> None:
        at = self._context.clock()

        def finish(connection: Connection) -> bool:
            if not commands.finish(connection, command.command_id, state, outcome, at, by=claim):
                return False
            if state == CommandState.FAILED:
                audit.add(connection, _audit_entry(command, outcome, at, "failure", "failed: effect unknown"))
            elif state == CommandState.REFUSED and not audit.has(connection, command.command_id):
                audit.add(connection, _audit_entry(command, outcome, at, "refusal", f"refused: {outcome.code}"))
            return True

        if not await self._context.database.write(finish):
            logger.warning("command_claim_lost", extra={"command": command.command_id, "dropped": outcome.title})


def _effect_unknown(why: str) -> Outcome:
    detail = f"It was given up: {why}. See what became of it before you ask again."
    return Outcome("Not known whether it took effect", detail, "INTERNAL_ERROR")


def _audit_entry(command: Command, outcome: Outcome, at: datetime, title_key: str, result: str) -> AuditEntry:
    """The audit entry of a command that was refused or whose effect is unknown."""
    given, definition = command.arguments, COMMANDS.get(command.kind)
    is_named_by_order = definition is not None and definition.is_named_by_order
    return AuditEntry(
        at=at,
        actor=command.actor,
        action=str(given.get("action") or command.kind).upper(),
        target=f"{definition.target if definition else command.kind}:{command.target_id}"[:128],
        order_id=command.target_id if is_named_by_order else given.get("orderId"),
        reason=given.get("reason") or given.get("note"),
        after={title_key: outcome.title, "detail": outcome.detail},
        result=result[:40],
        correlation_id=command.command_id,
    )
