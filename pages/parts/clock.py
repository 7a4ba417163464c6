"""Times as the viewer reads them: in the viewer's zone, with the distance from now beside them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import streamlit as st

PICKED = "times_in"
UTC_NAME = "UTC"


def pick() -> None:
    """The one choice of the zone for tables and charts: that of the browser, or UTC as in logs."""
    browser = str(getattr(_of_browser(), "key", UTC_NAME))
    if browser == UTC_NAME:
        st.caption("Holdfast · times in UTC")
        return
    st.segmented_control(
        "Times in", [browser, UTC_NAME], default=browser, required=True, key=PICKED, persist_state="session"
    )


def zone() -> tzinfo:
    """The zone that the viewer picked; at first that of the browser."""
    return UTC if is_utc() else _of_browser()


def is_utc() -> bool:
    """Whether times are to be shown in UTC although the browser may be elsewhere."""
    return st.session_state.get(PICKED) == UTC_NAME


def _of_browser() -> tzinfo:
    try:
        return ZoneInfo(st.context.timezone or "UTC")
    except (ZoneInfoNotFoundError, ValueError):
        return UTC


def zone_name() -> str:
    return str(getattr(zone(), "key", "UTC"))


def at(moment: datetime, now: datetime) -> str:
    """Time of day; with the date when it is not today's."""
    local = moment.astimezone(zone())
    today = now.astimezone(zone()).date()
    return f"{local:%H:%M:%S}" if local.date() == today else f"{local:%d %b %Y %H:%M}"


def ago(moment: datetime, now: datetime) -> str:
    """The distance to a time in the past."""
    return f"{span(now - moment)} ago" if now - moment >= timedelta(seconds=1) else "just now"


def span(length: timedelta) -> str:
    """A length of time in its largest sensible units."""
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
