"""Filters: how wide they are, and how they survive a step back from an order."""

from __future__ import annotations

import streamlit as st

from pages.parts import address

PENDING = "filters_pending"
HALF = 174
"""Pixels of which two stand beside each other on a phone."""


def restore(*keys: str) -> None:
    """Call before the widgets: brings back what they held when an order was opened from this page.

    Opening an order adds two entries to the browser's history; the first of them is this page with
    the parameter of the order and without those bound to widgets.
    """
    if address.get("order"):
        address.drop("order")
        # What is set in the run of a step back loses against the address; in the next run it does not.
        st.session_state[PENDING] = st.session_state.get(_place(keys), {})
        st.rerun()
    st.session_state.update(st.session_state.pop(PENDING, {}))


def remember(*keys: str) -> None:
    """Call after the widgets: notes what they hold."""
    st.session_state[_place(keys)] = {key: st.session_state[key] for key in keys if key in st.session_state}


def _place(keys: tuple[str, ...]) -> str:
    return f"filters_{keys[0]}"
