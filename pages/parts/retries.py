"""Labels of retries: a retry is sent now, or queued until the circuit breaker of its call closes."""

from __future__ import annotations

import streamlit as st

from pages.parts import labels
from pages.parts.widgets import clock
from services.breakers.overview import OPERATIONS, Breaker
from services.console.facade import console
from services.metrics.trends import RELEASE, RESERVE

SHUT = ("open", "forced_open", "half_open")
CALLS = {RESERVE: "reservation", RELEASE: "release"}
"""The name of each call's breaker on the pages."""


def breaker(call: str = RELEASE) -> Breaker | None:
    """The breaker of a call over all replicas; None while no worker reports it."""
    live = console().status.live().value
    return next((one for one in live.breakers if OPERATIONS.get(one.name) == call), None) if live else None


def is_shut(call: str | None = RELEASE) -> bool:
    """Whether a retry of the call would wait. Without a call it is False."""
    guard = breaker(call) if call else None
    return guard is not None and guard.state in SHUT


def label(plain: str, call: str | None = RELEASE) -> str:
    """The text of a retry button: ``plain``, or while the breaker is not closed, when a queued retry is sent."""
    return f"Queue until it closes ({_until(call)})" if call and is_shut(call) else plain


def named(action: str, call: str | None) -> str:
    """The text of a retry button beside other actions, short enough for a phone."""
    return f"{action}: queue ({_until(call)})" if call and is_shut(call) else action


def counted(verb: str, rest: str, call: str | None) -> str:
    """The text of a button that acts on several items."""
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
    """Draw a notice above items that can be retried. Draws nothing while the breaker is closed."""
    guard = breaker(call)
    if guard is not None and guard.state in SHUT:
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            badge = labels.badge(labels.BREAKER, guard.state)
            st.markdown(f"{badge} {CALLS[call]} breaker, {_until(call)}", width="content")
            st.caption("Retries wait and are let through one by one until it closes.", width="content")
            st.page_link("breakers.py", label="Breakers", icon=":material/arrow_forward:", width="content")


def drains(call: str | None) -> None:
    """Draw a notice before a retry of several items. Draws nothing while the breaker is closed."""
    if call and is_shut(call):
        text = f"{label('', call)}: the queue then drains through the half-open budget."
        st.info(text, icon=":material/schedule:")
