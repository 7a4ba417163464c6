"""The Audit page: actions with their actor, time, reason, changes and result."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import streamlit as st

from pages.parts import address, frame, labels, listing
from pages.parts.widgets import clock, history, list_filters, paging
from services.console.facade import console
from services.console.paging import Paged
from state.audit import AuditEntry, AuditFilter

TIMES = {
    "shift": ("Last 8 hours", timedelta(hours=8)),
    "day": ("Last day", timedelta(days=1)),
    "week": ("Last week", timedelta(weeks=1)),
    "month": ("Last 30 days", timedelta(days=30)),
}
NAME = "audit"
FILTER_KEYS = ("who", "did", "target", "within")


def _newest() -> None:
    paging.reset(NAME)


def filters() -> None:
    people, actions_done = console().audit.people_and_actions().value or ((), ())
    with st.container(horizontal=True, vertical_alignment="bottom"):
        listing.choice("Person", "who", _with(people, "who"), "Everybody", _newest)
        listing.choice("Action", "did", _with(actions_done, "did"), "Every action", _newest)
        listing.search("Target", "target", "Order, target or command id", _newest, width=200)
        listing.choice("Time", "within", list(TIMES), "Any time", _newest, name=lambda time: TIMES[time][0], width=145)
        list_filters.search_button("target", "Order, target or command id", _clear)
        chosen = _chosen()
        list_filters.csv(
            "audit", lambda: console().audit.csv(_wanted(chosen)), key="audit_csv", what="The actions that match"
        )


def _with(known: tuple[str, ...], key: str) -> list[str]:
    """The options, plus the value in the address if the log does not contain that value."""
    asked = address.get(key)
    return [*known, *([asked] if asked and asked not in known else [])]


def _clear() -> None:
    st.session_state.update({"who": None, "did": None, "target": "", "within": None})
    _newest()


def _chosen() -> dict[str, Any]:
    """The values of the filters."""
    return {key: st.session_state.get(key) for key in FILTER_KEYS}


def _wanted(chosen: Mapping[str, Any]) -> AuditFilter:
    return AuditFilter(
        actor=str(chosen["who"] or ""),
        action=str(chosen["did"] or ""),
        target=labels.typed(chosen["target"]),
        since=listing.since(TIMES, chosen["within"]),
    )


def actions() -> None:
    chosen = _chosen()
    wanted = _wanted(chosen)
    is_filtered = not wanted.is_empty
    listing.draw(
        NAME,
        console().audit.page(wanted, paging.place(NAME)),
        chosen,
        lambda row: str(row[0]),
        _row,
        summary=lambda page: listing.matches(page, "action", is_filtered=is_filtered),
        nothing=lambda: listing.nothing(
            "action", "Nobody has done anything by hand yet.", _clear, is_filtered=is_filtered
        ),
    )


def _row(row: tuple[int, AuditEntry], page: Paged[Any], *, gone: bool, grey: bool) -> None:
    (number, entry), now = row, console().now()
    with st.container(key=f"audit_{number}", gap="xxsmall"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(_result(entry.result, grey=grey), width="content")
            st.markdown(f"**{history.deed(entry)}** · {labels.plain(entry.actor)}", width="content")
            history.link(entry, paging.link_parameters(NAME, page))
            st.caption(clock.both(entry.at, now), width="stretch", text_alignment="right")
        reason = labels.plain(entry.reason) if entry.reason else "no reason given"
        under = f" · under {labels.plain(entry.correlation_id)}" if entry.correlation_id else ""
        st.caption(f"{reason}{_changes(entry.before, entry.after, now)}{under}{labels.GONE * gone}")


def _result(result: str, *, grey: bool) -> str:
    kind, _, detail = result.partition(":")
    badge = labels.badge(labels.AUDIT_RESULT, kind, grey=grey)
    return f"{badge} :small[{labels.plain(detail)}]" if detail else badge


def _changes(before: dict[str, Any] | None, after: dict[str, Any] | None, now: datetime) -> str:
    """The changed fields, as ``status: Placed to Cancelled``."""
    old, new = before or {}, after or {}
    changed = [name for name in [*old, *(name for name in new if name not in old)] if old.get(name) != new.get(name)]
    return "".join(
        f" · {history.named(name)}: {history.in_words(name, old.get(name), now)}"
        f" to {history.in_words(name, new.get(name), now)}"
        for name in changed
    )


frame.page("Audit", actions, fixed=filters, filter_keys=FILTER_KEYS)
