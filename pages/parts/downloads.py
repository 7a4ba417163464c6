"""Downloads that are made when they are asked for, from what the filters said when the page was drawn."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from services.console.cache import SourceUnavailable
from services.console.csv_files import MAX_ROWS


def csv(name: str, make: Callable[[], str], *, key: str, what: str) -> None:
    """A button for a CSV file; what is too much for one file is said beforehand.

    ``make`` runs when the button is clicked, outside of any script run: it finds neither session state nor address.
    """

    def content() -> str:
        try:
            return make()
        except SourceUnavailable as error:
            return f"problem\n{error}\n"

    st.download_button(
        "CSV",
        content,
        file_name=f"{name}.csv",
        mime="text/csv",
        key=key,
        icon=":material/download:",
        type="tertiary",
        on_click="ignore",
        help=f"{what}, at most the newest {MAX_ROWS:,}; times in UTC.",
    )
