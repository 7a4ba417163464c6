"""Who uses the console, whether they can write right now, and the reason when not."""

from __future__ import annotations

import streamlit as st

from services.console.facade import console

ANONYMOUS = "console"
NAME_KEY = "display_name"
MAX_NAME = 80


def actor() -> str:
    """The e-mail address of the person logged in, else the name typed in the sidebar, else ``console``.

    A name that belongs to somebody who logs in cannot be typed.
    """
    if st.user.get("is_logged_in"):
        return str(st.user.get("email") or st.user.get("sub") or ANONYMOUS)[:MAX_NAME]
    typed = str(st.session_state.get(NAME_KEY) or "").strip()[:MAX_NAME]
    return ANONYMOUS if not typed or console().people.is_listed(typed) else typed


def why_not_act() -> str | None:
    """Why the person here may not ask for anything; None when they may."""
    return console().people.why_not_act(actor())


def is_admin() -> bool:
    return console().people.is_admin(actor())


def may_look() -> bool:
    return console().people.may_look(actor())


def ask_name() -> None:
    """In the sidebar: the name under which commands are recorded."""
    if st.user.get("is_logged_in"):
        st.caption(f":material/person: {actor()}")
        return
    st.text_input(
        "Your name",
        key=NAME_KEY,
        max_chars=MAX_NAME,
        placeholder=ANONYMOUS,
        persist_state="session",
        help="Stands beside everything you ask for.",
        icon=":material/person:",
    )
    if console().people.is_listed(str(st.session_state.get(NAME_KEY) or "").strip()):
        st.caption(f":material/lock: This name belongs to somebody who logs in. You are {actor()}.")


def write_block() -> str | None:
    """Why nothing can be asked for right now; None when it can."""
    problem = console().status.live().problem
    return f"{problem} Nothing can be stored." if problem else why_not_act()


def refusal() -> None:
    """In a work area that covers the banner of the page: why nothing can be asked for right now."""
    if block := write_block():
        st.error(block, icon=":material/block:")


def write_note() -> str | None:
    """What to know before asking for something: a worker has to be there to do it."""
    live = console().status.live().value
    return "Stored now, will run when a worker is back." if live and not live.is_running else None
