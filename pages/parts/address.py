"""The query parameters of the page that the console reads and writes itself.

A click that the browser sends before it has received a change of the address still carries the old address. Streamlit
takes that address for the present one, so that a work area closed a moment ago would open again. Therefore the session
remembers its changes for a few seconds, and restores a parameter that comes back with a former value. Parameters that
are bound to a widget are kept by Streamlit and not read here.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

CHANGES = "address_changes"
"""In the session: the latest changes, by parameter."""

HERE = "address_page"
"""In the session: the page that the changes belong to."""

REMEMBERED_S = 5.0
"""Seconds; longer than a click takes to arrive and to wait for the previous run."""


@dataclass(frozen=True)
class Change:
    """The new value of a parameter and its former values; None if the address has no such parameter."""

    after: str | None
    before: frozenset[str | None]
    at: float


def arrive(page: str) -> None:
    """Call before a page is drawn: drops the remembered changes if the page is another one."""
    if st.session_state.get(HERE) != page:
        st.session_state[HERE] = page
        st.session_state.pop(CHANGES, None)


def get(name: str) -> str:
    """The value of a parameter; empty when the address has no such parameter."""
    _correct()
    return st.query_params.get(name) or ""


def put(name: str, value: str) -> None:
    """Set a parameter, or remove it if the value is empty."""
    _change(name, value or None)


def drop(*names: str) -> None:
    """Remove parameters; missing ones are ignored."""
    for name in names:
        _change(name, None)


def every() -> dict[str, list[str]]:
    """All parameters with all their values, bound ones included."""
    _correct()
    return {name: st.query_params.get_all(name) for name in st.query_params}


def _change(name: str, after: str | None) -> None:
    _correct()
    now = st.query_params.get(name)
    if now == after:
        return
    changes = _changes()
    before = changes[name].before if name in changes else frozenset()
    changes[name] = Change(after, (before | {now}) - {after}, time.monotonic())
    _write(name, after)


def _write(name: str, value: str | None) -> None:
    if value is None:
        st.query_params.pop(name, None)
    else:
        st.query_params[name] = value


def _changes() -> dict[str, Change]:
    changes: dict[str, Change] = st.session_state.setdefault(CHANGES, {})
    return changes


def _correct() -> None:
    """Restore parameters that a click with an old address has reset, except after back and forward."""
    changes = _changes()
    if not changes:
        return
    context = get_script_run_ctx()
    if context and context.is_history_navigation:
        changes.clear()
        return
    for name, change in list(changes.items()):
        value = st.query_params.get(name)
        if time.monotonic() - change.at > REMEMBERED_S or value not in {change.after, *change.before}:
            del changes[name]
        elif value != change.after:
            _write(name, change.after)
