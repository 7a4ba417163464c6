"""Buttons for one action on all items that match a filter, up to a limit; they are separate from the selection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import streamlit as st

from pages.parts import access, bulk
from services.console.bulk import BulkRequest
from state.engine.source import SourceUnavailable


@dataclass(frozen=True)
class MatchingAction:
    """A button that previews one action on all matching items."""

    key: str
    label: str
    freeze: Callable[[], BulkRequest]
    """Freezes the items that match now. Raises SourceUnavailable."""
    help: str | None = None
    icon: str = ":material/playlist_play:"
    type: Literal["secondary", "tertiary"] = "tertiary"


def bar(choices: Sequence[MatchingAction], *, narrow_first: str | None) -> None:
    """Draw the buttons. ``narrow_first`` disables them and is the hint to set a filter first."""
    block = access.write_block()
    hint = narrow_first if block is None and choices else None
    block = block or hint
    with st.container(horizontal=True, vertical_alignment="center", key="matching_bar"):
        clicked = [
            choice
            for choice in choices
            if st.button(
                choice.label,
                key=choice.key,
                icon=choice.icon,
                type=choice.type,
                disabled=block is not None,
                help=block or choice.help,
            )
        ]
    if hint:
        st.caption(f":material/info: {hint}")
    for choice in clicked:
        _preview(choice)


def _preview(choice: MatchingAction) -> None:
    try:
        frozen = choice.freeze()
    except SourceUnavailable as error:
        st.toast(str(error), icon=":material/error:")
        return
    if frozen.targets:
        bulk.open_preview(frozen)
