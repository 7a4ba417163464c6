"""Expanders that a link and a step back restore, because the address lists the open ones.

The parameter is not bound to a widget, because a bound parameter is lost after a step back from an order.
"""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from pages.parts import address

OPEN = "open"
MOST = 20
"""Maximum names in the address; the latest are kept."""

_BETWEEN = "~"


def opened() -> list[str]:
    """Names of the open expanders, the latest last."""
    return [name for name in address.get(OPEN).split(_BETWEEN) if name][-MOST:]


def reset() -> None:
    """Callback: close every expander."""
    address.drop(OPEN)


def part(
    label: str,
    name: str,
    draw: Callable[[], object],
    *,
    is_compact: bool = True,
    touched: Callable[[], None] | None = None,
) -> None:
    """Draw an expander and, while it is open, its content. ``touched`` runs when it is opened or closed."""
    key = f"unfold_{name}"
    # The address decides whether the expander is open, also after a step back.
    st.session_state[key] = name in opened()
    box = st.expander(
        label, key=key, type="compact" if is_compact else "default", on_change=_toggle, args=(name, key, touched)
    )
    if box.open:
        with box:
            draw()


def _toggle(name: str, key: str, touched: Callable[[], None] | None) -> None:
    others = [one for one in opened() if one != name]
    names = [*others, name] if st.session_state.get(key) else others
    address.put(OPEN, _BETWEEN.join(names[-MOST:]))
    if touched:
        touched()
