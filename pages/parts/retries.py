"""What the release breaker makes of a retry: sent now, or queued until it closes."""

from __future__ import annotations

import streamlit as st
from parts import clock, words

from services.console import Breaker, console

RELEASER = "inventoryServiceReleaser"
SHUT = ("open", "forced_open", "half_open")


def breaker() -> Breaker | None:
    """The release breaker over all replicas; None while no worker tells."""
    live = console().live().value
    return next((one for one in live.breakers if one.name == RELEASER), None) if live else None


def is_shut() -> bool:
    """Whether a retry would wait."""
    guard = breaker()
    return guard is not None and guard.state in SHUT


def label(plain: str) -> str:
    """The text of a retry button: what a click means as the breaker stands."""
    return f"Queue until it closes ({_until()})" if is_shut() else plain


def _until() -> str:
    guard = breaker()
    if guard is None or guard.state == "half_open":
        return "half-open now"
    if guard.retry_at is None or guard.retry_at <= console().now():
        return "half-open any moment"
    left = clock.span(guard.retry_at - console().now())
    return f"forced open, {left} left" if guard.state == "forced_open" else f"half-open in {left}"


def notice() -> None:
    """Above the jobs, while the breaker is not closed."""
    guard = breaker()
    if guard is not None and guard.state in SHUT:
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(f"{words.badge(words.BREAKER, guard.state)} release breaker, {_until()}", width="content")
            st.caption("Retries wait and are let through one by one until it closes.", width="content")
            st.page_link("breakers.py", label="Breakers", icon=":material/arrow_forward:", width="content")
