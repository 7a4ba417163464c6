"""What has happened: the timeline of an order, entries of the audit log, and the facts of either as text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Any

import streamlit as st

from pages.parts import labels, names
from pages.parts.widgets import clock, orders, payloads
from services.console.cache import Reading
from services.console.facade import console
from services.domain.external import cut_text, time_or_none
from services.domain.orders.changes import TimelineEntry
from state.audit import AuditEntry

BAD = ("failed", "no answer", "rejected", "timeout", "refused", "unavailable", "declined", "throttled")


def timeline(entries: Sequence[TimelineEntry], reading: Reading[Any]) -> None:
    """Draw the entries, oldest first: kind, time, title and facts."""
    now = console().now()
    at_once: Counter[int] = Counter()
    for entry in entries:
        instant = int(entry.at.timestamp() * 1_000_000)
        at_once[instant] += 1
        name = f"step-{instant}-{at_once[instant]}"
        with st.container(horizontal=True, vertical_alignment="top", gap="small"):
            at = f":small[:gray[{clock.at(entry.at, now)}]]"
            st.markdown(f"{_kind(entry, grey=bool(reading.problem))}  \n{at}", width=110)
            with st.container(width="stretch", gap="xxsmall"):
                st.markdown(_text(entry, now))
                if parts := payload(entry.details):
                    payloads.expander("Payload", name, partial(payloads.parts, parts, name))


def _kind(entry: TimelineEntry, *, grey: bool) -> str:
    kind = labels.word(labels.TIMELINE, entry.kind)
    hurt = any(sign in entry.title.lower() for sign in BAD)
    color = "gray" if grey else "red" if hurt else kind.color
    return f":{color}-badge[:material/{'error' if hurt else kind.icon}: {labels.text(labels.TIMELINE, entry.kind)}]"


def _text(entry: TimelineEntry, now: datetime) -> str:
    who = f" · {labels.plain(entry.actor)}" if entry.actor else ""
    facts = details(entry.details, now)
    return f"{labels.sentence(entry.title)}{who}" + (f"  \n:small[:gray[{facts}]]" if facts else "")


MOST_PARTS = 20
"""Maximum parts of one object or list that are written out; the number of further parts follows."""

MOST_LEVELS = 4
"""Maximum levels of nested objects and lists that are written out."""


def details(values: Mapping[str, object], now: datetime) -> str:
    """The simple facts of an entry on one line; nested facts are its payload."""
    said = [(name, value) for name, value in values.items() if not _is_payload(value)]
    return " · ".join([*(_fact(name, value, now) for name, value in said[:MOST_PARTS]), *_more(len(said))])


def payload(values: Mapping[str, object]) -> dict[str, object]:
    """The nested facts of an entry."""
    return {name: value for name, value in values.items() if value and _is_payload(value)}


def _is_payload(value: object) -> bool:
    return value is None or isinstance(value, (dict, list))


def _more(count: int) -> list[str]:
    return [f"{count - MOST_PARTS:,} more"] if count > MOST_PARTS else []


def _fact(name: str, value: object, now: datetime, level: int = 0) -> str:
    return f"{named(name)} {in_words(name, value, now, level)}"


def named(name: str) -> str:
    """The label of a fact: ``expiresAt`` is expires at, ``durationMs`` duration."""
    short = cut_text(name, labels.MOST_STATE)
    return labels.plain(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", short.removesuffix("Ms")).lower())


def in_words(name: str, value: object, now: datetime, level: int = 0) -> str:
    """A fact as text: labels of states, times in the viewer's zone, nested parts one by one."""
    if isinstance(value, Mapping | list):
        return _parts_in_words(name, value, now, level)
    if value is None or isinstance(value, bool):
        return {None: "nothing", True: "yes", False: "no"}[value]
    if name.endswith("Ms") and isinstance(value, (int, float)):
        return f"{value:,.0f} ms"
    if isinstance(value, str) and (moment := time_or_none(value)):
        return labels.plain(clock.at(moment, now))
    return labels.plain(names.CALL.get(str(value)) or labels.with_labels(str(value)))


def _parts_in_words(name: str, value: Mapping[str, object] | list[object], now: datetime, level: int) -> str:
    if level >= MOST_LEVELS:
        return f"{len(value):,} parts"
    if isinstance(value, Mapping):
        said = [_fact(part, one, now, level + 1) for part, one in islice(value.items(), MOST_PARTS)]
    else:
        said = [in_words(name, one, now, level + 1) for one in value[:MOST_PARTS]]
    return ", ".join([*said, *_more(len(value))]) or "nothing"


PAGES = {
    "order": "order.py",
    "review": "reviews.py",
    "release": "releases.py",
    "dead-letter": "events.py",
    "outbox-event": "events.py",
    "breaker": "breakers.py",
    "difference": "conservation.py",
    "drill": "sandbox.py",
    "sandbox": "sandbox.py",
    "handover": "handover.py",
}
"""The page by kind of target, for entries without an order."""


def deed(entry: AuditEntry) -> str:
    """The label of the action."""
    return names.AUDIT.get(entry.action, labels.plain(entry.action.replace("_", " ").capitalize()))


def link(entry: AuditEntry, marks: Mapping[str, str] | None = None) -> None:
    """Draw the target as a link, or as text if it has no page. ``marks`` as in ``orders.link``."""
    kind, _, identifier = entry.target.partition(":")
    if entry.order_id:
        st.page_link(
            "order.py", label=f":blue[{_target(entry.target)}]", icon="", width="content", help="Open the order",
            query_params=orders.parameters(entry.order_id, marks),
        )  # fmt: skip
    elif kind in PAGES and (PAGES[kind] != "sandbox.py" or console().status.is_sandbox):
        query = {"drill": identifier} if kind == "drill" else None
        st.page_link(PAGES[kind], label=f":blue[{_target(entry.target)}]", icon="", width="content", query_params=query)
    else:
        st.caption(_target(entry.target), width="content")


def _target(target: str) -> str:
    """The label of a target: ``order:ORD-7`` is Order ORD-7."""
    kind, colon, identifier = target.partition(":")
    if kind == "breaker":
        return f"{labels.breaker(identifier)} breaker"
    if kind == "handover":
        return "Hand-over"
    return labels.plain(f"{kind.replace('-', ' ').capitalize()} {identifier}" if colon else target)
