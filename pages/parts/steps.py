"""Newest, previous and next of a list that is paged by key; the place is in the address."""

from __future__ import annotations

import streamlit as st
from parts import clock, paging

from services.console import console
from services.console.paging import Paged


def places(name: str) -> tuple[str | None, str | None]:
    """``(before, after)`` as the address says."""
    before, after = (st.query_params.get(f"{name}_{side}") for side in ("before", "after"))
    return (str(before) if before else None), (str(after) if after else None)


def reset(*names: str) -> None:
    """For callbacks: back to the newest, because a filter has changed."""
    for name in names:
        paging.reset(f"{name}_before", f"{name}_after")


def buttons(name: str, page: Paged[object]) -> None:
    """The buttons, and how far back has been looked when that is not the end."""
    if page.looked_back_to is not None:
        seen = clock.both(page.looked_back_to, console().now())
        st.caption(f":material/search: Looked back to {seen}. Next goes on there.")
    if not (page.newer or page.older):
        return
    with st.container(horizontal=True, horizontal_alignment="right", vertical_alignment="center"):
        if page.newer:
            st.button("Newest", key=f"{name}_newest", icon=":material/first_page:", on_click=reset, args=(name,))
        _step(name, "Previous", "after", page.newer, "chevron_left")
        _step(name, "Next", "before", page.older, "chevron_right")


def _step(name: str, label: str, side: str, place: str | None, icon: str) -> None:
    st.button(
        label,
        key=f"{name}_{side}_step",
        icon=f":material/{icon}:",
        icon_position="right" if side == "before" else "left",
        disabled=place is None,
        on_click=_go,
        args=(name, side, place),
        shortcut="Ctrl+ArrowRight" if side == "before" else "Ctrl+ArrowLeft",
    )


def _go(name: str, side: str, place: str) -> None:
    reset(name)
    st.query_params[f"{name}_{side}"] = place
