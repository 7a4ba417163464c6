"""The Audit page: actions with their actor, time, reason, changes and result."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import streamlit as st

from pages.parts import address, frame, labels
from pages.parts.widgets import audit_links, clock, empty, list_filters, paging, timeline
from services.console.audit import AuditPage
from services.console.facade import console
from state.audit import AuditEntry, AuditFilter

TIMES = {
    "shift": ("Last 8 hours", timedelta(hours=8)),
    "day": ("Last day", timedelta(days=1)),
    "week": ("Last week", timedelta(weeks=1)),
    "month": ("Last 30 days", timedelta(days=30)),
}
NAME = "audit"
FILTER_KEYS = ("who", "did", "target", "within")


def filters() -> None:
    known = console().audit.people_and_actions().value or ((), ())
    with st.container(horizontal=True, vertical_alignment="bottom"):
        _choice("Person", "who", _with(known[0], "who"), "Everybody", list_filters.HALF)
        _choice("Action", "did", _with(known[1], "did"), "Every action", list_filters.HALF)
        st.text_input(
            "Target", key="target", type="search", placeholder="Order, target or command id", bind="query-params",
            width=200, max_chars=128, icon=":material/search:", on_change=paging.reset, args=(NAME,),
        )  # fmt: skip
        _choice("Time", "within", list(TIMES), "Any time", 145)
        list_filters.search_button("target", "Order, target or command id", _clear)
        said = _said()
        list_filters.csv(
            "audit", lambda: console().audit.csv(_wanted(said)), key="audit_csv", what="The actions that match"
        )


def _with(known: tuple[str, ...], key: str) -> list[str]:
    """The options, plus the value in the address if the log does not contain that value."""
    asked = address.get(key)
    return [*known, *([asked] if asked and asked not in known else [])]


def _choice(label: str, key: str, options: list[str], every: str, width: int) -> None:
    st.selectbox(
        label, options, index=None, key=key, placeholder=every, bind="query-params", width=width,
        format_func=lambda one: TIMES[one][0] if one in TIMES else one, on_change=paging.reset, args=(NAME,),
    )  # fmt: skip


def _clear() -> None:
    st.session_state.update({"who": None, "did": None, "target": "", "within": None})
    paging.reset(NAME)


def _said() -> dict[str, Any]:
    """The values of the filters."""
    return {key: st.session_state.get(key) for key in FILTER_KEYS}


def _wanted(said: Mapping[str, Any]) -> AuditFilter:
    within = said["within"]
    now = console().now().replace(second=0, microsecond=0)
    return AuditFilter(
        actor=str(said["who"] or ""),
        action=str(said["did"] or ""),
        target=labels.typed(said["target"]),
        since=now - TIMES[within][1] if within in TIMES else None,
    )


def actions() -> None:
    said = _said()
    wanted = _wanted(said)
    reading = console().audit.page(wanted, paging.place(NAME))
    page = reading.value
    if page is None:
        empty.no_source(reading)
        return
    window = paging.window(NAME, said, page.rows, lambda row: str(row[0]))
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        frame.as_of(reading, _summary(page, wanted))
        paging.pause_button(NAME, window)
    if window.rows:
        marks = paging.link_parameters(NAME, page.rows)
        with st.container(border=True, gap="small"):
            for number, entry in window.rows.values():
                _row(number, entry, marks, grey=bool(reading.problem))
    elif wanted.is_empty:
        empty.no_data_yet("Nobody has done anything by hand yet.")
    else:
        empty.nothing_matches("No action matches. Ids are searched as a whole, not in part.", _clear)
    paging.page_buttons(NAME, window)


def _summary(page: AuditPage, wanted: AuditFilter) -> str:
    count = f"{page.count:,} or more" if page.is_count_capped else f"{page.count:,}"
    one = page.count == 1
    match = "" if wanted.is_empty else " matches" if one else " match"
    return f"{count} {'action' if one else 'actions'}{match}"


def _row(number: int, entry: AuditEntry, marks: Mapping[str, str], *, grey: bool) -> None:
    now = console().now()
    with st.container(key=f"audit_{number}", gap="xxsmall"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(_result(entry.result, grey=grey), width="content")
            st.markdown(f"**{audit_links.deed(entry)}** · {labels.plain(entry.actor)}", width="content")
            audit_links.link(entry, marks)
            st.caption(clock.both(entry.at, now), width="stretch", text_alignment="right")
        reason = labels.plain(entry.reason) if entry.reason else "no reason given"
        under = f" · under {labels.plain(entry.correlation_id)}" if entry.correlation_id else ""
        st.caption(f"{reason}{_changes(entry.before, entry.after, now)}{under}")


def _result(result: str, *, grey: bool) -> str:
    kind, _, detail = result.partition(":")
    looks = {
        "done": ("green", "check_circle", "Done"),
        "started": ("blue", "sync", "Started"),
        "failed": ("red", "error", "Failed"),
        "refused": ("red", "block", "Refused"),
    }
    color, icon, word = looks.get(kind, ("gray", "help", labels.plain(kind)))
    badge = f":{'gray' if grey else color}-badge[:material/{icon}: {word}]"
    return f"{badge} :small[{labels.plain(detail)}]" if detail else badge


def _changes(before: dict[str, Any] | None, after: dict[str, Any] | None, now: datetime) -> str:
    """The changed fields, as ``status: Placed to Cancelled``."""
    old, new = before or {}, after or {}
    changed = [name for name in [*old, *(name for name in new if name not in old)] if old.get(name) != new.get(name)]
    return "".join(
        f" · {timeline.named(name)}: {timeline.in_words(name, old.get(name), now)}"
        f" to {timeline.in_words(name, new.get(name), now)}"
        for name in changed
    )


frame.page("Audit", actions, fixed=filters, filter_keys=FILTER_KEYS)
