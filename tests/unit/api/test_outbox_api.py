"""Undeliverable events over HTTP: listed, published again, given up, by whom and why."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from state import audit, orders, outbox
from tests.support.api import Api, error_of

REASON = {"reason": "the broker takes larger messages now"}


async def undeliverable(api: Api, *, payload: bytes = b"") -> int:
    """An order whose event was found to be too large; returns the row's id."""
    order = await api.shop.place()
    database, now = api.shop.real_database, api.shop.clock()
    if payload:
        row = {"event_id": "large", "subject": "order.created", "order_id": order.order_id, "payload": payload}
        await database.write(lambda c: outbox.add(c, [row | {"created_at": now}]))
    claimed = await database.write(lambda c: outbox.settle_and_claim(c, [], [], 100, now))
    event, others = claimed[-1], [claim.id for claim in claimed[:-1]]
    never = [(event.id, "message size exceeds maximum allowed")]
    await database.write(lambda c: outbox.settle_and_claim(c, others, [], 0, now, undeliverable=never))
    return event.id


async def listed(api: Api) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await api.data("/api/v1/outbox", state="UNDELIVERABLE"))["items"]
    return items


async def recorded(api: Api, order_id: str) -> tuple[Any, Any]:
    entries = await api.shop.real_database.read(lambda c: audit.page(c, limit=1))
    timeline = await api.shop.real_database.read(lambda c: orders.timeline(c, order_id))
    return entries[0], timeline[-1]


async def test_events_are_listed_with_the_reason_and_the_beginning_of_the_payload(api: Api) -> None:
    payload = b'{"a": "' + "ä".encode() * 300_000 + b'"}'
    row_id = await undeliverable(api, payload=payload)
    answer = await api.get("/api/v1/outbox", state="UNDELIVERABLE")
    assert len(answer.content) < 20_000
    (event,) = answer.json()["data"]["items"]
    assert event["id"] == row_id
    assert event["state"] == "UNDELIVERABLE"
    assert event["reason"] == "message size exceeds maximum allowed"
    assert event["payloadBytes"] == len(payload)
    assert event["payloadIsCut"]
    assert event["payload"].startswith('{"a": "ä')
    error_of(await api.get("/api/v1/outbox", state="PUBLISHED"), 400, "VALIDATION_ERROR")


async def test_a_retried_event_waits_again_and_the_retry_is_on_record(guarded: Api) -> None:
    row_id = await undeliverable(guarded)
    guarded.acting_as("operator")
    answer = await guarded.post(f"/api/v1/outbox/{row_id}/retry", REASON)
    assert answer.status_code == 200, answer.text
    event = answer.json()["data"]
    assert (event["id"], event["state"]) == (row_id, "PENDING")
    assert await listed(guarded) == []
    assert (await guarded.shop.real_database.read(outbox.pending))[0] == 1
    entry, shown = await recorded(guarded, event["orderId"])
    assert (entry.action, entry.actor, entry.reason) == ("RETRY_OUTGOING_EVENT", "operator", REASON["reason"])
    assert (entry.target, entry.order_id) == (f"outbox-event:{row_id}", event["orderId"])
    assert (shown.kind, shown.actor, shown.details["note"]) == ("action", "operator", REASON["reason"])


async def test_a_discarded_event_is_gone_and_the_discard_is_on_record(guarded: Api) -> None:
    row_id = await undeliverable(guarded)
    guarded.acting_as("operator")
    event = (await guarded.post(f"/api/v1/outbox/{row_id}/discard", REASON)).json()["data"]
    assert event["state"] == "DISCARDED"
    assert orjson.loads(event["payload"])["id"] == event["eventId"]
    assert await listed(guarded) == []
    assert (await guarded.shop.real_database.read(outbox.pending))[0] == 0
    entry, shown = await recorded(guarded, event["orderId"])
    assert (entry.action, entry.actor, entry.reason) == ("DISCARD_OUTGOING_EVENT", "operator", REASON["reason"])
    assert entry.before["eventId"] == event["eventId"]
    assert (shown.kind, shown.actor) == ("action", "operator")
    again = await guarded.post(f"/api/v1/outbox/{row_id}/discard", REASON)
    error_of(again, 404, "OUTBOX_EVENT_NOT_FOUND")


@pytest.mark.parametrize("verb", ["retry", "discard"])
async def test_only_what_is_undeliverable_can_be_settled(api: Api, verb: str) -> None:
    row_id = await undeliverable(api)
    await api.post(f"/api/v1/outbox/{row_id}/retry", REASON)
    answer = await api.post(f"/api/v1/outbox/{row_id}/{verb}", REASON)
    error_of(answer, 409, "INVALID_STATE")
    for unknown in ("0", "-1", "99999", "x", str(2**63), "1" * 5000, "%00"):
        answer = await api.post(f"/api/v1/outbox/{unknown}/{verb}", REASON)
        assert answer.status_code == 404, unknown


@pytest.mark.parametrize("verb", ["retry", "discard"])
async def test_a_reason_and_the_role_of_an_operator_are_needed(guarded: Api, verb: str) -> None:
    row_id = await undeliverable(guarded)
    guarded.acting_as("viewer")
    assert (await guarded.post(f"/api/v1/outbox/{row_id}/{verb}", REASON)).status_code == 403
    guarded.acting_as("operator")
    assert (await guarded.post(f"/api/v1/outbox/{row_id}/{verb}", {})).status_code == 400
    assert [event["id"] for event in await listed(guarded)] == [row_id]


async def test_the_gauge_and_the_stored_sample_count_undeliverable_events(api: Api) -> None:
    await undeliverable(api)
    await api.recorder.refresh_gauges()
    exposed = api.metrics.exposition().decode()
    assert "\noutbox_undeliverable 1.0\n" in exposed
    assert "\noutbox_pending 0.0\n" in exposed
    assert "\noutbox_oldest_age_seconds 0.0\n" in exposed
