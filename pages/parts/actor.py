"""Who is at the console."""

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
