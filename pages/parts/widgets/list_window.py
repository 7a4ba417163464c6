"""Lists that are paged by key: newest, previous, next, pause updates. The place is in the address.

A list shows new rows by itself until its reader pauses the updates, opens something in it or goes to another page.
Then the rows keep their places while their contents stay live: new rows are counted above the list, and rows that
no longer match stay where they are until the reader asks for the present list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import streamlit as st

from pages.parts import address
from pages.parts.widgets import clock, paging
from services.console.facade import console
from services.console.paging import NEW_LIMIT, NEWEST, Paged, Place

T = TypeVar("T")

BEFORE, AFTER, PAUSED = "before", "after", "held"
"""Suffixes of the parameters in the address."""

HERE, LEFT, RETURNED = "here", "left", "returned"
"""In the session: the open page, the lists paused when an order was opened, and those to restore on return."""


@dataclass(frozen=True)
class Window(Generic[T]):
    """The rows of a list to draw."""

    rows: Mapping[str, T]
    """By id, in order."""
    gone: frozenset[str]
    """Rows that are no longer in the list; they keep their place while its updates are paused."""
    page: Paged[T]
    older: str | None
    """Where the next page begins, behind the rows that are drawn."""
    is_paused: bool
    """Whether this is the newest page with its updates paused."""


def place(name: str) -> Place:
    """The place in the address, else the place at which the list was left for an order."""
    said = Place(*(address.get(f"{name}_{side}") or None for side in (BEFORE, AFTER, PAUSED)))
    return said if said != NEWEST else Place(paused_at=st.session_state.get(RETURNED, {}).get(name))


def reset(*names: str) -> None:
    """Callback: back to the newest rows, with updates, because a filter has changed."""
    for name in names:
        paging.reset(*(f"{name}_{side}" for side in (BEFORE, AFTER, PAUSED)))
        st.session_state.get(RETURNED, {}).pop(name, None)


def restore_lists(title: str) -> None:
    """Call when a page is drawn: restores its lists if the page before was the order opened from them."""
    if st.session_state.get(HERE) != title:
        st.session_state[HERE] = title
        st.session_state[RETURNED] = st.session_state.pop(LEFT, {})


def remember_lists() -> None:
    """Call on the page of an order: stores the places in the address of the lists from which it was opened.

    A step back does not restore them: it leads to the list's address as it was before the click.
    """
    end = f"_{PAUSED}"
    st.session_state[LEFT] = {
        name.removesuffix(end): values[-1] for name, values in address.every().items() if name.endswith(end)
    }


def window(name: str, filters: object, page: Paged[T], id_of: Callable[[T], str]) -> Window[T]:
    """The rows of a page; while the updates are paused, the rows from when they were paused.

    The kept rows belong to one set of ``filters`` and one place in the address.
    """
    if st.session_state.pop(_again(name), False) and page.top:
        address.put(f"{name}_{PAUSED}", page.top)
    here = place(name)
    fresh = {id_of(row): row for row in page.rows}
    is_paused = here.paused_at is not None and here.paused_at == page.top
    where = f"{filters}/{here}"
    kept_where, kept, older = st.session_state.get(_kept(name), (None, {}, None))
    if kept_where != where or not (is_paused or page.newer):
        st.session_state[_kept(name)] = (where, fresh, page.older)
        return Window(fresh, frozenset(), page, page.older, is_paused)
    rows = {row_id: fresh.get(row_id, row) for row_id, row in kept.items()}
    return Window(rows, frozenset(rows) - frozenset(fresh), page, older, is_paused)


def pause_button(name: str, window: Window[T]) -> None:
    """Pauses or resumes the updates of a list, and counts the rows that have come and gone since the pause."""
    page, gone = window.page, len(window.gone)
    # The list at another place has to be read from the database first.
    away = console().status.live().problem
    if page.new or gone:
        new = f"{NEW_LIMIT - 1}+" if page.new >= NEW_LIMIT else str(page.new)
        parts = [f"{new} new"] * bool(page.new) + [f"{gone} gone"] * bool(gone)
        st.button(
            f"{' · '.join(parts)} · show", key=f"show_new_{name}", icon=":material/refresh:", type="tertiary",
            help=away or "The present list; its updates are paused again after that.", disabled=away is not None,
            on_click=_show, args=(name,),
        )  # fmt: skip
    if window.is_paused:
        st.button(
            "Resume updates", key=f"follow_{name}", icon=":material/play_circle:", type="tertiary",
            help=away or "The updates are paused. Click to show new rows as they come.",
            disabled=away is not None, on_click=reset, args=(name,),
        )  # fmt: skip
    elif page.top and page.rows:
        st.button(
            "Pause updates", key=f"hold_{name}", icon=":material/pause_circle:", type="tertiary",
            help=away or "New rows are shown as they come. Click to count them instead.",
            disabled=away is not None, on_click=pause, args=(name, page.top),
        )  # fmt: skip


def pause(name: str, top: str | None) -> None:
    """Callback: pause the updates of a list, also when the reader has opened something in it."""
    if top and place(name).paused_at != top and not console().status.live().problem:
        reset(name)
        address.put(f"{name}_{PAUSED}", top)


def link_parameters(name: str, page: Paged[T]) -> dict[str, str]:
    """Parameters for a link out of the list, with which a step back finds the same rows."""
    return {f"{name}_{PAUSED}": page.top} if page.top else {}


def _kept(name: str) -> str:
    return f"standing_{name}"


def _again(name: str) -> str:
    return f"stand_again_{name}"


def _show(name: str) -> None:
    st.session_state.pop(_kept(name), None)
    if place(name).paused_at:
        reset(name)
        st.session_state[_again(name)] = True


def page_buttons(name: str, window: Window[T], *, has_keys: bool = True) -> None:
    """Newest, previous and next, and how far back a search has looked so far."""
    page = window.page
    if page.looked_back_to is not None:
        seen = clock.both(page.looked_back_to, console().now())
        st.caption(f":material/search: Looked back to {seen}. Next goes on there.")
    if not (page.newer or window.older):
        return
    with st.container(horizontal=True, horizontal_alignment="right", vertical_alignment="center"):
        if page.newer:
            st.button("Newest", key=f"{name}_newest", icon=":material/first_page:", on_click=reset, args=(name,))
        paging.backward(
            f"{name}_after_step", _go, (name, AFTER, page.newer), disabled=page.newer is None, has_key=has_keys
        )
        paging.forward(
            f"{name}_before_step", _go, (name, BEFORE, window.older), disabled=window.older is None,
            has_key=has_keys,
        )  # fmt: skip


def _go(name: str, side: str, where: str) -> None:
    reset(name)
    address.put(f"{name}_{side}", where)
