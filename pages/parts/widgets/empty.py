"""The four empty states: nothing wrong, nothing matches, no data source, no permission."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages.parts.widgets import clock
from services.console.cache import Reading
from services.console.facade import console


def nothing_wrong(text: str) -> None:
    """The list is empty because there is no problem."""
    with st.container(horizontal_alignment="center", border=True):
        st.markdown(f":green[:material/check_circle:] {text}", width="content")


def nothing_matches(text: str, clear: Callable[[], None] | None = None, *, key: str = "clear_filters") -> None:
    """No row matches the filters; a button clears them."""
    with st.container(horizontal_alignment="center", border=True):
        st.markdown(f":material/filter_alt_off: {text}", width="content")
        if clear:
            st.button("Clear filters", icon=":material/close:", on_click=clear, key=key)


def no_data_yet(text: str) -> None:
    """Nothing has been recorded so far."""
    with st.container(horizontal_alignment="center", border=True):
        st.markdown(f":gray[:material/hourglass_empty: {text}]", width="content")


def no_source(reading: Reading[Any], *, is_alone: bool = False) -> None:
    """The data source has never answered.

    The banner above the page shows the reason; ``is_alone`` shows it here, where the banner is not visible.
    """
    is_said = console().status.live().problem == reading.problem and not is_alone
    why = "" if is_said else f" {reading.problem or 'There is no data source.'}"
    with st.container(horizontal_alignment="center", border=True):
        st.markdown(f":material/cloud_off: Nothing to show: no data has been read so far.{why}", width="content")


def no_permission(role: str) -> None:
    """The actor may not read this page; the text names who can change that."""
    with st.container(horizontal_alignment="center", border=True):
        st.markdown(
            f":material/lock: Your role here is {role}: it may not read this page. Ask an admin for a role in "
            "CONSOLE_PEOPLE.",
            width="content",
        )


def database_away(place: DeltaGenerator, reading: Reading[Any]) -> None:
    """Banner of every page while the database does not answer."""
    now = console().now()
    kept = f"You see the last good data, from {clock.both(reading.as_of, now)}. " if reading.as_of else ""
    place.error(
        f"{reading.problem} {kept}Nothing can be stored meanwhile.",
        title="The database is away",
        icon=":material/cloud_off:",
    )
