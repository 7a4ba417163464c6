"""Links to an order, and its lines, units and value as text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime

import streamlit as st

from pages.parts import address, labels
from pages.parts.labels import plain
from pages.parts.widgets import clock
from services.console.facade import console
from services.console.reviews import ReviewCase
from services.domain.orders.model import InventoryStatus, Order

ID_WIDTH = 265
"""Width in pixels that fits a UUID."""
SHORT = 8
_UUID = re.compile(r"\b([0-9a-f]{8})(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")

_WITH_RESERVATION = (
    InventoryStatus.RESERVED,
    InventoryStatus.CONFIRM_REQUESTED,
    InventoryStatus.INVENTORY_FAILED,
    InventoryStatus.RELEASE_PENDING,
    InventoryStatus.RELEASE_FAILED,
)
"""Inventory statuses in which the Inventory Service may have a reservation, so that its expiry matters."""


def link(
    order_id: str, *, width: int = ID_WIDTH, is_short: bool = False, marks: Mapping[str, str] | None = None
) -> None:
    """The deep link of an order; ``is_short`` shows only the beginning of a long id.

    ``marks`` are parameters of the link, from which a step back restores the list.
    """
    st.page_link(
        "order.py",
        label=f":blue[{short(order_id) if is_short else plain(order_id)}]",
        icon="",
        help=f"Open the order {plain(order_id)}" if is_short else "Open the order",
        query_params=parameters(order_id, marks),
        width="content" if is_short else width,
    )


def parameters(order_id: str, marks: Mapping[str, str] | None = None) -> dict[str, list[str]]:
    """The parameters of the link. They include those of the present page, so that a step back restores its list."""
    own = {name: values for name, values in address.every().items() if name != "order"}
    return own | {name: [value] for name, value in (marks or {}).items()} | {"order": [order_id]}


def items(order: Order, limit: int = 2) -> str:
    """The order's lines in short: ``2 x SKU-CHAIR oak, 1 x SKU-LAMP brass, 3 more``."""
    shown = [f"{line.quantity} x {short(line.product_id)} {short(line.variant_id)}" for line in order.lines[:limit]]
    more = len(order.lines) - limit
    return ", ".join([*shown, f"{more} more"] if more > 0 else shown)


def short(identifier: str) -> str:
    """An id for a list. A long id, such as a UUID, is cut to its beginning."""
    return plain(identifier) if len(identifier) <= 2 * SHORT else f"{plain(identifier[:SHORT])}…"


def shortened(text: str) -> str:
    """A text with shortened UUIDs."""
    return _UUID.sub(r"\1…", text)


def units(order: Order) -> str:
    return labels.count(sum(line.quantity for line in order.lines), "unit")


def order_value(case: ReviewCase) -> str:
    """The order value: units, and money if the order's metadata has a total."""
    money = case.order_value
    amount = f" · {plain(money.currency or '')} {money.amount_text}" if money.amount_text else ""
    return f"{units(case.order)}{amount}"


def priority(order: Order) -> str:
    """A badge for a customer of high priority; empty for others."""
    return " :violet-badge[:material/star: High priority]" if order.is_high_priority else ""


def reservation_end(order: Order) -> datetime | None:
    """The expiry of the reservation; None if the Inventory Service cannot have a reservation of the order."""
    return order.reservation_expires_at if order.inventory_status in _WITH_RESERVATION else None


def reservation_left(order: Order) -> str:
    """The time until the reservation ends, as a further fact on a line; empty without a reservation."""
    if (end := reservation_end(order)) is None:
        return ""
    left = end - console().now()
    return f" · reservation ends in {clock.span(left)}" if left.total_seconds() > 0 else " · reservation has ended"


def states(order: Order, *, grey: bool) -> tuple[tuple[str, str], ...]:
    """Names and badges of the states of the order, its stock and its payment."""
    return (
        ("Order", labels.badge(labels.ORDER, order.status, grey=grey)),
        ("Inventory", labels.badge(labels.INVENTORY, order.inventory_status, grey=grey)),
        ("Payment", labels.badge(labels.PAYMENT, order.payment_status, grey=grey)),
    )
