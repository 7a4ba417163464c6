"""Audit entries: the label of the action, and a link to its target."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from pages.parts import labels, names
from pages.parts.widgets import orders
from services.console.facade import console
from state.audit import AuditEntry

PAGES = {
    "order": "order.py",
    "review": "reviews.py",
    "release": "releases.py",
    "dead-letter": "events.py",
    "outbox-event": "events.py",
    "breaker": "breakers.py",
    "difference": "conservation.py",
    "drill": "sandbox.py",
    "sandbox": "sandbox.py",
    "handover": "handover.py",
}
"""The page by kind of target, for entries without an order."""


def deed(entry: AuditEntry) -> str:
    """The label of the action."""
    return names.AUDIT.get(entry.action, labels.plain(entry.action.replace("_", " ").capitalize()))


def link(entry: AuditEntry, marks: Mapping[str, str] | None = None) -> None:
    """Draw the target as a link, or as text if it has no page. ``marks`` as in ``orders.link``."""
    kind, _, identifier = entry.target.partition(":")
    if entry.order_id:
        st.page_link(
            "order.py", label=f":blue[{_named(entry.target)}]", icon="", width="content", help="Open the order",
            query_params=orders.parameters(entry.order_id, marks),
        )  # fmt: skip
    elif kind in PAGES and (PAGES[kind] != "sandbox.py" or console().status.is_sandbox):
        query = {"drill": identifier} if kind == "drill" else None
        st.page_link(PAGES[kind], label=f":blue[{_named(entry.target)}]", icon="", width="content", query_params=query)
    else:
        st.caption(_named(entry.target), width="content")


def _named(target: str) -> str:
    """The label of a target: ``order:ORD-7`` is Order ORD-7."""
    kind, colon, identifier = target.partition(":")
    if kind == "breaker":
        return f"{labels.breaker(identifier)} breaker"
    if kind == "handover":
        return "Hand-over"
    return labels.plain(f"{kind.replace('-', ' ').capitalize()} {identifier}" if colon else target)
