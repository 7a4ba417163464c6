"""Events that cannot be published as they are: the reason, and the actions on each."""

from __future__ import annotations

from functools import partial

import streamlit as st

from pages.parts import access, actions, labels, overlay
from pages.parts.dialogs import form
from pages.parts.events import lists
from pages.parts.widgets import clock, expander, orders
from services.console.access import Command
from services.console.events import Undeliverable, UndeliverableEvent
from services.console.facade import console, new_key, same_sight_key


def draw() -> None:
    """Draw the list of events that cannot be published, the oldest first. Draws nothing when there are none."""
    reading = console().events.undeliverable()
    if reading.value is None or not reading.value.total:
        return
    found, grey = reading.value, bool(reading.problem)
    events = f"{found.total:,} {'event' if found.total == 1 else 'events'}"
    st.markdown(f"**Cannot be published: {events}**")
    st.caption(
        "The broker takes none of them however often it is sent. Raise max_payload of the broker or max_msg_size of "
        "the stream, then publish it again; or tell the Inventory Service by other means what it says, and give it up."
    )
    with st.container(border=True, gap="small"):
        for row in found.rows:
            _event(row, grey=grey)
    if found.total > len(found.rows):
        st.caption(f"{found.total - len(found.rows):,} more come up as these are settled.")


def _event(row: Undeliverable, *, grey: bool) -> None:
    event, now = row.event, console().now()
    with st.container(gap="xxsmall", key=f"undeliverable_{event.id}"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(labels.badge(labels.OUTGOING, "undeliverable", grey=grey), width="content")
            st.markdown(f"**{labels.plain(event.subject)}**", width="content")
            orders.link(event.order_id)
            st.caption(f"since {clock.both(event.undeliverable_at, now)}", width="stretch")
            _buttons(row)
        tries = f"{event.attempts:,} {'attempt' if event.attempts == 1 else 'attempts'}"
        st.caption(f"{labels.plain(event.reason)} · {event.size:,} bytes · {tries}")
        if row.command:
            st.markdown(f":small[{actions.summary(row.command)}]")
        expander.part("Payload", f"undeliverable-{event.id}", partial(lists.payload_of, event))


def _buttons(row: Undeliverable) -> None:
    event = row.event
    waiting = "A command on this event is under way." if actions.is_waiting(row.command) else None
    reason = access.write_block() or waiting
    st.button(
        "Publish again", key=f"publish_{event.id}", icon=":material/send:", disabled=reason is not None,
        help=reason or access.write_note() or "If the broker still cannot take it, it comes back to this list.",
        on_click=_publish, args=(row,),
    )  # fmt: skip
    if st.button(
        "Give up", key=f"give_up_{event.id}", icon=":material/delete:", disabled=reason is not None,
        help=reason or access.write_note(),
    ):  # fmt: skip
        overlay.show("Give event up", _give_up, event, new_key(), icon=":material/delete:")


def _publish(row: Undeliverable) -> None:
    key = same_sight_key("retry_outgoing_event", str(row.event.id), row.event.attempts, row.command)
    actions.store(lambda actor: console().events.publish_again(row.event, actor=actor, command_id=key))


def _give_up(event: UndeliverableEvent, key: str) -> None:
    st.markdown(
        f"**{labels.plain(event.subject)}** of order {labels.plain(event.order_id)} · This event "
        "is deleted, and no service receives it. The order's timeline keeps your reason. This cannot be undone."
    )
    form(
        key,
        note="Reason",
        required=True,
        button="Give the event up",
        store=lambda note: [partial(_store_give_up, event, note, key)],
    )


def _store_give_up(event: UndeliverableEvent, note: str, key: str, actor: str) -> Command:
    return console().events.give_up(event, note, actor=actor, command_id=key)
