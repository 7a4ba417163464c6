"""Search by keyboard: F opens a dialog with one field, whose text becomes the page's search."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from pages.parts import labels, overlay

MAX_TEXT = 128


def button(key: str, label: str, clear: Callable[[], None]) -> None:
    """``key`` is that of the page's search field, ``clear`` empties its filters, so that what is named is found."""
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
