"""The console's frame: the navigation, and the parts that every page shows."""

from __future__ import annotations

import streamlit as st
from streamlit.navigation.page import StreamlitPage

from pages.parts import access, address, overlay
from pages.parts.widgets import clock, empty
from services.console.facade import console

st.set_page_config(page_title="Holdfast", page_icon="⚓", layout="wide")


def _page(name: str, title: str, icon: str, tip: str, *, default: bool = False) -> StreamlitPage:
    return st.Page(f"{name}.py", title=title, icon=f":material/{icon}:", help=tip, default=default)


def _sections() -> dict[str, list[StreamlitPage]]:
    """The pages in the sidebar; the Sandbox page is visible only in a sandbox."""
    monitor = [
        _page("overview", "Overview", "monitoring", "Is the integration healthy, and if not, why not?", default=True),
        _page(
            "breakers", "Breakers", "electrical_services",
            "The circuit breakers before the Inventory Service: state, window, history.",
        ),
        _page("metrics", "Metrics", "query_stats", "The history of any time range, and the orders behind a spike."),
        _page("alerts", "Alerts", "notifications", "Firing alerts, what to do about them, and the notifications sent."),
        _page("orders", "Orders", "receipt_long", "Find orders by id, user, product, status or time."),
        _page("events", "Events", "swap_vert", "Outgoing and incoming events, and dead letters."),
        _page("stock", "Stock", "inventory_2", "Low and out-of-stock products, and the orders that wait for them."),
    ]  # fmt: skip
    work = [
        _page("reviews", "Manual review", "rate_review", "Cases that only a person can decide."),
        _page("releases", "Releases", "lock_open", "Stock that is to be released, and the failed attempts."),
        _page("conservation", "Conservation", "balance", "Differences between orders, stock and money."),
        st.Page("order.py", title="Order", icon=":material/receipt:", url_path="order", visibility="hidden"),
    ]
    team = [
        _page("handover", "Hand-over", "handshake", "What is open for the next shift."),
        _page("audit", "Audit", "history_edu", "Who did what, when and why."),
    ]
    drills = st.Page(
        "sandbox.py", title="Sandbox", icon=":material/science:", help="Drills before a sale, and the demo's stock.",
        visibility="visible" if console().status.is_sandbox else "hidden",
    )  # fmt: skip
    return {"Monitor": monitor, "Work": work, "Team": team, "Sandbox": [drills]}


# A collapsed menu would hide the last sections.
page = st.navigation(_sections(), expanded=True)

with st.sidebar:
    access.ask_name()
    clock.pick()

if access.may_look():
    address.arrive(page.url_path)
    overlay.arrive(page.url_path)
    page.run()
    overlay.draw()
else:
    st.title(page.title, anchor=False)
    empty.no_permission(console().people.role_of(access.actor()))
