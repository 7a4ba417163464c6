"""Parts that are folded away until somebody asks for them; which ones are open stands in the address.

Not bound to the widget: what stands in the address by itself goes along to an order and comes back with a step back.
"""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from pages.parts import address

OPEN = "open"
MOST = 20
"""Kept in the address; of more the latest."""

_BETWEEN = "~"


def opened() -> list[str]:
    """What is open, the latest last."""
    return [name for name in address.get(OPEN).split(_BETWEEN) if name][-MOST:]


def reset() -> None:
    """For callbacks: everything folded."""
    address.drop(OPEN)


def part(
    label: str,
    name: str,
    draw: Callable[[], object],
    *,
    is_compact: bool = True,
    touched: Callable[[], None] | None = None,
) -> None:
    """One part, drawn only while it is open; ``touched`` runs when somebody opens or folds it."""
    key = f"unfold_{name}"
    # The address decides, also when it changes by a step back.
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
    if names:
        address.put(OPEN, _BETWEEN.join(names[-MOST:]))
    else:
        reset()
    if touched:
        touched()
