"""The work area at the side of a page: one item of its list, which a parameter of the address names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import streamlit as st

from pages.parts import address, comparison, labels, overlay
from pages.parts.widgets import payloads


@dataclass(frozen=True)
class WorkArea:
    """The work area of one kind of items."""

    parameter: str
    """The parameter of the address with the id of the open item."""
    title: str
    """The words before the id."""
    icon: str

    def opened(self) -> str:
        """The id of the open item; empty without one."""
        return address.get(self.parameter)[:128]

    def open(self, item_id: str) -> None:
        """Open an item. The whole page runs again, because the work area is outside the live part."""
        address.put(self.parameter, item_id)
        st.rerun()

    def close(self, item_id: str) -> None:
        """Close an item. Another item, opened in the meantime, stays open."""
        if self.opened() == item_id:
            address.drop(self.parameter)
            payloads.close()
            st.session_state.pop(comparison.LOOKED_UP, None)

    def draw(self, content: Callable[[str], None]) -> None:
        """Draw the open item, if any; its refreshes keep typed text."""
        if item_id := self.opened():
            title = f"{self.title} {labels.plain(item_id)}"
            close = partial(self.close, item_id)
            overlay.drawer(title, overlay.refreshing, content, item_id, icon=self.icon, on_dismiss=close)

    def back(self, item_id: str) -> None:
        """The button that closes the item."""
        # The shortcut is needed, because a dialog without the focus does not receive Escape.
        # A disabled button loses the focus to the page.
        if st.button(
            "Back", key=f"close_{self.parameter}", type="tertiary", icon=":material/arrow_back:", shortcut="Escape"
        ):
            self.close(item_id)
            st.rerun()
