"""The frame of a page: header, banner and the fragment that refreshes the body."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages.parts import actions, overlay, overrides
from pages.parts.widgets import clock, empty, list_filters, paging
from pages.parts.work_area import WorkArea
from services.console.cache import Reading
from services.console.facade import console


def page(
    title: str,
    draw: Callable[[], None],
    *,
    fixed: Callable[[], None] | None = None,
    filter_keys: tuple[str, ...] = (),
    note: str = "",
    every: str = overlay.REFRESH,
    says_worker: bool = True,
    area: WorkArea | None = None,
) -> None:
    """Draw title, badges, live switch, banner and ``note``, then ``fixed``, and ``draw`` now and every ``every``.

    ``fixed`` draws what no refresh draws again, such as the filters. A step back restores those of ``filter_keys``.
    ``says_worker`` is False on a page that reports a missing worker itself. The page shows the message of the last
    callback, unless ``area`` is open, which then shows it.

    Streamlit drops an element that the browser has not fetched when the fragment that wrote it runs again. The badges
    and the banner are therefore the last ones in their containers, behind an element that only the page writes. A
    missing element then moves no neighbour, and the browser finds every place again.
    """
    paging.restore_lists(title)
    with st.container():
        with st.container(horizontal=True, vertical_alignment="center", gap="small", key="page_header"):
            with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
                st.title(title, width="content", anchor=False)
                badges = st.empty()
            st.toggle("Live", value=True, key=overlay.LIVE_KEY, persist_state="session")
        banner = st.empty()
    if note:
        st.caption(note)
    if filter_keys:
        list_filters.restore(*filter_keys)
    if fixed:
        fixed()
    if filter_keys:
        list_filters.remember(*filter_keys)

    # One fragment draws the whole body, because each fragment costs a script run.
    def refresh() -> None:
        _badges(badges)
        _banner(banner, says_worker=says_worker)
        overrides.banner()
        draw()
        if area is None or not area.opened():
            actions.flash()

    st.fragment(refresh, run_every=every if overlay.is_live() else None)()


def _badges(place: DeltaGenerator) -> None:
    badge = ":violet-badge[:material/science: SANDBOX] " * console().status.is_sandbox
    firing = console().alerts.firing()
    if firing.value:
        color = "gray" if firing.problem else "red"
        badge = f":{color}-badge[:material/notifications_active: {len(firing.value)} firing] {badge}"
    place.markdown(f"{badge}:small[:gray[{_looked()}]]", width="content")


def _looked() -> str:
    """The time of the last successful read."""
    reading, now = console().status.live(), console().now()
    if not reading.problem:
        return f"Updated {clock.at(now, now)} {clock.zone_name()}"
    return f"Not updated since {clock.at(reading.as_of, now)} {clock.zone_name()}" if reading.as_of else "Never updated"


def _banner(place: DeltaGenerator, *, says_worker: bool) -> None:
    reading, now = console().status.live(), console().now()
    live = reading.value
    if reading.problem:
        kept = f"You see the last good data, from {clock.both(reading.as_of, now)}. " if reading.as_of else ""
        place.error(
            f"{reading.problem} {kept}Nothing can be stored meanwhile.",
            title="The database is away",
            icon=":material/cloud_off:",
        )
    elif says_worker and live and not live.is_running:
        seen = f"Last heard of {clock.both(live.silent_since, now)}. " if live.silent_since else ""
        place.error(
            f"{seen}Orders and events are not handled. What you ask for here is stored and will run when a worker "
            "is back.",
            title="No worker is running",
            icon=":material/heart_broken:",
        )
    else:
        place.empty()


def as_of(reading: Reading[Any], note: str = "") -> None:
    """A line with the time of the panel's data."""
    if reading.as_of is None:
        return
    now = console().now()
    if reading.problem:
        old = f":orange-badge[:material/history: Old data: as of {clock.both(reading.as_of, now)}]"
        st.markdown(f"{old} :small[:gray[{note}]]" if note else old)
    else:
        st.caption(f"As of {clock.at(reading.as_of, now)}{f' · {note}' if note else ''}")


def missing(reading: Reading[Any], text: str, *, is_alone: bool = False) -> None:
    """Draw that the one item of a page does not exist, or that the data source has not answered."""
    if reading.as_of is None:
        empty.no_source(reading, is_alone=is_alone)
    else:
        as_of(reading)
        empty.nothing_matches(text)


def shade(text: str, reading: Reading[Any]) -> str:
    """Text, in grey if the data is old."""
    return f":gray[{text}]" if reading.problem else text
