"""Live panels: fragments that refresh by themselves, what they say when the data is old, and why writing is off."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages.parts import access, overrides
from pages.parts.widgets import clock, empty, list_window
from services.console.cache import Reading
from services.console.facade import console

REFRESH = "2s"
LIVE_KEY = "live"


class Frame(NamedTuple):
    """Places above a page's body that its refreshes fill."""

    badges: DeltaGenerator
    banner: DeltaGenerator
    says_worker: bool


def header(title: str, *, says_worker: bool = True) -> Frame:
    """Title, sandbox badge, time of the last look and the live switch; below them what is wrong everywhere.

    ``says_worker`` False: the page itself says it when no worker runs.

    What a refresh writes here may be lost: Streamlit drops what the browser has not fetched when the fragment that
    wrote it runs again. Each place is therefore the last one in its container, behind something that only the page
    itself writes: what is missing then moves no neighbour, and the browser finds every place where it was.
    """
    list_window.restore_lists(title)
    with st.container():
        with st.container(horizontal=True, vertical_alignment="center", gap="small", key="page_header"):
            with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
                st.title(title, width="content", anchor=False)
                badges = st.empty()
            st.toggle("Live", value=True, key=LIVE_KEY, persist_state="session")
        banner = st.empty()
    return Frame(badges, banner, says_worker)


def body(frame: Frame, draw: Callable[[], None], *, every: str = REFRESH) -> None:
    """Draw the page now and, while it is live, again every two seconds or as told.

    One fragment does all of it: each costs a script run, whatever it draws.
    """

    def refresh() -> None:
        _badges(frame.badges)
        _banner(frame)
        overrides.banner(access.write_block())
        draw()

    st.fragment(refresh, run_every=every if is_on() else None)()


def is_on() -> bool:
    """Whether the page refreshes itself."""
    return bool(st.session_state.get(LIVE_KEY, True))


def refreshing(draw: Callable[..., None], *args: Any) -> None:
    """Draw something that stands outside a page's body, as in a dialog, now and again as often as the body.

    Whatever can be asked for there is then off, with the reason, as soon as nothing can be stored.
    """
    st.fragment(draw, run_every=REFRESH if is_on() else None)(*args)


def _badges(place: DeltaGenerator) -> None:
    live = console().status.live().value
    is_sandbox = live.sandbox if live else console().status.is_sandbox
    badge = ":violet-badge[:material/science: SANDBOX] " * is_sandbox
    firing = console().alerts.firing()
    if firing.value:
        color = "gray" if firing.problem else "red"
        badge = f":{color}-badge[:material/notifications_active: {len(firing.value)} firing] {badge}"
    place.markdown(f"{badge}:small[:gray[{_looked()}]]", width="content")


def _looked() -> str:
    """When the page last saw anything new."""
    reading, now = console().status.live(), console().now()
    if not reading.problem:
        return f"Updated {clock.at(now, now)} {clock.zone_name()}"
    return f"Not updated since {clock.at(reading.as_of, now)} {clock.zone_name()}" if reading.as_of else "Never updated"


def _banner(frame: Frame) -> None:
    reading = console().status.live()
    live = reading.value
    if reading.problem:
        empty.database_away(frame.banner, reading)
    elif frame.says_worker and live and not live.is_running:
        seen = f"Last heard of {clock.both(live.silent_since, console().now())}. " if live.silent_since else ""
        frame.banner.error(
            f"{seen}Orders and events are not handled. What you ask for here is stored and will run when a worker "
            "is back.",
            title="No worker is running",
            icon=":material/heart_broken:",
        )
    else:
        frame.banner.empty()


def as_of(reading: Reading[Any], note: str = "") -> None:
    """One line that says from when the panel's data is."""
    if reading.as_of is None:
        return
    now = console().now()
    if reading.problem:
        old = f":orange-badge[:material/history: Old data: as of {clock.both(reading.as_of, now)}]"
        st.markdown(f"{old} :small[:gray[{note}]]" if note else old)
    else:
        st.caption(f"As of {clock.at(reading.as_of, now)}{f' · {note}' if note else ''}")


def shade(text: str, reading: Reading[Any]) -> str:
    """Text of data that is old in grey."""
    return f":gray[{text}]" if reading.problem else text
