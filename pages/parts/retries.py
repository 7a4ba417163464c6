"""What a circuit breaker makes of a retry: sent now, or queued until the breaker of its call closes."""

from __future__ import annotations

import streamlit as st

from pages.parts import labels
from pages.parts.widgets import clock
from services.console.facade import console
from services.console.status import OPERATIONS, RELEASE, RESERVE, Breaker

SHUT = ("open", "forced_open", "half_open")
CALLS = {RESERVE: "reservation", RELEASE: "release"}
"""What the breaker of each call is called here."""


def breaker(call: str = RELEASE) -> Breaker | None:
    """The breaker of a call over all replicas; None while no worker tells."""
    live = console().status.live().value
    return next((one for one in live.breakers if OPERATIONS.get(one.name) == call), None) if live else None


def is_shut(call: str | None = RELEASE) -> bool:
    """Whether a retry would wait; an action without a call never does."""
    guard = breaker(call) if call else None
    return guard is not None and guard.state in SHUT


def label(plain: str, call: str | None = RELEASE) -> str:
    """The text of a retry button: what a click means as the breaker stands."""
    return f"Queue until it closes ({_until(call)})" if call and is_shut(call) else plain


def named(action: str, call: str | None) -> str:
    """Shorten the label of a retry that stands beside other actions, so that it fits a phone."""
    return f"{action}: queue ({_until(call)})" if call and is_shut(call) else action


def counted(verb: str, rest: str, call: str | None) -> str:
    """The text of a button that acts on several things."""
    return f"Queue: {verb} {rest}" if is_shut(call) else f"{verb} {rest}"


def _until(call: str) -> str:
    guard = breaker(call)
    if guard is None or guard.state == "half_open":
        return "half-open now"
    if guard.retry_at is None or guard.retry_at <= console().now():
        return "half-open any moment"
    left = clock.span(guard.retry_at - console().now())
    return f"forced open, {left} left" if guard.state == "forced_open" else f"half-open in {left}"


def notice(call: str = RELEASE) -> None:
    """Above what would be retried, while the breaker is not closed."""
    guard = breaker(call)
    if guard is not None and guard.state in SHUT:
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            badge = labels.badge(labels.BREAKER, guard.state)
            st.markdown(f"{badge} {CALLS[call]} breaker, {_until(call)}", width="content")
            st.caption("Retries wait and are let through one by one until it closes.", width="content")
            st.page_link("breakers.py", label="Breakers", icon=":material/arrow_forward:", width="content")


def drains(call: str | None) -> None:
    """Before several things are retried, while the breaker is not closed."""
    if call and is_shut(call):
        text = f"{label('', call)}: the queue then drains through the half-open budget."
        st.info(text, icon=":material/schedule:")
