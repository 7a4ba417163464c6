"""The actor at the console, whether they can store commands right now, and the reason if not."""

from __future__ import annotations

from typing import Any

import streamlit as st

from services.console.facade import console

ANONYMOUS = "console"
NAME_KEY = "display_name"
MAX_NAME = 80


def actor() -> str:
    """The e-mail address of the logged-in person, else the name typed in the sidebar, else ``console``.

    The name of a person in CONSOLE_PEOPLE cannot be typed.
    """
    if st.user.get("is_logged_in"):
        return str(st.user.get("email") or st.user.get("sub") or ANONYMOUS)[:MAX_NAME]
    typed = str(st.session_state.get(NAME_KEY) or "").strip()[:MAX_NAME]
    return ANONYMOUS if not typed or console().people.is_listed(typed) else typed


def is_admin() -> bool:
    return console().people.is_admin(actor())


def may_look() -> bool:
    return console().people.may_look(actor())


def ask_name() -> None:
    """Draw the sidebar field for the name that is recorded with commands; a logged-in person cannot change it."""
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
        st.caption(f":material/lock: This name belongs to a person who logs in. You are {actor()}.")


def write_block() -> str | None:
    """Why no command can be stored right now; None if one can."""
    problem = console().status.live().problem
    return f"{problem} Nothing can be stored." if problem else console().people.why_not_act(actor())


def button(
    label: str,
    key: str,
    *,
    refused: str | None = None,
    hint: str | None = None,
    icon: str | None = None,
    **options: Any,
) -> bool:
    """Draw a button that leads to a command; ``options`` are those of ``st.button``.

    Its help is ``hint``. While no command can be stored, or if ``refused`` is a reason, it is disabled and its help is
    the reason.
    """
    reason = write_block() or refused
    symbol = f":material/{icon}:" if icon else None
    return st.button(label, key=key, icon=symbol, disabled=reason is not None, help=reason or hint, **options)


def refusal() -> None:
    """Draw the reason why no command can be stored, in a work area that covers the page's banner."""
    if block := write_block():
        st.error(block, icon=":material/block:")


def write_note() -> str | None:
    """A warning beside a button if no worker runs; None otherwise."""
    live = console().status.live().value
    return "Stored now, will run when a worker is back." if live and not live.is_running else None
