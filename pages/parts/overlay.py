"""The one dialog that can be open over a page.

The page draws it outside every fragment. Streamlit keeps a dialog that was opened inside a fragment when that fragment
runs again: after it is dismissed, its own fragments write to places that other elements have taken, and the browser
drops the whole page. Outside a fragment, dismissing the dialog runs the whole page, which ends every fragment of the
dialog.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import streamlit as st

OPEN = "overlay"
"""In the session: the dialog that is open."""

LIVE_KEY = "live"
"""In the session: whether the page refreshes itself."""

REFRESH = "2s"

HERE = "overlay_page"
"""In the session: the page that is drawn."""


@dataclass(frozen=True)
class Overlay:
    """An open dialog; its frozen ``args`` keep the content the same at every run of the page."""

    page: str
    title: str
    draw: Callable[..., None]
    args: tuple[Any, ...]
    options: dict[str, Any]


def show(title: str, draw: Callable[..., None], *args: Any, **options: Any) -> None:
    """Open a dialog over the present page and run the page again; ``options`` are those of ``st.dialog``."""
    st.session_state[OPEN] = Overlay(st.session_state.get(HERE, ""), title, draw, args, options)
    st.rerun()


def drawer(title: str, draw: Callable[..., None], *args: Any, icon: str, on_dismiss: Callable[[], None]) -> None:
    """Draw a work area at the side of the page. Call it outside the live part.

    Streamlit allows one dialog at a time: the work area is not drawn while a dialog of show() is open.
    """
    if OPEN not in st.session_state:
        st.dialog(title, width="large", position="right", icon=icon, on_dismiss=on_dismiss)(draw)(*args)


def close() -> None:
    """Close the dialog at the next run of the page."""
    st.session_state.pop(OPEN, None)


def arrive(page: str) -> None:
    """Call before a page is drawn: closes a dialog of another page."""
    st.session_state[HERE] = page
    overlay: Overlay | None = st.session_state.get(OPEN)
    if overlay is not None and overlay.page != page:
        close()


def draw() -> None:
    """Call after the page is drawn: draws the open dialog, if any."""
    overlay: Overlay | None = st.session_state.get(OPEN)
    if overlay is not None:
        st.dialog(overlay.title, on_dismiss=close, **overlay.options)(overlay.draw)(*overlay.args)


def is_live() -> bool:
    """Whether the page refreshes itself."""
    return bool(st.session_state.get(LIVE_KEY, True))


def refreshing(draw: Callable[..., None], *args: Any) -> None:
    """Draw a part outside the body, such as a dialog, now and as often as the body.

    Each refresh disables the buttons of the part, with the reason, while no command can be stored.
    """
    st.fragment(draw, run_every=REFRESH if is_live() else None)(*args)
