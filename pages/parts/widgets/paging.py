"""Paged lists. The place is in the address, so that reload, back and a shared link restore it.

Lists with several sort orders have numbered pages. Lists as long as the history of the service are paged by key. Such
a list shows new rows until its reader pauses the updates, opens a row or goes to another page. From then on the rows
keep their places, and only their contents are updated. New rows are counted above the list. Rows that no longer match
keep their places until the reader shows the present list.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

import streamlit as st

from pages.parts import address
from pages.parts.widgets import clock
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
    """The rows by id, in display order."""
    gone: frozenset[str]
    """Rows that are no longer in the list; they keep their place while its updates are paused."""
    page: Paged[T]
    older: str | None
    """The key at which the next page begins, after the drawn rows."""
    is_paused: bool
    """Whether this is the newest page with its updates paused."""


def place(name: str) -> Place:
    """The place in the address; without one, the place from which an order was opened."""
    said = Place(*(address.get(f"{name}_{side}") or None for side in (BEFORE, AFTER, PAUSED)))
    return said if said != NEWEST else Place(paused_at=st.session_state.get(RETURNED, {}).get(name))


def reset(*names: str) -> None:
    """Callback: go to the newest rows and resume the updates, for example after a change of a filter."""
    for name in names:
        address.drop(*(f"{name}_{side}" for side in (BEFORE, AFTER, PAUSED)))
        st.session_state.get(RETURNED, {}).pop(name, None)


def restore_lists(title: str) -> None:
    """Call when a page is drawn: restores its lists if the previous page was an order opened from them."""
    if st.session_state.get(HERE) != title:
        st.session_state[HERE] = title
        st.session_state[RETURNED] = st.session_state.pop(LEFT, {})


def remember_lists() -> None:
    """Call on the page of an order: stores the places of the lists from which the order was opened.

    The address has these places. A step back loses them, because it returns to the address from before the click.
    """
    end = f"_{PAUSED}"
    st.session_state[LEFT] = {
        name.removesuffix(end): values[-1] for name, values in address.every().items() if name.endswith(end)
    }


def window(name: str, filters: object, page: Paged[T], id_of: Callable[[T], str]) -> Window[T]:
    """The rows of a page; while the updates are paused, the rows from the moment of the pause.

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
    """Draw the button that pauses or resumes the updates, and the number of rows added and gone since the pause."""
    page, gone = window.page, len(window.gone)
    # The buttons are disabled without the database, because they read the list at another place.
    away = console().status.live().problem
    button = partial(st.button, type="tertiary", disabled=away is not None)
    if page.new or gone:
        new = f"{NEW_LIMIT - 1}+" if page.new >= NEW_LIMIT else str(page.new)
        parts = [f"{new} new"] * bool(page.new) + [f"{gone} gone"] * bool(gone)
        tip = away or "The present list; its updates are paused again after that."
        button(f"{' · '.join(parts)} · show", f"show_new_{name}", tip, _show, (name,), icon=":material/refresh:")
    if window.is_paused:
        tip = away or "The updates are paused. Click to show new rows as they come."
        button("Resume updates", f"follow_{name}", tip, reset, (name,), icon=":material/play_circle:")
    elif page.top and page.rows:
        tip = away or "New rows are shown as they come. Click to count them instead."
        button("Pause updates", f"hold_{name}", tip, pause, (name, page.top), icon=":material/pause_circle:")


def pause(name: str, top: str | None) -> None:
    """Callback: pause the updates of a list at its top row. Opening a row of the list calls it, too."""
    if top and place(name).paused_at != top and not console().status.live().problem:
        reset(name)
        address.put(f"{name}_{PAUSED}", top)


def link_parameters(name: str, page: Paged[T]) -> dict[str, str]:
    """Parameters for a link to another page, from which a step back restores the same rows."""
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


def page_buttons(name: str, window: Window[T]) -> None:
    """Draw the buttons newest, previous and next, and the time back to which a search has read so far."""
    page = window.page
    if page.looked_back_to is not None:
        seen = clock.both(page.looked_back_to, console().now())
        st.caption(f":material/search: Looked back to {seen}. Next goes on there.")
    if not (page.newer or window.older):
        return
    with st.container(horizontal=True, horizontal_alignment="right", vertical_alignment="center"):
        if page.newer:
            st.button("Newest", key=f"{name}_newest", icon=":material/first_page:", on_click=reset, args=(name,))
        _backward(f"{name}_after_step", partial(_go, name, AFTER, page.newer) if page.newer else None)
        _forward(f"{name}_before_step", partial(_go, name, BEFORE, window.older) if window.older else None)


def _go(name: str, side: str, where: str) -> None:
    reset(name)
    address.put(f"{name}_{side}", where)


def number(name: str) -> int:
    """The page of a list with numbered pages, from 1 on."""
    asked = address.get(name)
    return max(int(asked), 1) if asked.isdecimal() and len(asked) < 6 else 1


def numbered(name: str, count: int, size: int, *, keys: bool = False) -> None:
    """Draw the buttons of a list of known length. ``keys`` adds keyboard shortcuts, for one list of a page at most."""
    pages = max(math.ceil(count / size), 1)
    stepped(name, has_more=number(name) < pages, of=f" of {pages}", keys=keys)


def stepped(name: str, *, has_more: bool, of: str = "", keys: bool = False) -> None:
    """Draw the buttons of a list of unknown length. ``keys`` as in numbered()."""
    here = number(name)
    if not has_more and here == 1:
        return
    with st.container(horizontal=True, horizontal_alignment="right", vertical_alignment="center"):
        st.caption(f"Page {here}{of}", width="content")
        _backward(f"{name}_previous", partial(_turn, name, here - 1) if here > 1 else None, has_key=keys)
        _forward(f"{name}_next", partial(_turn, name, here + 1) if has_more else None, has_key=keys)


def _turn(name: str, page: int) -> None:
    if page == 1:
        address.drop(name)
    else:
        address.put(name, str(page))


def _backward(key: str, go: Callable[[], None] | None, *, has_key: bool = True) -> None:
    """The button towards the beginning of a list; disabled without ``go``."""
    st.button(
        "Previous", key=key, icon=":material/chevron_left:", disabled=go is None, on_click=go,
        shortcut="Ctrl+ArrowLeft" if has_key else None,
    )  # fmt: skip


def _forward(key: str, go: Callable[[], None] | None, *, has_key: bool = True) -> None:
    """The button towards the end of a list; disabled without ``go``."""
    st.button(
        "Next", key=key, icon=":material/chevron_right:", icon_position="right", disabled=go is None, on_click=go,
        shortcut="Ctrl+ArrowRight" if has_key else None,
    )  # fmt: skip
