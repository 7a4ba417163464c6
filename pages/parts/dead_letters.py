"""Dead letters: groups with the same cause, the dead letters of one group, replay and discard."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import partial

import streamlit as st

from pages.parts import access, actions, address, bulk, bulk_jobs, labels, overlay
from pages.parts.dialogs import Form
from pages.parts.widgets import clock, empty, orders, paging, payloads
from services.console.events import DeadLetterRow
from services.console.facade import console, new_key
from services.console.paging import Paged
from services.domain.bulk import MAX_ITEMS, BulkAction
from services.domain.commands import CommandKind
from state.dead_letters import DeadLetter, Group

GROUP = "cause"
"""Parameter of the address with the selected group: ``subject|cause``."""

NAME = "letters"
BULK_ACTIONS = (BulkAction.REPLAY_EVENT, BulkAction.DISCARD_EVENT)


def _group() -> tuple[str, str] | None:
    subject, bar, cause = address.get(GROUP).partition("|")
    return (subject, cause) if bar else None


def every_cause() -> None:
    """Callback: show the dead letters of all groups."""
    address.drop(GROUP)
    paging.reset(NAME)


def _only(group: Group) -> None:
    paging.reset(NAME)
    address.put(GROUP, f"{group.subject}|{group.cause}")


def draw(state: str, order_id: str | None, clear: Callable[[], None]) -> None:
    bulk_jobs.unended(BULK_ACTIONS)
    _listed(state, order_id, clear)
    bulk_jobs.past(BULK_ACTIONS)


def _listed(state: str, order_id: str | None, clear: Callable[[], None]) -> None:
    group = _group()
    reading = console().events.dead_letters_by_cause(
        state=state, group=group, order_id=order_id, place=paging.place(NAME)
    )
    if (page := empty.value_of(reading)) is None:
        return
    window = paging.window(NAME, (state, group, order_id), page.dead_letters, lambda row: row.dead_letter.id)
    if not window.rows:
        if state == "OPEN" and not (group or order_id):
            empty.nothing_wrong("Every event that came in was handled.")
        else:
            settled = "No such letter matches; it may have been settled."
            empty.nothing_matches(settled if group or order_id else "No dead letter is in this state.", clear)
    grey = bool(reading.problem)
    if page.groups and not group and not order_id:
        _groups(page.groups, state, grey=grey)
    if window.rows:
        _letters(window, group, order_id, grey=grey)
    paging.page_buttons(NAME, window)


def _groups(groups: tuple[Group, ...], state: str, *, grey: bool) -> None:
    st.markdown("**By cause**")
    with st.container(border=True, gap="small"):
        for group in groups:
            _one_group(group, state, grey=grey)


def _one_group(group: Group, state: str, *, grey: bool) -> None:
    key = key_of(group)
    with st.container(gap="xxsmall", key=f"cause_{key}"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(labels.badge(labels.DEAD_LETTER, state, grey=grey), width=90)
            count = labels.count(group.count, "dead letter")
            st.markdown(f"**{labels.plain(group.subject)}** · {count}", width="content")
            st.caption(f"last {clock.ago(group.last_at, console().now())}", width="stretch")
            st.button(
                "Only these", key=f"show_cause_{key}", icon=":material/filter_alt:", type="tertiary", on_click=_only,
                args=(group,),
            )  # fmt: skip
            if state == "OPEN":
                _act_on(group, key, BulkAction.REPLAY_EVENT, "Replay", "replay")
                _act_on(group, key, BulkAction.DISCARD_EVENT, "Discard", "delete")
        st.caption(labels.plain(group.example))


def key_of(group: Group) -> str:
    """Key of a group's widgets, derived from the group and not from its position, which changes."""
    return f"{zlib.crc32(f'{group.subject}|{group.cause}'.encode()):08x}"


def _act_on(group: Group, key: str, bulk_action: BulkAction, label: str, icon: str) -> None:
    is_cut = group.count > MAX_ITEMS
    number = f"the {MAX_ITEMS:,} oldest of {group.count:,}" if is_cut else f"{group.count:,} of {group.count:,}"
    if access.button(f"{label} {number}", f"{label.lower()}_cause_{key}", icon=icon, hint=access.write_note()):
        bulk.freeze_and_preview(lambda: console().events.freeze(bulk_action, group))


def _letters(
    window: paging.Window[DeadLetterRow], group: tuple[str, str] | None, order_id: str | None, *, grey: bool
) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        of = "of this cause" if group else "of this order" if order_id else ""
        st.markdown(f"**Dead letters {of}**" if of else "**Newest dead letters**", width="content")
        if group:
            st.button("Every cause", key="every_cause", type="tertiary", icon=":material/close:", on_click=every_cause)
        with st.container(horizontal=True, horizontal_alignment="right"):
            paging.pause_button(NAME, window)
    with st.container(border=True, gap="small"):
        for row_id, row in window.rows.items():
            _dead_letter(row, window.page, gone=row_id in window.gone, grey=grey)


def _dead_letter(row: DeadLetterRow, page: Paged[DeadLetterRow], *, gone: bool, grey: bool) -> None:
    dead_letter, now = row.dead_letter, console().now()
    with st.container(gap="xxsmall", key=f"letter_{dead_letter.id}"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(labels.badge(labels.DEAD_LETTER, dead_letter.state, grey=grey or gone), width=90)
            st.markdown(f"**{labels.plain(dead_letter.subject)}**", width="content")
            if dead_letter.order_id:
                orders.link(dead_letter.order_id, marks=paging.link_parameters(NAME, page))
            else:
                st.caption("no order known", width=orders.ID_WIDTH)
            st.caption(clock.both(dead_letter.created_at, now), width="stretch")
            if dead_letter.state == "OPEN" and not gone:
                _buttons(row)
        facts = [labels.plain(dead_letter.reason), labels.count(dead_letter.attempts, "attempt")]
        if dead_letter.state != "OPEN":
            note = f": {labels.plain(dead_letter.note)}" if dead_letter.note else ""
            facts.append(f"by {labels.plain(dead_letter.resolved_by)}{note}")
        st.caption(f"{' · '.join(facts)}{labels.GONE if gone else ''}")
        actions.draw(row.command)
        payloads.expander(
            "Payload and headers",
            f"letter-{dead_letter.id}",
            partial(_content, row),
            touched=partial(paging.pause, NAME, page.top),
        )


def _content(row: DeadLetterRow) -> None:
    dead_letter = row.dead_letter
    read = partial(console().events.payload, dead_letter.id)
    name, key = f"{dead_letter.id}.bin", f"payload_{dead_letter.id}"
    payloads.draw(dead_letter.payload, dead_letter.size, read, file_name=name, key=key)
    if dead_letter.headers:
        st.table(
            [{"Header": labels.plain(k), "Value": labels.plain(v)} for k, v in dead_letter.headers.items()],
            border="horizontal", hide_index=True, alt="Headers of the message",
        )  # fmt: skip
    st.caption(f"{labels.plain(dead_letter.stream)} #{dead_letter.stream_seq:,} · {dead_letter.size:,} bytes")


def _buttons(row: DeadLetterRow) -> None:
    dead_letter, note = row.dead_letter, access.write_note()
    waiting = actions.if_waiting(row.command, "A command on this letter is under way.")
    access.button(
        "Replay",
        f"replay_{dead_letter.id}",
        icon="replay",
        refused=waiting,
        hint=note or "Runs the handler on these bytes again; what was handled has no second effect.",
        on_click=actions.store_once,
        args=(CommandKind.REPLAY_DEAD_LETTER, dead_letter.id, dead_letter.attempts, row.command),
    )
    if access.button("Discard", f"discard_{dead_letter.id}", icon="delete", refused=waiting, hint=note):
        overlay.show("Discard event", _discard, dead_letter, new_key(), icon=":material/delete:")


def _discard(dead_letter: DeadLetter, key: str) -> None:
    st.markdown(
        f"**{labels.plain(dead_letter.subject)}** will never take effect. This cannot be undone; the dead letter stays "
        "readable for 90 days."
    )
    Form(
        key,
        "Discard",
        lambda note: actions.command(CommandKind.DISCARD_DEAD_LETTER, dead_letter.id, key, {"note": note}),
    ).refreshing()
