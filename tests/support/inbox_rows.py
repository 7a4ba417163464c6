"""Rows of the inbox as the smallest thing that a test can store and find again."""

from __future__ import annotations

from sqlalchemy import insert, select

from state.tables import inbox
from tests.support.fakes import START


def put(key, payload="t"):
    row = {"event_id": key, "type": payload, "received_at": START}
    return lambda connection: connection.execute(insert(inbox), row)


def keys(connection):
    return sorted(connection.scalars(select(inbox.c.event_id)))
