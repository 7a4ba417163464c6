"""The Hand-over page: open items, items that end soon, and changes since the actor's last visit."""

from __future__ import annotations

from datetime import datetime, timedelta

import streamlit as st

from pages.parts import access, frame, labels, names
from pages.parts.widgets import clock, empty, history
from services.console.access import NotPermitted
from services.console.facade import console
from services.console.handover import HandoverPage, Item, Section
from services.domain.external import day_and_month
from services.metrics.health import NAMES
from state.audit import AuditEntry
from state.breakers import BreakerTransition
from state.engine.source import SourceUnavailable

SOON = timedelta(minutes=30)
SHOWN = 12


def everything() -> None:
    reading = console().handover.page(access.actor())
    if (page := empty.value_of(reading)) is None:
        return
    frame.as_of(reading, f"for {labels.plain(access.actor())}")
    left, right = st.columns([3, 2])
    with left:
        for section in page.sections:
            if section.items:
                _section(section, grey=bool(reading.problem))
        _quiet([section for section in page.sections if not section.items], grey=bool(reading.problem))
    with right:
        _since(page, grey=bool(reading.problem))
        with st.container(border=True):
            st.markdown("**As text**")
            st.caption("For a chat or a ticket; times in UTC. The button in its corner copies it.")
            as_of = reading.as_of or console().now()
            text = _as_text(page, as_of)
            st.code(text, language=None, wrap_lines=True, height=320)


def _section(section: Section, *, grey: bool) -> None:
    with st.container(border=True, gap="xsmall"):
        st.markdown(f"**{section.title}** :{'gray' if grey else 'orange'}-badge[{section.count:,}]")
        for number, item in enumerate(section.items):
            _item(item, f"{section.title}_{number}", grey=grey)


def _quiet(sections: list[Section], *, grey: bool) -> None:
    """Draw one line for each empty section."""
    if not sections:
        return
    color = "gray" if grey else "green"
    with st.container(border=True, gap="xsmall"):
        for section in sections:
            icon = f":{color}[:material/check_circle:]" if section.is_known else ":gray[:material/hourglass_empty:]"
            st.markdown(f"{icon} :gray[{section.title}:] :small[{section.nothing}]")


def _item(item: Item, key: str, *, grey: bool) -> None:
    now = console().now()
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key=f"item_{key}"):
        text = labels.sentence(item.text)
        if item.until:
            left = item.until - now
            color = "orange" if left <= SOON and not grey else "gray"
            text += f" :{color}-badge[:material/timer: ends in {clock.span(left)}]"
        elif item.at:
            text += f" :small[:gray[{clock.ago(item.at, now)}]]"
        with st.container(width="stretch"):
            st.markdown(text)
        if item.page:
            st.page_link(
                f"{item.page}.py", label="Open", icon=":material/arrow_forward:", width="content",
                query_params=labels.in_address(dict(item.query)),
            )  # fmt: skip


def _since(page: HandoverPage, *, grey: bool) -> None:
    now = console().now()
    with st.container(border=True, gap="xsmall"):
        title = "The last eight hours" if page.is_first_look else "Since you last looked"
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            st.markdown(f"**{title}** :small[:gray[{clock.both(page.since, now)}]]", width="content")
            access.button(
                "Mark as seen",
                "mark_seen",
                icon="done_all",
                hint="The next look begins from now.",
                type="tertiary",
                on_click=_seen,
                args=(page.since,),
            )
        both: list[BreakerTransition | AuditEntry] = [*page.transitions, *page.actions]
        changes = sorted(both, key=lambda change: change.at, reverse=True)
        if page.opened_cases:
            st.markdown(f"{page.opened_cases:,} of the open cases came in this time.")
        for change in changes[:SHOWN]:
            if isinstance(change, AuditEntry):
                _action(change, now)
            else:
                badge = labels.badge(labels.BREAKER, change.to_state, grey=grey)
                name = labels.breaker(change.breaker)
                st.markdown(f"{badge} {name} breaker :small[:gray[{clock.at(change.at, now)}]]")
        if len(changes) > SHOWN:
            st.page_link("audit.py", label="Everything is in the audit log", icon=":material/arrow_forward:")
        if not changes and not page.opened_cases:
            st.markdown(":gray[:material/check: Nothing changed.]")


def _action(entry: AuditEntry, now: datetime) -> None:
    with st.container(gap="xxsmall"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(f"**{labels.plain(entry.actor)}** · {history.deed(entry)}", width="content")
            history.link(entry)
        why = f": {labels.plain(entry.reason)}" if entry.reason else ""
        st.caption(f"{clock.at(entry.at, now)} · {labels.plain(entry.result)}{why}")


def _seen(since: datetime) -> None:
    try:
        console().handover.looked(access.actor())
    except (SourceUnavailable, NotPermitted) as error:
        st.toast(str(error), icon=":material/error:")
        return
    st.toast(f"Seen up to now; it had been {clock.ago(since, console().now())}.", icon=":material/done_all:")


def _as_text(page: HandoverPage, now: datetime) -> str:
    """The hand-over as Markdown for a chat or a ticket, times in UTC."""
    lines = [f"# Hand-over, {day_and_month(now)} {now:%Y %H:%M} UTC", ""]
    for section in page.sections:
        if not section.items:
            continue
        lines.append(f"## {section.title} ({section.count})")
        lines += [f"- {_item_as_text(item)}" for item in section.items]
        if section.count > len(section.items) and not section.is_grouped:
            lines.append(f"- and {section.count - len(section.items)} more")
        lines.append("")
    quiet = [section.nothing for section in page.sections if not section.items]
    if quiet:
        lines += ["## Nothing open", *[f"- {text}" for text in quiet], ""]
    lines.append(f"## Since {day_and_month(page.since)} {page.since:%H:%M} UTC")
    lines += [
        f"- {entry.at:%H:%M} {entry.actor}: {names.AUDIT.get(entry.action, entry.action)}, {entry.target}, "
        f"{entry.result}" + (f" ({entry.reason})" if entry.reason else "")
        for entry in page.actions
    ] or ["- no action"]
    lines += [
        f"- {change.at:%H:%M} breaker {NAMES.get(change.breaker, change.breaker)}: "
        f"{change.from_state} to {change.to_state}".replace("_", "-")
        for change in page.transitions
    ]
    return "\n".join([*lines, ""])


def _item_as_text(item: Item) -> str:
    return labels.with_labels(item.text) + (f" (until {item.until:%H:%M} UTC)" if item.until else "")


frame.page("Hand-over", everything)
