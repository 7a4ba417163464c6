"""Selection of rows by id, with a check box for each row. A list keeps its rows while some of them are selected."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import streamlit as st

T = TypeVar("T")


@dataclass(frozen=True)
class Shown(Generic[T]):
    """The rows to draw, by id and in display order."""

    rows: Mapping[str, T]
    gone: frozenset[str]
    """Rows that are no longer in the list; they stay in their place until the selection ends."""
    new: int
    """Number of rows that have been added to the list since the selection began; they are not drawn."""
    picked: tuple[str, ...]


def box_key(name: str, row_id: str) -> str:
    return f"pick_{name}_{row_id}"


def keep(name: str, place: str, fresh: Mapping[str, T]) -> Shown[T]:
    """The fresh rows, or while some rows are selected, the rows from when the selection began.

    ``place`` names the filter and the page. Rows that were kept for another place are dropped.
    """
    key = f"kept_{name}"
    kept_place, kept = st.session_state.get(key, (None, {}))
    picked = [row_id for row_id in kept if st.session_state.get(box_key(name, row_id))] if kept_place == place else []
    if not any(row_id in fresh for row_id in picked):
        st.session_state[key] = (place, dict(fresh))
        return Shown(fresh, frozenset(), 0, ())
    gone = frozenset(kept) - frozenset(fresh)
    rows = {row_id: fresh.get(row_id, row) for row_id, row in kept.items()}
    new = len(frozenset(fresh) - frozenset(kept))
    return Shown(rows, gone, new, tuple(row_id for row_id in picked if row_id not in gone))


def show_new(name: str, place: str, fresh: Mapping[str, T], shown: Shown[T]) -> None:
    """Draw the button that shows the fresh rows during a selection. Selected rows stay selected."""
    if shown.new or shown.gone:
        parts = [f"{shown.new} new"] * bool(shown.new) + [f"{len(shown.gone)} gone"] * bool(shown.gone)
        st.button(
            f"{' · '.join(parts)} · show",
            key=f"show_new_{name}",
            icon=":material/refresh:",
            type="tertiary",
            on_click=_follow,
            args=(name, place, dict(fresh)),
        )


def _follow(name: str, place: str, fresh: Mapping[str, T]) -> None:
    st.session_state[f"kept_{name}"] = (place, dict(fresh))


def box(name: str, row_id: str, label: str, *, disabled: bool = False) -> None:
    st.checkbox(label, key=box_key(name, row_id), label_visibility="collapsed", disabled=disabled)


def pick_all(name: str, row_ids: Sequence[str]) -> None:
    """Callback: select rows."""
    st.session_state.update({box_key(name, row_id): True for row_id in row_ids})


def pick_none(name: str, row_ids: Sequence[str]) -> None:
    """Callback: clear the selection of rows."""
    for row_id in row_ids:
        if box_key(name, row_id) in st.session_state:
            st.session_state[box_key(name, row_id)] = False


def bar(
    name: str, rows: Sequence[str], selectable: Sequence[str], picked: Sequence[str], act: Callable[[], None]
) -> None:
    """Draw the button that selects every row. During a selection, ``act`` draws the actions on the selected rows."""
    with st.container(horizontal=True, vertical_alignment="center", key=f"{name}_bar"):
        if not picked:
            st.button(
                "Select all shown",
                key=f"pick_all_{name}s",
                icon=":material/select_all:",
                type="tertiary",
                on_click=pick_all,
                args=(name, list(selectable)),
            )
            return
        st.markdown(f"**{len(picked)} selected**", width="content")
        act()
        st.button(
            "Clear selection",
            key=f"pick_none_{name}s",
            type="tertiary",
            on_click=pick_none,
            args=(name, list(rows)),
        )
