"""Whether a person can ask for something right now, and the reason when not."""

from __future__ import annotations

import streamlit as st

from pages.parts import actor
from services.console.facade import console


def write_block() -> str | None:
    """Why nothing can be asked for right now; None when it can."""
    problem = console().status.live().problem
    return f"{problem} Nothing can be stored." if problem else actor.why_not_act()


def refusal() -> None:
    """In a work area that covers the banner of the page: why nothing can be asked for right now."""
    if block := write_block():
        st.error(block, icon=":material/block:")


def write_note() -> str | None:
    """What to know before asking for something: a worker has to be there to do it."""
    live = console().status.live().value
    return "Stored now, will run when a worker is back." if live and not live.is_running else None
