"""Dialogs of actions that cannot be undone.

The content is frozen when the dialog opens, with ids, versions and idempotency keys: three clicks on its button
store one command per target.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import streamlit as st

from pages.parts import access, actions, labels, overlay, selection
from services.console.facade import console, new_key
from services.domain.conservation import COMPENSATIONS
from services.domain.orders.model import Line, Order, OrderStatus
from state.commands import Command
from state.conservation import KnownDifference

MAX_TEXT = 500


def back(key: str, close: Callable[[], None]) -> None:
    """The back button of a work area; ``close`` removes the area from the URL."""
    # The shortcut is needed, because a dialog without the focus does not receive Escape.
    # A disabled button loses the focus to the page.
    if st.button("Back", key=key, type="tertiary", icon=":material/arrow_back:", shortcut="Escape"):
        close()
        st.rerun()


def cancel_order(order: Order) -> None:
    overlay.show("Cancel order", _cancel, order, new_key(), icon=":material/cancel:")


def _cancel(order: Order, key: str) -> None:
    held = console().orders.CANCEL_DELAY.total_seconds()
    st.markdown(
        f"**{labels.plain(order.order_id)}** · {_cancel_means(order.status)} For {held:.0f} seconds it can be taken "
        "back, and the order goes on meanwhile; after that it cannot be undone."
    )
    form(
        key,
        note="Reason",
        required=True,
        button="Cancel the order",
        store=lambda reason: [partial(_store_cancel, order.order_id, reason, key)],
    )


def _store_cancel(order_id: str, reason: str, key: str, actor: str) -> Command:
    return console().orders.cancel(order_id, reason, actor=actor, command_id=key)


def _cancel_means(status: str) -> str:
    if status in (OrderStatus.RECEIVED, OrderStatus.RESERVING, OrderStatus.PENDING_INVENTORY):
        return "Nothing was charged; whatever stock is held is released."
    if status == OrderStatus.PAYING:
        return "The payment is under way: the cancel is decided when its outcome is known, and refunds what was taken."
    if status == OrderStatus.CONFIRMED:
        return "The money is refunded and the deducted stock goes back on the shelf."
    return "The money is refunded and the held stock is released."


def return_items(order: Order) -> None:
    overlay.show("Return items", _return, order, new_key(), icon=":material/undo:", width="medium")


def _return(order: Order, key: str) -> None:
    st.markdown(
        f"**{labels.plain(order.order_id)}** · Records what the customer has sent back; the Inventory Service is told "
        "by event. This cannot be undone."
    )
    for number, line in enumerate(order.lines):
        left = line.quantity - line.returned
        st.number_input(
            f"{labels.plain(line.product_id)} {labels.plain(line.variant_id)}: {left} of {line.quantity} can come back",
            min_value=0,
            max_value=left,
            value=0,
            disabled=not left,
            key=f"return_{number}_{key}",
        )
    st.toggle("Can be sold again", value=True, key=f"restock_{key}", help="Off: damaged, it does not go on the shelf.")
    form(
        key,
        note="Reason",
        required=True,
        button="Record the return",
        store=lambda reason: [partial(_store_return, order, reason, key)],
        complaint=lambda: None if _returned(order, key) else "Say how many of what came back; nothing was stored.",
    )


def _returned(order: Order, key: str) -> list[Line]:
    counts = [int(st.session_state.get(f"return_{number}_{key}") or 0) for number in range(len(order.lines))]
    return [
        Line(line.product_id, line.variant_id, count) for line, count in zip(order.lines, counts, strict=True) if count
    ]


def _store_return(order: Order, reason: str, key: str, actor: str) -> Command:
    return console().orders.return_items(
        order.order_id,
        _returned(order, key),
        reason=reason,
        restockable=bool(st.session_state.get(f"restock_{key}", True)),
        actor=actor,
        command_id=key,
    )


def compensate(difference: KnownDifference) -> None:
    """Open the preview of a difference's compensation."""
    overlay.show("Compensate", _compensate, difference, new_key(), icon=":material/balance:")


def _compensate(difference: KnownDifference, key: str) -> None:
    st.markdown(f"**{labels.plain(difference.order_id)}** · {labels.plain(difference.detail)}")
    move = COMPENSATIONS.get(difference.kind)
    st.markdown(f"What will be done: {move or 'nothing'}")
    form(
        key,
        note="Reason",
        required=True,
        button="Apply",
        store=lambda reason: [partial(_store_compensate, difference, reason, key)],
        refused=None if move else "This version does not know this kind of difference; there is nothing to apply.",
    )


def _store_compensate(difference: KnownDifference, reason: str, key: str, actor: str) -> Command:
    return console().conservation.compensate(difference, reason, actor=actor, command_id=key)


Stores = Sequence[Callable[[str], Command]]
Picked = tuple[str, tuple[str, ...]]


def form(
    key: str,
    *,
    button: str,
    store: Callable[[str], Stores],
    note: str | None = None,
    required: bool = False,
    typed_count: int | None = None,
    picked: Picked = ("", ()),
    complaint: Callable[[], str | None] = lambda: None,
    refused: str | None = None,
    refreshes: bool = True,
) -> None:
    """Draw the reason, the typed count and the button. Closes the dialog when the commands are stored.

    ``refused`` is the reason why the button is disabled although the actor has permission.
    ``refreshes`` is False if a surrounding fragment refreshes the form.
    ``complaint`` runs at the click and returns what is missing, or None. Nothing is stored if something is missing.
    ``picked`` names the list and the ids whose check boxes are cleared afterwards.
    """
    submit = (key, store, required, typed_count, picked, complaint)
    if refreshes:
        overlay.refreshing(_form, key, button, note, required, typed_count, refused, submit)
    else:
        _form(key, button, note, required, typed_count, refused, submit)


def _form(
    key: str,
    button: str,
    note: str | None,
    required: bool,
    typed_count: int | None,
    refused: str | None,
    submit: tuple[Any, ...],
) -> None:
    block = access.write_block() or refused
    with st.form(f"form_{key}", border=False):
        if note:
            label = note if required else f"{note} (optional)"
            st.text_area(label, key=f"note_{key}", max_chars=MAX_TEXT, required=required)
        if typed_count is not None:
            st.text_input(f"Type {typed_count} to confirm", key=f"count_{key}", width=200)
        st.form_submit_button(
            button,
            type="primary",
            key=f"do_{key}",
            disabled=block is not None,
            on_click=_submit,
            args=submit,
        )
    complained = st.session_state.get(f"complaint_{key}")
    # The button's return value does not show the click if the button has been disabled in the meantime.
    if st.session_state.pop(f"stored_{key}", False):
        overlay.close()
        st.rerun()
    elif refused:
        st.warning(refused, icon=":material/block:")
    elif problem := complained or block:
        st.error(problem, icon=":material/error:")
    elif remark := access.write_note():
        st.caption(f":material/info: {remark}")


def _submit(
    key: str,
    store: Callable[[str], Stores],
    required: bool,
    typed_count: int | None,
    picked: Picked,
    missing: Callable[[], str | None],
) -> None:
    note = str(st.session_state.get(f"note_{key}") or "").strip()
    typed = str(st.session_state.get(f"count_{key}") or "").strip()
    complaint: str | None = None
    if required and not note:
        complaint = "A reason is needed; it stays with the order."
    elif typed_count is not None and typed != str(typed_count):
        complaint = f"Type {typed_count} to confirm; nothing was stored."
    elif lacking := missing():
        complaint = lacking
    elif not actions.store(*store(note[:MAX_TEXT])):
        complaint = "The database is away; nothing was stored."
    else:
        selection.pick_none(*picked)
    st.session_state[f"complaint_{key}"] = complaint
    st.session_state[f"stored_{key}"] = complaint is None
