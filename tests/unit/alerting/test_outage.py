"""The alert about the database itself: told from memory while it lasts, and stored once that can be done."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import httpx
import pytest

from services.alerting.database_alert import DatabaseOutage, store_in
from state import alerts
from state.alerts import RESOLVED
from state.engine.database import Database, opened
from tests.support.fakes import START

SENTENCE = "The disk is full."


class World:
    """A database that can be away, a receiver and a clock."""

    def __init__(self, database: Database, url: str | None) -> None:
        self.now = START
        self.is_away = False
        self.posted: list[str] = []
        self._keep = store_in(database)
        client = httpx.AsyncClient(transport=httpx.MockTransport(self._receive))
        self.outage = DatabaseOutage(client, url, lambda: self.now, "here", "http://console/alerts", self._kept)

    def _receive(self, request: httpx.Request) -> httpx.Response:
        self.posted.append(request.read().decode())
        return httpx.Response(200)

    async def _kept(self, *parts: Any) -> object:
        if self.is_away:
            raise OSError("away")
        return await self._keep(*parts)


@pytest.mark.parametrize("url", [None, "http://pager"])
async def test_an_outage_is_kept_once_with_its_beginning_and_its_end(sqlite_url: str, url: str | None) -> None:
    with opened(sqlite_url) as database:
        world = World(database, url)
        assert await world.outage.report(SENTENCE)
        world.now += timedelta(seconds=40)
        world.is_away = True
        assert not await world.outage.report(None)
        world.is_away = False
        for _ in range(2):
            assert await world.outage.report(None)
        (kept,) = await database.read(lambda c: alerts.resolved(c, START, 10))
        assert (kept.name, kept.state, kept.labels["replica"]) == ("DatabaseNotWritable", RESOLVED, "here")
        assert (kept.fired_at, kept.resolved_at) == (START, START + timedelta(seconds=40))
        assert SENTENCE in kept.annotations["summary"]
        # The evaluator tells nobody once more.
        assert not kept.is_notified
        events = await database.read(alerts.history)
        assert [(event.kind, event.at) for event in events] == [
            ("RESOLVED", START + timedelta(seconds=40)),
            ("FIRING", START),
        ]
        assert bool(world.posted) is (url is not None)
