"""The four empty states: nothing wrong, nothing matches, no data source, no permission."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from services.console.cache import Reading
from services.console.facade import console

T = TypeVar("T")


def nothing_wrong(text: str) -> None:
    """The list is empty because there is no problem."""
    _box(f":green[:material/check_circle:] {text}")


def nothing_matches(text: str, clear: Callable[[], None] | None = None, *, key: str = "clear_filters") -> None:
    """No row matches the filters; a button clears them."""
    with _box(f":material/filter_alt_off: {text}"):
        if clear:
            st.button("Clear filters", icon=":material/close:", on_click=clear, key=key)


def no_data_yet(text: str) -> None:
    """Nothing has been recorded so far."""
    _box(f":gray[:material/hourglass_empty: {text}]")


def no_source(reading: Reading[Any], *, is_alone: bool = False) -> None:
    """The data source has never answered.

    The banner above the page shows the reason; ``is_alone`` shows it here, where the banner is not visible.
    """
    is_said = console().status.live().problem == reading.problem and not is_alone
    why = "" if is_said else f" {reading.problem or 'There is no data source.'}"
    _box(f":material/cloud_off: Nothing to show: no data has been read so far.{why}")


def value_of(reading: Reading[T]) -> T | None:
    """The value of a reading; without one, draws that the data source has never answered."""
    if reading.value is None:
        no_source(reading)
    return reading.value


def no_permission(role: str) -> None:
    """The actor may not read this page; the text names who can change that."""
    reason = f"Your role here is {role}: it may not read this page."
    _box(f":material/lock: {reason} Ask an admin for a role in CONSOLE_PEOPLE.")


def _box(text: str) -> DeltaGenerator:
    box = st.container(horizontal_alignment="center", border=True)
    box.markdown(text, width="content")
    return box
