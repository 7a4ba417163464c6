"""Stock and ledger of the reference Inventory Service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from pages.parts import labels
from pages.parts.widgets import clock, empty, orders
from services.console.facade import console
from services.console.sandbox import Shelves

MOVEMENTS = 15


def draw(shown: Shelves | None, *, grey: bool) -> None:
    if shown is None:
        empty.no_data_yet("The Inventory Service has not answered yet; the worker reads it every few seconds.")
        return
    st.markdown("**Reference Inventory Service**")
    st.caption(f"As read by the worker {clock.both(shown.as_of, console().now())} · {_faults(shown.faults)}")
    names = {(item["productId"], item["variantId"]): str(item["name"]) for item in shown.items}
    left, right = st.columns(2)
    with left.container(border=True):
        st.markdown("**Stock**")
        rows = [
            {
                "Product": labels.plain(item["name"]),
                "On hand": f"{item['onHand']:,}",
                "Reserved": f"{item['reserved']:,}",
                "Available": f"{item['available']:,}",
                "Level": _level(item, grey=grey),
            }
            for item in shown.items
        ]
        st.table(rows, border="horizontal", hide_index=True, alt="Stock of the reference Inventory Service")
    with right.container(border=True, gap="xsmall"):
        st.markdown("**Ledger, newest first**")
        for number, entry in enumerate(shown.ledger[:MOVEMENTS]):
            _movement(entry, names, number)


def _level(item: Mapping[str, Any], *, grey: bool) -> str:
    level = {"OK": "in_stock", "IN_STOCK": "in_stock", "LOW": "low", "OUT": "out"}.get(str(item["level"]).upper())
    return labels.badge(labels.STOCK, level, grey=grey) if level else labels.plain(item["level"])


def _faults(faults: Mapping[str, Any]) -> str:
    on = [f"{labels.plain(name)} {value}" for name, value in faults.items() if value and name != "leaseMs"]
    return f"faults: {', '.join(on)}" if on else "no faults"


def _movement(entry: Mapping[str, Any], names: Mapping[tuple[str, str], str], number: int) -> None:
    name = names.get((str(entry["productId"]), str(entry["variantId"])), str(entry["productId"]))
    at = labels.plain(clock.said(entry["at"], console().now()))
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key=f"ledger_{number}"):
        st.markdown(f":small[{at}]", width="content")
        moved = _moved(entry)
        why = f" · {labels.plain(orders.shortened(str(entry['reason'])))}" if entry.get("reason") else ""
        kind = labels.plain(str(entry["kind"]).lower().replace("_", " "))
        st.caption(f"{kind} · {labels.plain(name)} · {moved}{why}", width="stretch")
        if entry.get("orderId"):
            orders.link(str(entry["orderId"]), is_short=True)


def _moved(entry: Mapping[str, Any]) -> str:
    parts = [
        f"{entry[field]:+,} {label}"
        for field, label in (("onHandDelta", "on hand"), ("reservedDelta", "reserved"))
        if entry[field]
    ]
    return ", ".join(parts)
