"""Lists that are paged by key: newest, previous, next, and standing still under a reader. The place is in the address.

A list follows what comes until its reader holds it still, opens something in it or goes to another page. Then its
rows keep their places, while what they say stays live: new ones are announced, and those that match no
longer stay where they are until the reader asks for the list as it is now.
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

BEFORE, AFTER, HELD = "before", "after", "held"

HERE, LEFT, RETURNED = "here", "left", "returned"
"""In the session: the page that is open, the lists as they were left for an order, and those come back to."""


@dataclass(frozen=True)
class Standing(Generic[T]):
    """What to draw of a list."""

    rows: Mapping[str, T]
    """By id, in order."""
    gone: frozenset[str]
    """Rows that are no longer in the list; they keep their place while it is held."""
    page: Paged[T]
    older: str | None
    """Where the next page begins, behind the rows that are drawn."""
    is_held: bool
    """Whether this is the newest page, standing still."""


def place(name: str) -> Place:
    """What the address says; where it says nothing, the place at which the list was left for an order."""
    said = Place(*(address.get(f"{name}_{side}") or None for side in (BEFORE, AFTER, HELD)))
    return said if said != NEWEST else Place(held=st.session_state.get(RETURNED, {}).get(name))


def reset(*names: str) -> None:
    """For callbacks: back to the newest, because a filter has changed; the list follows again."""
    for name in names:
        paging.reset(*(f"{name}_{side}" for side in (BEFORE, AFTER, HELD)))
        st.session_state.get(RETURNED, {}).pop(name, None)


def arrive(title: str) -> None:
    """Call when a page is drawn: lists come back to as they were left, when that was for the page before."""
    if st.session_state.get(HERE) != title:
        st.session_state[HERE] = title
        st.session_state[RETURNED] = st.session_state.pop(LEFT, {})


def leave() -> None:
    """Call on the page of an order: the address says at which place the list stands from which it was opened.

    A step back does not bring that: it leads to the list's address as it was before the click.
    """
    end = f"_{HELD}"
    st.session_state[LEFT] = {
        name.removesuffix(end): values[-1] for name, values in address.every().items() if name.endswith(end)
    }


def stand(name: str, said: object, page: Paged[T], id_of: Callable[[T], str]) -> Standing[T]:
    """The rows of a page, or, while the reader looks at them, those that were there when the reader came.

    ``said`` are the filters: what is kept belongs to them and to the place in the address alone.
    """
    if st.session_state.pop(_again(name), False) and page.top:
        address.put(f"{name}_{HELD}", page.top)
    here = place(name)
    fresh = {id_of(row): row for row in page.rows}
    is_held = here.held is not None and here.held == page.top
    where = f"{said}/{here}"
    kept_where, kept, older = st.session_state.get(_kept(name), (None, {}, None))
    if kept_where != where or not (is_held or page.newer):
        st.session_state[_kept(name)] = (where, fresh, page.older)
        return Standing(fresh, frozenset(), page, page.older, is_held)
    rows = {row_id: fresh.get(row_id, row) for row_id, row in kept.items()}
    return Standing(rows, frozenset(rows) - frozenset(fresh), page, older, is_held)


def switch(name: str, standing: Standing[T]) -> None:
    """Holds the list or lets it follow, and says what has come and gone meanwhile."""
    page, gone = standing.page, len(standing.gone)
    # The list at another place would have to be read first.
    away = console().status.live().problem
    if page.new or gone:
        new = f"{NEW_LIMIT - 1}+" if page.new >= NEW_LIMIT else str(page.new)
        parts = [f"{new} new"] * bool(page.new) + [f"{gone} gone"] * bool(gone)
        st.button(
            f"{' · '.join(parts)} · show", key=f"show_new_{name}", icon=":material/refresh:", type="tertiary",
            help=away or "The list as it is now; it stands still again after that.", disabled=away is not None,
            on_click=_show, args=(name,),
        )  # fmt: skip
    if standing.is_held:
        st.button(
            "Follow", key=f"follow_{name}", icon=":material/play_circle:", type="tertiary",
            help=away or "The list stands still. Click to let new rows come in by themselves.",
            disabled=away is not None, on_click=reset, args=(name,),
        )  # fmt: skip
    elif page.top and page.rows:
        st.button(
            "Hold still", key=f"hold_{name}", icon=":material/pause_circle:", type="tertiary",
            help=away or "New rows come in by themselves. Click to have them announced instead.",
            disabled=away is not None, on_click=hold, args=(name, page.top),
        )  # fmt: skip


def hold(name: str, top: str | None) -> None:
    """For callbacks: the reader has touched the list, so it stands still from now on."""
    if top and place(name).held != top and not console().status.live().problem:
        reset(name)
        address.put(f"{name}_{HELD}", top)


def mark(name: str, page: Paged[T]) -> dict[str, str]:
    """For links out of the list: what its address has to carry so that a step back finds these very rows."""
    return {f"{name}_{HELD}": page.top} if page.top else {}


def _kept(name: str) -> str:
    return f"standing_{name}"


def _again(name: str) -> str:
    return f"stand_again_{name}"


def _show(name: str) -> None:
    st.session_state.pop(_kept(name), None)
    if place(name).held:
        reset(name)
        st.session_state[_again(name)] = True


def buttons(name: str, standing: Standing[T], *, has_keys: bool = True) -> None:
    """The buttons, and how far back has been looked when that is not the end."""
    page = standing.page
    if page.looked_back_to is not None:
        seen = clock.both(page.looked_back_to, console().now())
        st.caption(f":material/search: Looked back to {seen}. Next goes on there.")
    if not (page.newer or standing.older):
        return
    with st.container(horizontal=True, horizontal_alignment="right", vertical_alignment="center"):
        if page.newer:
            st.button("Newest", key=f"{name}_newest", icon=":material/first_page:", on_click=reset, args=(name,))
        paging.backward(
            f"{name}_after_step", _go, (name, AFTER, page.newer), disabled=page.newer is None, has_key=has_keys
        )
        paging.forward(
            f"{name}_before_step", _go, (name, BEFORE, standing.older), disabled=standing.older is None,
            has_key=has_keys,
        )  # fmt: skip


def _go(name: str, side: str, where: str) -> None:
    reset(name)
    address.put(f"{name}_{side}", where)
