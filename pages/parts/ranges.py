"""The time range of the Metrics page: a preset or two times in the zone of the viewer, kept in the URL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import streamlit as st

from pages.parts import address, incident_impact
from pages.parts.widgets import clock, paging
from services.console.facade import console
from services.console.metric_history import PRESETS, Wanted

KEY, FROM, TO = "range", "from", "to"
CUSTOM = "custom"
DEFAULT = "1h"


def picker() -> None:
    """Presets as buttons; ``custom`` adds two inputs for times."""
    with st.container(horizontal=True, vertical_alignment="bottom", width="content"):
        st.segmented_control(
            "Time range",
            [*PRESETS, CUSTOM],
            key=KEY,
            default=DEFAULT,
            required=True,
            bind="query-params",
            on_change=_changed,
        )
        if st.session_state.get(KEY) == CUSTOM:
            wanted = chosen()
            for name, label, at in ((FROM, "From", wanted.start), (TO, "To", wanted.end)):
                st.datetime_input(
                    f"{label} ({clock.zone_name()})",
                    value=clock.local(at).replace(tzinfo=None) if at else None,
                    key=f"at_{name}",
                    step=timedelta(minutes=1),
                    width=210,
                    on_change=_typed,
                )


def chosen() -> Wanted:
    """The time range in the URL; an invalid one counts as the last hour."""
    preset = str(st.session_state.get(KEY) or DEFAULT)
    if preset != CUSTOM:
        return Wanted(preset)
    end = _moment(address.get(TO)) or console().now().replace(second=0, microsecond=0)
    start = _moment(address.get(FROM)) or end - timedelta(hours=1)
    return Wanted(CUSTOM, start, end) if start < end else Wanted(DEFAULT)


def show(start: datetime, end: datetime) -> None:
    """Callback: show the interval between two times."""
    st.session_state[KEY] = CUSTOM
    _write(start, end)


def last_hour() -> None:
    """Callback: show the last hour."""
    st.session_state[KEY] = DEFAULT
    paging.reset(FROM, TO, incident_impact.PARAMETER, incident_impact.PAGE)


def _changed() -> None:
    if st.session_state.get(KEY) != CUSTOM:
        paging.reset(FROM, TO)


def _typed() -> None:
    start, end = (st.session_state.get(f"at_{name}") for name in (FROM, TO))
    if start and end:
        _write(clock.instant(start), clock.instant(end))


def _write(start: datetime, end: datetime) -> None:
    for name, moment in ((FROM, start), (TO, end)):
        address.put(name, moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"))
        st.session_state.pop(f"at_{name}", None)


def _moment(text: str | None) -> datetime | None:
    return clock.given(text)
