"""Several replicas and one audit: each order is asked about once, and counted once."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from services.conservation.audit import ConservationAudit
from services.runtime.use_cases import CONSERVATION, Leader
from state import conservation
from tests.support.fakes import InMemoryInventoryLookup

LEASE = timedelta(seconds=60)


@pytest.fixture
def lookup(shop):
    return InMemoryInventoryLookup(shop.inventory)


@pytest.fixture
def replica(shop, lookup):
    def made(name):
        audit = ConservationAudit(shop.context, lookup, shop.payments)
        return Leader(shop.database, shop.clock, CONSERVATION, name, LEASE, audit.compare_next)

    return made


async def test_one_replica_compares_for_all_and_another_goes_on_when_it_is_gone(shop, lookup, replica):
    first, second = replica("first"), replica("second")
    for _ in range(3):
        await shop.place_confirmed()
    shop.clock.advance(61)
    for _ in range(3):
        await asyncio.gather(first.run_round(), second.run_round())
    compared = (await shop.real_database.read(conservation.progress))[1]
    assert lookup.asked == compared == 3

    await shop.place_confirmed()
    shop.clock.advance(LEASE.total_seconds() + 1)
    await second.run_round()
    await first.run_round()
    assert lookup.asked == 4
    assert (await shop.real_database.read(conservation.progress))[1] == 4
