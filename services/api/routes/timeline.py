"""Route for the timeline of an order: every step, attempt, event and action. Source: contract 3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import orjson
from fastapi import APIRouter
from pydantic import Field
from sqlalchemy import Connection

from services.api.models import Page, Resource, Timestamp, one_of
from services.api.routing import ApiRoute, OrderId, Service
from services.domain.errors import existing
from services.domain.external import cut_text
from services.domain.orders.changes import TimelineEntry
from state import orders

router = APIRouter(route_class=ApiRoute, tags=["orders"])

MAX_DETAILS_BYTES = 4096
"""Largest size of the details of one entry as JSON."""

_TEXT, _ITEMS = 200, 10


class TimelineEntryResource(Resource):
    """One entry. ``detailsAreCut`` is absent for complete details, ``actor`` for an entry without an actor."""

    at: Timestamp
    kind: Annotated[str, one_of("transition", "call", "event_out", "event_in", "action")]
    title: str
    details: dict[str, Any]
    details_are_cut: Literal[True] = True
    actor: str = ""

    @classmethod
    def of_entry(cls, entry: TimelineEntry) -> Self:
        """Return the entry with at most MAX_DETAILS_BYTES of details."""
        details, is_cut = cut_details(entry.details)
        shown = {"at": entry.at, "kind": entry.kind, "title": cut_text(entry.title, 500), "details": details}
        if is_cut:
            shown["details_are_cut"] = True
        return cls.model_validate(shown | ({"actor": entry.actor} if entry.actor else {}))


class Timeline(Page[TimelineEntryResource]):
    is_cut: Annotated[bool, Field(serialization_alias="isCut")]
    """Whether the timeline may have more entries than this answer."""


@router.get(
    "/api/v1/orders/{orderId}/timeline",
    summary="Every step of one order, oldest first",
    response_model_exclude_unset=True,
)
async def get_timeline(order_id: OrderId, service: Service) -> Timeline:
    def read(connection: Connection) -> list[TimelineEntry]:
        existing(orders.get(connection, order_id), "order", order_id)
        return orders.timeline(connection, order_id)

    entries = await service.database.read(read)
    items = [TimelineEntryResource.of_entry(entry) for entry in entries]
    return Timeline(items=items, is_cut=len(entries) >= orders.MAX_ENTRIES)


def cut_details(details: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
    """Return the details cut to MAX_DETAILS_BYTES, and whether they were cut."""
    if len(orjson.dumps(details)) <= MAX_DETAILS_BYTES:
        return details, False
    shown: dict[str, Any] = {}
    room = MAX_DETAILS_BYTES
    for name, value in details.items():
        short = {cut_text(name, _TEXT): _short(value)}
        room -= len(orjson.dumps(short))
        if room < 0:
            break
        shown |= short
    return shown, True


def _short(value: Any) -> Any:
    if isinstance(value, str):
        return cut_text(value, _TEXT)
    if isinstance(value, list):
        return [_flat(item) for item in value[:_ITEMS]]
    return _flat(value)


def _flat(value: Any) -> Any:
    """Return a small value unchanged, a large value as the beginning of its JSON text."""
    written = orjson.dumps(value)
    return value if len(written) <= _TEXT else cut_text(written.decode(), _TEXT)
