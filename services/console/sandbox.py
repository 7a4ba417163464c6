"""The sandbox: stock and faults of the reference Inventory Service, demo traffic, drills."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from services.console.access import LIVE_TTL, Topic
from services.console.cache import Reading
from services.domain.commands import CommandKind
from services.sandbox.drills.catalogue import KINDS, Kind, Level, shown_kind
from services.sandbox.drills.inventory import MAX_RATE
from services.sandbox.drills.state_machine import MAX_SECONDS, MIN_SECONDS, Phase
from state import commands, replicas, sandbox
from state.commands import Command
from state.sandbox import Drill

__all__ = ["KINDS", "Kind", "Level", "Phase", "Sandbox", "SandboxPage", "shown_kind"]

COMMAND_KINDS = (CommandKind.START_DRILL, CommandKind.STOP_DRILL, CommandKind.SET_TRAFFIC)


@dataclass(frozen=True, slots=True)
class SandboxStock:
    """A copy of the reference Inventory Service's stock, ledger and faults, stored by the worker."""

    as_of: datetime
    items: tuple[Mapping[str, Any], ...]
    """Mappings ``{productId, variantId, name, onHand, reserved, available, safety, lowStockThreshold, level}``."""
    ledger: tuple[Mapping[str, Any], ...]
    """Mappings ``{at, kind, productId, variantId, onHandDelta, reservedDelta, orderId, reason}``, newest first."""
    faults: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SandboxPage:
    """The content of the Sandbox page."""

    stock: SandboxStock | None
    active: Drill | None
    past: tuple[Drill, ...]
    """Finished drills, newest first."""
    wished_rate: float | None
    """Requested orders per second."""
    started_rate: float | None
    """Orders per second with which the traffic was started; None if no worker reports it."""
    commands: tuple[Command, ...]
    """The latest commands on the sandbox, newest first."""


class Sandbox(Topic):
    """The topic of the Sandbox page."""

    MIN_SECONDS, MAX_SECONDS = MIN_SECONDS, MAX_SECONDS
    MAX_RATE = MAX_RATE

    def page(self) -> Reading[SandboxPage]:
        """The content of the Sandbox page."""
        return self._access.read("sandbox", LIVE_TTL, lambda c: _page(c, self._access.now()))

    def drill(self, drill_id: str) -> Reading[Drill | None]:
        """One drill. If it does not exist, the reading has an ``as_of`` and no value."""
        return self._access.read(("drill", drill_id), LIVE_TTL, lambda c: sandbox.get(c, drill_id))


def _page(connection: Connection, now: datetime) -> SandboxPage:
    shown = sandbox.get_value(connection, sandbox.SHELVES)
    wished = sandbox.get_value(connection, sandbox.TRAFFIC)
    living = replicas.alive(connection, now)
    rates = [float(row.facts["sandboxTraffic"]) for row in living if row.facts.get("sandboxTraffic") is not None]
    known = sandbox.latest(connection)
    given = [command for command in commands.latest(connection, limit=50) if command.kind in COMMAND_KINDS]
    return SandboxPage(
        stock=_stock(*shown) if shown else None,
        active=sandbox.active(connection),
        past=tuple(drill for drill in known if drill.finished_at),
        wished_rate=float(wished[0]["ordersPerSecond"]) if wished else None,
        started_rate=max(rates, default=None),
        commands=tuple(given[:5]),
    )


def _stock(shown: Mapping[str, Any], at: datetime) -> SandboxStock:
    return SandboxStock(at, tuple(shown["items"]), tuple(shown["ledger"]), shown["faults"])
