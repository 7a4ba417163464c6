"""A page's list that is paged by key: filters, the line above the rows, the rows, and the page buttons.

The filters are bound to the address.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any, Protocol

import streamlit as st

from pages.parts import frame, labels
from pages.parts.widgets import empty, list_filters, paging
from services.console.audit import AuditPage
from services.console.cache import Reading
from services.console.facade import console
from services.console.orders import OrdersPage
from services.console.paging import Paged

Times = Mapping[str, tuple[str, timedelta]]
"""Choices of a relative time, each with its label and length."""


class DrawRow(Protocol):
    """Draws a row of a page. ``gone``: the row has left the paused list. ``grey``: its data is old, or it is gone."""

    def __call__(self, row: Any, page: Paged[Any], /, *, gone: bool, grey: bool) -> None: ...


def draw(
    name: str,
    reading: Reading[Any],
    filters: object,
    id_of: Callable[[Any], str],
    row: DrawRow,
    *,
    summary: Callable[[Any], str],
    nothing: Callable[[], None],
    above: Callable[[Any], None] | None = None,
    rows_of: Callable[[Any], Paged[Any]] = attrgetter("rows"),
) -> None:
    """Draw one page of a list. ``nothing`` draws its empty state, ``above`` a panel between the summary and the rows.

    ``filters`` identifies the rows that are kept while the updates are paused.
    """
    if (found := empty.value_of(reading)) is None:
        return
    page = rows_of(found)
    window = paging.window(name, filters, page, id_of)
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        frame.as_of(reading, summary(found))
        paging.pause_button(name, window)
    if above:
        above(found)
    if window.rows:
        with st.container(border=True, gap="small"):
            for row_id, shown in window.rows.items():
                gone = row_id in window.gone
                row(shown, page, gone=gone, grey=gone or bool(reading.problem))
    else:
        nothing()
    paging.page_buttons(name, window)


def matches(page: OrdersPage | AuditPage, noun: str, *, is_filtered: bool) -> str:
    """The number of rows as text: ``1 order matches``, ``1,000 or more orders``."""
    verb = f" match{'es' * (page.count == 1)}" * is_filtered
    return f"{page.count:,}{' or more' * page.is_count_capped} {noun}{'s' * (page.count != 1)}{verb}"


def nothing(noun: str, none_yet: str, clear: Callable[[], None], *, is_filtered: bool) -> None:
    """Draw that no row matches the filters, or without filters, that there is no row yet."""
    if is_filtered:
        empty.nothing_matches(f"No {noun} matches. Ids are searched as a whole, not in part.", clear)
    else:
        empty.no_data_yet(none_yet)


# -- filters --------------------------------------------------------------------------------------


def search(
    label: str, key: str, placeholder: str, changed: Callable[[], None] | None, *, width: int = list_filters.HALF
) -> None:
    """A field for an id or a text. ``changed`` runs after a change, here and in the other filters."""
    st.text_input(
        label,
        key=key,
        type="search",
        placeholder=placeholder,
        bind="query-params",
        width=width,
        max_chars=list_filters.MAX_TEXT,
        icon=":material/search:",
        on_change=changed,
    )


def choice(
    label: str,
    key: str,
    options: Sequence[str],
    every: str | None,
    changed: Callable[[], None],
    *,
    name: Callable[[str], str] = str,
    width: int = list_filters.HALF,
) -> None:
    """A choice of one option. Without a choice it shows ``every``, or the first option if ``every`` is None.

    ``name`` returns the label of an option.
    """
    st.selectbox(
        label,
        options,
        index=0 if every is None else None,
        key=key,
        placeholder=every,
        format_func=name,
        bind="query-params",
        width=width,
        on_change=changed,
    )


def segments(label: str, key: str, options: Mapping[str, str], changed: Callable[[], None]) -> None:
    """A choice of one of a few labelled options; the first is the default."""
    st.segmented_control(
        label,
        list(options),
        default=next(iter(options)),
        required=True,
        format_func=options.__getitem__,
        key=key,
        bind="query-params",
        on_change=changed,
    )


def since(times: Times, chosen: str | None) -> datetime | None:
    """The begin of a relative time at a full minute, so that all viewers share one reading; None without a choice."""
    return console().now().replace(second=0, microsecond=0) - times[chosen][1] if chosen else None


def tag(text: str, icon: str, drop: Callable[[], None], label: str, key: str, color: labels.Color = "blue") -> None:
    """A filter that a link has set, with the button ``label`` that removes it."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.badge(text, icon=f":material/{icon}:", color=color)
        st.button(label, key=key, type="tertiary", icon=":material/close:", on_click=drop)
