"""``python -m services.sandbox.inventory_service``: the reference Inventory Service as a process.

A real service with its own process, database and events. It replaces a real Inventory Service in sandbox mode and in
tests, and can be the basis of a new one. Its rows and the rows of Holdfast are in different databases: the services
communicate only by HTTP and NATS.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection

from services.base.identity import utc_now
from services.http_server.envelope import Clock
from services.http_server.process import listen, serving
from services.sandbox.inventory_service import outbox, stock
from services.sandbox.inventory_service.api import InventoryApi
from services.sandbox.inventory_service.catalogue import CATALOGUE, put_on_shelves
from services.sandbox.inventory_service.event_link import EventLink
from services.sandbox.inventory_service.faults import Faults
from services.sandbox.inventory_service.reservations import SWEEP_LIMIT
from services.sandbox.inventory_service.tables import dead_letters, make
from services.sandbox.settings import InventorySettings, run_process
from state import outbox as stored
from state.engine.database import Database, opened
from state.engine.rows import count

log = logging.getLogger(__name__)

LINK_GRACE_SECONDS = 1.5
"""Seconds for consumers and relay to finish; unfinished work is resumed at the next start."""


async def serve(
    settings: InventorySettings,
    stop: asyncio.Event,
    *,
    clock: Clock = utc_now,
    on_listening: Callable[[str], None] = lambda _url: None,
) -> None:
    """Run the service until ``stop`` is set; ``on_listening`` receives the base URL."""
    listener = listen(settings.host, settings.port)
    with opened(settings.database_url) as database:
        await database.write(make)
        await database.write(lambda connection: put_on_shelves(connection, CATALOGUE, clock()))
        faults = Faults(random.random)
        link = EventLink(settings.nats_servers, database, clock, faults, settings.installation)
        api = InventoryApi(database, clock, faults, health=_health(database, link), on_commit=link.wake)
        async with asyncio.TaskGroup() as background:
            linked = background.create_task(link.run())
            sweeper = background.create_task(_sweep(database, clock, link, settings.sweep_interval / 1000))
            async with serving(api.application(), listener) as url:
                on_listening(url)
                await stop.wait()
                # Consumers and requests finish concurrently.
                link.stop()
                asyncio.get_running_loop().call_later(LINK_GRACE_SECONDS, linked.cancel)
            sweeper.cancel()


async def _sweep(database: Database, clock: Clock, link: EventLink, interval_seconds: float) -> None:
    """Expire overdue reservations and delete old events, forever."""
    while True:
        try:
            ended = await database.write(lambda connection: stock.expire(connection, now=clock()))
            await database.write(lambda connection: outbox.prune(connection, clock()))
        except Exception:
            log.exception("sweep_failed")
            ended = 0
        if ended:
            link.wake()
        if ended < SWEEP_LIMIT:
            await asyncio.sleep(interval_seconds)


def _health(database: Database, link: EventLink) -> Callable[[], Any]:
    async def health() -> dict[str, Any]:
        counts = await database.read(_counts)
        nats = "connected" if link.is_connected else "disconnected"
        return {"nats": nats, "publishing": link.is_publishing, **counts}

    return health


def _counts(connection: Connection) -> dict[str, int]:
    return {
        "outboxPending": stored.pending(connection)[0],
        "outboxUndeliverable": stored.count_undeliverable(connection),
        "deadLetters": count(connection, dead_letters),
    }


if __name__ == "__main__":
    run_process(InventorySettings, serve)
