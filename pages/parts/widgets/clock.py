"""Times in the viewer's zone, with the distance from now."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

import streamlit as st

from services.domain.external import day_and_month, in_zone, named_zone, of_zone, time_or_none

PICKED = "times_in"
UTC_NAME = "UTC"


def pick() -> None:
    """Draw the choice of the time zone for tables and charts: the browser's zone, or UTC as in logs."""
    browser = str(getattr(_of_browser(), "key", UTC_NAME))
    if browser == UTC_NAME:
        st.caption("Holdfast · times in UTC")
        return
    st.segmented_control(
        "Times in", [browser, UTC_NAME], default=browser, required=True, key=PICKED, persist_state="session"
    )


def zone() -> tzinfo:
    """The chosen zone; the browser's zone by default."""
    return UTC if is_utc() else _of_browser()


def is_utc() -> bool:
    """Whether the viewer chose UTC."""
    return st.session_state.get(PICKED) == UTC_NAME


def _of_browser() -> tzinfo:
    return named_zone(st.context.timezone)


def zone_name() -> str:
    return str(getattr(zone(), "key", "UTC"))


def at(moment: datetime, now: datetime) -> str:
    """Time of day, with the date unless it is today."""
    shown = local(moment)
    today = local(now).date()
    return f"{shown:%H:%M:%S}" if shown.date() == today else f"{day_and_month(shown)} {shown:%Y %H:%M}"


def local(moment: datetime) -> datetime:
    """The time in the viewer's zone, also at the limits of the calendar."""
    return in_zone(moment, zone())


def instant(picked: datetime) -> datetime:
    """A time picked in the viewer's zone, in UTC."""
    return of_zone(picked, zone())


def given(text: str | None) -> datetime | None:
    """Parse a time in an address. A time without a zone is UTC. Returns None for any other text."""
    return time_or_none(text) or time_or_none(f"{text}+00:00")


def said(text: object, now: datetime) -> str:
    """Format a time that another service has written. Text that is not a time is returned unchanged."""
    moment = time_or_none(text)
    return at(moment, now) if moment else str(text)


def ago(moment: datetime, now: datetime) -> str:
    """The distance to a time in the past."""
    return f"{span(now - moment)} ago" if now - moment >= timedelta(seconds=1) else "just now"


def span(length: timedelta) -> str:
    """A duration in its largest suitable units."""
    seconds = max(int(length.total_seconds()), 0)
    if seconds < 90:
        return f"{seconds} s"
    if seconds < 90 * 60:
        return f"{seconds // 60} min"
    if seconds < 36 * 3600:
        hours, minutes = seconds // 3600, seconds % 3600 // 60
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{seconds // 86400} d"


def both(moment: datetime, now: datetime) -> str:
    """Time and distance: ``12:04:31 · 3 s ago``."""
    return f"{at(moment, now)} · {ago(moment, now)}"
