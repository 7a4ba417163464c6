"""What was refused is found in the audit log where what was done is found."""

from __future__ import annotations

import pytest

from services.alerting.commands import alert_commands
from services.breakers.overrides import BreakerOverrides
from services.commands.dead_letters import DeadLetterCommands
from services.commands.outbox import OutboxCommands
from services.commands.returns import ReturnCommands
from services.commands.undeliverable import UndeliverableEvents
from services.domain.commands import TARGETS
from services.sandbox.drills.commands import NoDrills


def worker_kinds(shop):
    """Every kind that a worker executes beside those of orders, as the composition root puts them together."""
    return {
        **BreakerOverrides(shop.database, shop.clock, shop.breakers).commands(),
        **alert_commands(None),
        **ReturnCommands(shop.returns).kinds,
        **DeadLetterCommands(shop.dead_letters).kinds,
        **OutboxCommands(UndeliverableEvents(shop.database, shop.clock)).kinds,
        **NoDrills().kinds,
    }


async def test_the_worker_executes_every_kind_of_command_that_the_console_stores(shop):
    executor = shop.executor(worker_kinds(shop))
    for number, kind in enumerate(TARGETS):
        await shop.command(kind, "nobody", f"c-{number}")
    while await executor.run_waiting():
        pass
    ends = [await shop.stored_command(f"c-{number}") for number in range(len(TARGETS))]
    assert not [end.kind for end in ends if str((end.outcome or {}).get("title", "")).startswith("Unknown command")]


@pytest.mark.parametrize(
    ("kind", "arguments", "target"),
    [
        ("mark_released", {"version": 1, "proof": "seen"}, "release:o-1"),
        ("steer_operation", {"move": "pause"}, "operation:o-1"),
        ("claim_review", {}, "review:o-1"),
        ("release_claim", {}, "review:o-1"),
        ("set_override", {"state": "x", "reason": "y", "expiresIn": 1000}, "breaker:o-1"),
        ("start_drill", {}, "drill:o-1"),
    ],
)
async def test_a_refusal_is_filed_under_what_it_was_about(shop, kind, arguments, target):
    executor = shop.executor(worker_kinds(shop))
    command_id = await shop.command(kind, "o-1", **arguments)
    await executor.run_waiting()
    (entry,) = await shop.audit()
    assert (entry.target, entry.correlation_id) == (target, command_id)
    assert entry.result.startswith("refused: ")


async def test_a_refused_proof_is_found_by_its_order(shop):
    await shop.command("mark_released", "o-1", version=1, proof="seen")
    await shop.commands.run_waiting()
    (entry,) = await shop.audit()
    assert entry.order_id == "o-1"
