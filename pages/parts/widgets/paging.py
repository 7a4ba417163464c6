"""Previous and next buttons of a list. The page is in the address, so that reload, back and a shared link restore it.

Lists with several sort orders have numbered pages; lists as long as the history of the service are paged by key
(list_window).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import streamlit as st

from pages.parts import address


def number(name: str) -> int:
    """The page in the address, from 1 on."""
    asked = address.get(name)
    return max(int(asked), 1) if asked.isdecimal() and len(asked) < 6 else 1


def reset(*names: str) -> None:
    """Callback: go to the first page, for example after a change of a filter."""
    address.drop(*names)


def numbered(name: str, count: int, size: int, *, keys: bool = False) -> None:
    """Draw the buttons of a list of known length. ``keys`` adds keyboard shortcuts, for one list of a page at most."""
    pages = max(math.ceil(count / size), 1)
    here = number(name)
    if pages > 1 or here > 1:
        _buttons(name, here, has_more=here < pages, label=f"Page {here} of {pages}", keys=keys)


def stepped(name: str, *, has_more: bool, keys: bool = False) -> None:
    """Draw the buttons of a list of unknown length. ``keys`` as in numbered()."""
    here = number(name)
    if has_more or here > 1:
        _buttons(name, here, has_more=has_more, label=f"Page {here}", keys=keys)


def _buttons(name: str, here: int, *, has_more: bool, label: str, keys: bool) -> None:
    with st.container(horizontal=True, horizontal_alignment="right", vertical_alignment="center"):
        st.caption(label, width="content")
        backward(f"{name}_previous", _go, (name, here - 1), disabled=here <= 1, has_key=keys)
        forward(f"{name}_next", _go, (name, here + 1), disabled=not has_more, has_key=keys)


def backward(key: str, go: Callable[..., None], args: tuple[Any, ...], *, disabled: bool, has_key: bool) -> None:
    """The button towards the beginning of a list."""
    st.button(
        "Previous", key=key, icon=":material/chevron_left:", disabled=disabled, on_click=go, args=args,
        shortcut="Ctrl+ArrowLeft" if has_key else None,
    )  # fmt: skip


def forward(key: str, go: Callable[..., None], args: tuple[Any, ...], *, disabled: bool, has_key: bool) -> None:
    """The button towards the end of a list."""
    st.button(
        "Next", key=key, icon=":material/chevron_right:", icon_position="right", disabled=disabled, on_click=go,
        args=args, shortcut="Ctrl+ArrowRight" if has_key else None,
    )  # fmt: skip


def _go(name: str, page: int) -> None:
    if page <= 1:
        reset(name)
    else:
        address.put(name, str(page))
