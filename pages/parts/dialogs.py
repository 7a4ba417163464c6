"""Dialogs of actions that cannot be undone.

The content is frozen when the dialog opens, with ids, versions and idempotency keys: three clicks on its button
store one command per target.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import streamlit as st

from pages.parts import access, actions, labels, overlay, selection
from services.console.facade import new_key
from services.domain.commands import CommandKind
from services.domain.conservation import COMPENSATIONS
from services.domain.orders.model import Line, Order, OrderStatus
from services.domain.reviews import UNDO_FOR, ReviewAction
from state.conservation import KnownDifference

MAX_TEXT = 500
PROOF = "Proof (where you saw it, a ticket, a name)"


@dataclass(frozen=True)
class Form:
    """The end of a dialog: reason, typed count and button. Closes the dialog when its command is stored."""

    key: str
    button: str
    store: Callable[[str], Callable[[str], Any]]
    """Returns, for the text, what stores the command on behalf of an actor."""
    note: str = "Reason"
    """Label of the text."""
    required: bool = True
    typed_count: int | None = None
    why_note: str = "it stays with the order"
    """Why the text is required."""
    inputs: Callable[[], None] | None = None
    """Draws further inputs above the text."""
    missing: Callable[[], str | None] | None = None
    """Runs at the click and returns what is missing, or None. Nothing is stored if something is missing."""
    message: Callable[[Any], str] = actions.stored
    """The message after the click; called with what was stored."""
    picked: tuple[str, tuple[str, ...]] = ("", ())
    """The list and the ids whose check boxes are cleared afterwards."""
    is_ready: bool = True
    """Whether the button may be enabled."""
    refused: str | None = None
    """Why the button is disabled although the actor has permission."""

    def refreshing(self) -> None:
        """Draw the form in a fragment of its own."""
        overlay.refreshing(self.draw)

    def draw(self) -> None:
        block = access.write_block() or self.refused
        with st.form(f"form_{self.key}", border=False):
            if self.inputs:
                self.inputs()
            label = self.note if self.required else f"{self.note} (optional)"
            st.text_area(label, key=f"note_{self.key}", max_chars=MAX_TEXT, required=self.required)
            if self.typed_count is not None:
                st.text_input(f"Type {self.typed_count} to confirm", key=f"count_{self.key}", width=200)
            st.form_submit_button(
                self.button,
                type="primary",
                key=f"do_{self.key}",
                disabled=block is not None or not self.is_ready,
                on_click=self._submit,
            )
        # The button's return value does not show the click if the button has been disabled in the meantime.
        if st.session_state.pop(f"stored_{self.key}", False):
            overlay.close()
            st.rerun()
        elif self.refused:
            st.warning(self.refused, icon=":material/block:")
        elif problem := st.session_state.get(f"complaint_{self.key}") or block:
            st.error(problem, icon=":material/error:")
        elif remark := access.write_note():
            st.caption(f":material/info: {remark}")

    def _submit(self) -> None:
        # A click can arrive after the run that disabled the button.
        if not self.is_ready:
            return
        complaint = self._store()
        st.session_state[f"complaint_{self.key}"] = complaint
        st.session_state[f"stored_{self.key}"] = complaint is None

    def _store(self) -> str | None:
        """Store the command; returns why it is not stored, or None."""
        note = str(st.session_state.get(f"note_{self.key}") or "").strip()[:MAX_TEXT]
        typed = str(st.session_state.get(f"count_{self.key}") or "").strip()
        if self.missing and (missing := self.missing()):
            return missing
        if self.required and not note:
            return f"A reason is needed; {self.why_note}."
        if self.typed_count is not None and typed != str(self.typed_count):
            return f"Type {self.typed_count} to confirm; nothing was stored."
        if not actions.store(self.store(note), self.message):
            return "The database is away; nothing was stored."
        selection.pick_none(*self.picked)
        return None


CANCEL_DELAY = UNDO_FOR[ReviewAction.CANCEL_ORDER]
"""How long a cancel is delayed, so that it can be undone."""


def cancel_order(order: Order) -> None:
    overlay.show("Cancel order", _cancel, order, new_key(), icon=":material/cancel:")


def _cancel(order: Order, key: str) -> None:
    delay = CANCEL_DELAY.total_seconds()
    st.markdown(
        f"**{labels.plain(order.order_id)}** · {_cancel_means(order.status)} For {delay:.0f} seconds it can be taken "
        "back, and the order goes on meanwhile; after that it cannot be undone."
    )
    Form(
        key,
        "Cancel the order",
        lambda reason: actions.command(
            CommandKind.CANCEL_ORDER, order.order_id, key, {"reason": reason}, undo_for=CANCEL_DELAY
        ),
    ).refreshing()


def _cancel_means(status: str) -> str:
    if status in (OrderStatus.RECEIVED, OrderStatus.RESERVING, OrderStatus.PENDING_INVENTORY):
        return "Nothing was charged; a reservation is released."
    if status == OrderStatus.PAYING:
        return "The payment is under way: the cancel is decided when its outcome is known, and refunds what was taken."
    if status == OrderStatus.CONFIRMED:
        return "The money is refunded and the deducted stock becomes available again."
    return "The money is refunded and the reservation is released."


def return_items(order: Order) -> None:
    overlay.show("Return items", _return, order, new_key(), icon=":material/undo:", width="medium")


def _return(order: Order, key: str) -> None:
    st.markdown(
        f"**{labels.plain(order.order_id)}** · Records what the customer has sent back; the Inventory Service "
        "receives an event. This cannot be undone."
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
    st.toggle("Can be sold again", value=True, key=f"restock_{key}", help="Off: damaged, it is not restocked.")
    Form(
        key,
        "Record the return",
        lambda reason: actions.command(CommandKind.RETURN_ITEMS, order.order_id, key, _arguments(order, reason, key)),
        missing=lambda: None if _returned(order, key) else "Enter how many of each came back; nothing was stored.",
    ).refreshing()


def _returned(order: Order, key: str) -> list[Line]:
    counts = [int(st.session_state.get(f"return_{number}_{key}") or 0) for number in range(len(order.lines))]
    return [
        Line(line.product_id, line.variant_id, count) for line, count in zip(order.lines, counts, strict=True) if count
    ]


def _arguments(order: Order, reason: str, key: str) -> dict[str, object]:
    restockable = bool(st.session_state.get(f"restock_{key}", True))
    return {"items": [line.wire() for line in _returned(order, key)], "reason": reason, "restockable": restockable}


def compensate(difference: KnownDifference) -> None:
    """Open the preview of a difference's compensation."""
    overlay.show("Compensate", _compensate, difference, new_key(), icon=":material/balance:")


def _compensate(difference: KnownDifference, key: str) -> None:
    st.markdown(f"**{labels.plain(difference.order_id)}** · {labels.plain(difference.detail)}")
    action = COMPENSATIONS.get(difference.kind)
    st.markdown(f"What will be done: {action or 'nothing'}")
    target = f"{difference.order_id}/{difference.kind}"
    arguments = {"orderId": difference.order_id, "kind": difference.kind}
    Form(
        key,
        "Apply",
        lambda reason: actions.command(CommandKind.COMPENSATE, target, key, arguments | {"reason": reason}),
        refused=None if action else "This version does not know this kind of difference; there is nothing to apply.",
    ).refreshing()
