"""Each alert of the seed fires and resolves by its cause: in the service, in a real Prometheus, through a real
Alertmanager, and at our own webhook. Source: requirements 9.2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.alerting.receiver import pager
from tests.alerting.shop import PATIENCE_SECONDS, SHORT, Everywhere, Shop, alerting, nothing_missing, ordering
from tests.chaos.stack import HEADLESS, live_stack, until

pytestmark = pytest.mark.slow

SEED = {
    # Ours, beyond the seed: it has the same cause as the rest.
    "OrdersRefusedForInventory",
    "InventoryCircuitBreakerOpen",
    "InventoryReservationSuccessLow",
    "InventoryReservationQueueDeep",
    "InventoryReleasesFailing",
    "InventoryAvailabilitySlow",
}
SLOW = "InventoryAvailabilitySlow"
BREAKER_OPEN = "InventoryCircuitBreakerOpen"


async def test_every_cause_fires_its_alert_everywhere_and_its_end_resolves_it(tmp_path: Path) -> None:
    with pager() as ours, pager() as theirs:
        async with alerting(tmp_path, ours, theirs) as (stack, shop, _, server):
            everywhere = Everywhere(SEED, shop, server, ours, theirs)
            reserved = await shop.reserved_orders()
            await shop.faults(latencyMs=250, silentConfirmations=True)
            async with ordering(shop):
                await until(lambda: shop.is_firing(server, SLOW), PATIENCE_SECONDS, stack.logs)
                await shop.faults(latencyMs=250, silentConfirmations=True, outage=True)
                for order_id in reserved:
                    await shop.cancel(order_id)
                await nothing_missing(everywhere.have_fired, stack.logs)
                await shop.faults()
                await nothing_missing(everywhere.have_ended, stack.logs)
            await until(lambda: len(ours.of("Watchdog")) >= 2, PATIENCE_SECONDS)
    for name in SEED:
        check_messages(ours.of(name))
        own, their = fingerprints(ours.of(name)), fingerprints(theirs.of(name))
        # Of three breakers, one may have been open too shortly for one of both.
        assert own.keys() & their.keys()
        assert all(own[labels] == their[labels] for labels in own.keys() & their.keys())


def fingerprints(messages: list[dict[str, Any]]) -> dict[tuple[tuple[str, str], ...], str]:
    """By the labels they belong to."""
    alerts = [alert for message in messages for alert in message["alerts"]]
    return {tuple(sorted(alert["labels"].items())): alert["fingerprint"] for alert in alerts}


def check_messages(messages: list[dict[str, Any]]) -> None:
    """Ours have the form of Alertmanager's: whoever reads the one reads the other."""
    for message in messages:
        (alert,) = message["alerts"]
        assert message["version"] == "4"
        assert message["status"] == alert["status"]
        assert message["receiver"] == "holdfast"
        assert message["groupLabels"] == message["commonLabels"] == alert["labels"]
        assert alert["annotations"]["summary"]
        assert len(alert["fingerprint"]) == 16
        assert (alert["endsAt"] == "0001-01-01T00:00:00Z") is (alert["status"] == "firing")
    by_key: dict[str, list[str]] = {}
    for message in messages:
        by_key.setdefault(message["groupKey"], []).append(message["status"])
    for statuses in by_key.values():
        assert statuses[::2] == ["firing"] * len(statuses[::2])
        assert statuses[1::2] == ["resolved"] * len(statuses[1::2])


async def test_what_was_to_be_sent_survives_a_kill_and_a_dead_webhook(tmp_path: Path) -> None:
    with pager() as early:
        port = early.port
    url = f"http://127.0.0.1:{port}/hook"
    async with (
        live_stack(tmp_path, HEADLESS, **SHORT, ALERT_WEBHOOK_URL=url) as stack,
        httpx.AsyncClient(base_url=stack.api_url, timeout=30.0, trust_env=False) as client,
    ):
        shop = Shop(stack, client)
        await shop.faults(outage=True)
        async with ordering(shop):
            await until(lambda: shop.has_fired(BREAKER_OPEN), PATIENCE_SECONDS, stack.logs)
        # The newest stands first; other alerts of the same cause fire as well.
        event = [event for event in await shop.history("FIRING") if event["name"] == BREAKER_OPEN][-1]
        await stack.crash()
        await stack.start()
        assert await shop.has_fired(BREAKER_OPEN)
        with pager(port) as late:

            def about_it() -> list[dict[str, Any]]:
                """Of several breakers that opened, each has messages of its own."""
                return [m for m in late.of(BREAKER_OPEN) if m["alerts"][0]["labels"] == event["labels"]]

            await until(lambda: bool(about_it()), PATIENCE_SECONDS, stack.logs)
            first = about_it()[0]
            assert first["status"] == "firing"
            assert first["alerts"][0]["startsAt"] == event["at"]
