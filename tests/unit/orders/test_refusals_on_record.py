"""What was refused is found in the audit log where what was done is found."""

from __future__ import annotations

import pytest

from services.commands.handlers import HANDLERS
from services.domain.commands import COMMANDS, CommandKind


def test_every_kind_of_the_registry_has_a_handler_and_every_handler_a_kind() -> None:
    assert set(HANDLERS) == set(COMMANDS) == set(CommandKind)


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
    command_id = await shop.command(kind, "o-1", **arguments)
    await shop.commands.run_waiting()
    (entry,) = await shop.audit()
    assert (entry.target, entry.correlation_id) == (target, command_id)
    assert entry.result.startswith("refused: ")


async def test_a_refused_proof_is_found_by_its_order(shop):
    await shop.command("mark_released", "o-1", version=1, proof="seen")
    await shop.commands.run_waiting()
    (entry,) = await shop.audit()
    assert entry.order_id == "o-1"
