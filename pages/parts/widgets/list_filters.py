"""Filters of a list, which a step back from an order restores; a search dialog (key F); a CSV file of the rows."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from pages.parts import address, labels, overlay
from services.console.paging import MAX_ROWS
from state.engine.source import SourceUnavailable

PENDING = "filters_pending"
HALF = 174
"""Width of a widget in pixels, so that two widgets fit side by side on a phone."""


def restore(*keys: str) -> None:
    """Call before the widgets: after a return from an order, restores the values from before the order was opened.

    Opening an order adds two entries to the browser's history. The first of them is this page with the parameter of the
    order and without the parameters bound to widgets.
    """
    if address.get("order"):
        address.drop("order")
        # The address overrides these values in the run of a step back, but not in the next run.
        st.session_state[PENDING] = st.session_state.get(_place(keys), {})
        st.rerun()
    st.session_state.update(st.session_state.pop(PENDING, {}))


def remember(*keys: str) -> None:
    """Call after the widgets: stores their values."""
    st.session_state[_place(keys)] = {key: st.session_state[key] for key in keys if key in st.session_state}


def _place(keys: tuple[str, ...]) -> str:
    return f"filters_{keys[0]}"


MAX_TEXT = 128


def search_button(key: str, label: str, clear: Callable[[], None]) -> None:
    """A button that opens a search dialog.

    The entered text goes into the search field ``key``; ``clear`` empties the other filters, so that the text is found.
    """
    if st.button("Find", key=f"open_find_{key}", icon=":material/search:", shortcut="F", help=f"{label}. Key: F"):
        overlay.show("Find", _ask, key, label, clear, icon=":material/search:")


def _ask(key: str, label: str, clear: Callable[[], None]) -> None:
    with st.form(f"find_form_{key}", border=False):
        st.text_input(label, key=f"find_text_{key}", max_chars=MAX_TEXT)
        if st.form_submit_button("Find", type="primary", key=f"find_do_{key}", on_click=_found, args=(key, clear)):
            overlay.close()
            st.rerun()


def _found(key: str, clear: Callable[[], None]) -> None:
    clear()
    st.session_state[key] = labels.typed(st.session_state.get(f"find_text_{key}"))


def csv(name: str, make: Callable[[], str], *, key: str, what: str, label: str = "CSV") -> None:
    """Draw a button for a CSV file. Its help text has the maximum number of rows.

    ``make`` runs at the click, outside a script run, so it can read neither the session state nor the address.
    """

    def content() -> str:
        try:
            return make()
        except SourceUnavailable as error:
            return f"problem\n{error}\n"

    st.download_button(
        label,
        content,
        file_name=f"{name}.csv",
        mime="text/csv",
        key=key,
        icon=":material/download:",
        type="tertiary",
        on_click="ignore",
        help=f"{what}, at most the newest {MAX_ROWS:,}; times in UTC.",
    )
