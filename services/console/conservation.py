"""Conservation: differences between orders, stock and money, and their compensation."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from services.console.access import LIVE_TTL, Topic
from services.console.cache import Reading
from services.console.paging import PAGE_SIZE
from state import commands, conservation
from state.commands import Command
from state.conservation import KnownDifference


@dataclass(frozen=True, slots=True)
class DifferenceRow:
    """One difference with the last command on it."""

    difference: KnownDifference
    command: Command | None


@dataclass(frozen=True, slots=True)
class ConservationPage:
    """Unsettled differences, the longest known first."""

    rows: tuple[DifferenceRow, ...]
    """One page of differences."""
    count: int
    """All unsettled differences."""
    compared: int
    """Orders compared so far; an order counts once per change."""


class Conservation(Topic):
    """The topic of the Conservation page."""

    def page(self, page: int = 1) -> Reading[ConservationPage]:
        """One page of unsettled differences, from 1 on."""
        return self._access.read(("conservation", page), LIVE_TTL, lambda c: _page(c, page))


def _page(connection: Connection, page: int) -> ConservationPage:
    found = conservation.page(connection, limit=PAGE_SIZE, offset=(max(page, 1) - 1) * PAGE_SIZE)
    given = commands.latest_of(connection, [f"{known.order_id}/{known.kind}" for known in found])
    rows = (DifferenceRow(known, given.get(f"{known.order_id}/{known.kind}")) for known in found)
    return ConservationPage(tuple(rows), conservation.count_unsettled(connection), conservation.progress(connection)[1])
