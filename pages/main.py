"""The console's frame: navigation and what stands on every page."""

from __future__ import annotations

import streamlit as st
from parts import clock, empty, person

from services.console import console

st.set_page_config(page_title="Holdfast", page_icon="⚓", layout="wide")

page = st.navigation(
    {
        "Monitor": [
            st.Page(
                "overview.py",
                title="Overview",
                icon=":material/monitoring:",
                default=True,
                help="Is the integration healthy, and if not, why not?",
            ),
            st.Page(
                "breakers.py",
                title="Breakers",
                icon=":material/electrical_services:",
                help="The circuit breakers before the Inventory Service: state, window, history.",
            ),
            st.Page(
                "metrics.py",
                title="Metrics",
                icon=":material/query_stats:",
                help="The history over any stretch of time, and from a spike to the orders in it.",
            ),
            st.Page(
                "orders.py",
                title="Orders",
                icon=":material/receipt_long:",
                help="Find orders by id, user, product, status or time.",
            ),
        ],
        "Work": [
            st.Page(
                "reviews.py",
                title="Manual review",
                icon=":material/rate_review:",
                help="Cases that only a person can decide.",
            ),
            st.Page(
                "releases.py",
                title="Releases",
                icon=":material/lock_open:",
                help="Stock that is to be given back, and what hinders it.",
            ),
            st.Page(
                "conservation.py",
                title="Conservation",
                icon=":material/balance:",
                help="What does not add up between orders, stock and money.",
            ),
            st.Page("order.py", title="Order", icon=":material/receipt:", url_path="order", visibility="hidden"),
        ],
    }
)

with st.sidebar:
    person.ask_name()
    st.caption(f"Holdfast · times in {clock.zone_name()}")

if person.may_look():
    page.run()
else:
    st.title(page.title, anchor=False)
    empty.no_permission(console().people.role_of(person.actor()))
