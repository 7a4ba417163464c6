"""Undo: withdraws a delayed command before a worker runs it.

Source: requirements 11.1, rule 7 and 9.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection

from services.console.access import Access
from services.domain.commands import COMMANDS, CommandState, Outcome
from services.unit_of_work import action_entry
from state import audit, commands, orders, reviews
from state.audit import AuditEntry
from state.commands import Command


class Undo:
    """Undo of delayed commands; ``console().undo``."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def withdraw(self, command: Command, *, actor: str) -> bool:
        """Withdraw a delayed command; False when a worker has run it. Raises SourceUnavailable, NotPermitted."""

        def take(connection: Connection) -> bool:
            at = self._access.now()
            outcome = Outcome(f"Taken back by {actor}")
            taken = commands.withdraw(connection, command.command_id, outcome, at)
            if taken is None:
                return False
            _record(connection, taken, actor, at)
            return True

        return self._access.write(actor, take)


def _record(connection: Connection, command: Command, actor: str, at: datetime) -> None:
    """Record the undo on the order's timeline and in the audit log, in the same transaction."""
    action = str(command.arguments.get("action") or command.kind).upper()
    target, order_id = _target(connection, command)
    given = command.arguments
    if order_id:
        entry = action_entry(at, f"Taken back before it ran: {action}", actor, given.get("note") or given.get("reason"))
        orders.add_timeline(connection, order_id, [entry])
    audit.add(
        connection,
        AuditEntry(
            at=at,
            actor=actor,
            action="UNDO",
            target=target,
            order_id=order_id,
            reason=f"{action} asked for by {command.actor}",
            before={"command": command.command_id, "state": CommandState.STORED},
            after={"command": command.command_id, "state": CommandState.WITHDRAWN},
        ),
    )


def _target(connection: Connection, command: Command) -> tuple[str, str | None]:
    """The audit target of a command, and the id of its order if it is known."""
    definition = COMMANDS[command.kind]
    if definition.is_named_by_order:
        order = orders.get(connection, command.target_id)
        order_id = order.order_id if order else None
    else:
        review = reviews.get(connection, command.target_id)
        order_id = review.order_id if review else None
    return f"{definition.target}:{command.target_id}", order_id
