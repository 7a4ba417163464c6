"""The comparison in a bulk preview: the inventory status of each item, a summary and the time of the freeze."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import streamlit as st

from pages.parts import access, actions, labels
from pages.parts.widgets import clock
from services.console.bulk import BulkRequest, BulkTarget, PreviewComparison
from services.console.facade import console, same_sight_key
from services.domain.bulk import BulkAction
from services.domain.commands import CommandKind
from services.domain.conservation import StockState
from services.domain.reconciliation import MAX_ASKED, Agreement, ComparedItem, FrozenSelection, freeze, preview_summary

FEW = 20
"""Maximum items of a preview in a table. A longer preview is a grid, which scrolls, searches and catches Escape."""
LEFT_OUT, FOLLOWS = "Will be left out", "What follows"
RETRIED = {
    StockState.RESERVED: "Releases the reservation",
    StockState.FREE: "Harmless: nothing reserved, closes the job",
}
"""The effect of a release retry, by stock state."""


@dataclass
class Lookups:
    """The lookups of one preview, in the session."""

    turn: int
    """The number of the lookup; a repeated one has the next number."""
    began_at: datetime
    frozen: FrozenSelection | None = None
    """A selection is frozen once per lookup, so that it does not change while the actor types."""


def begin(bulk: BulkRequest, key: str, turn: int = 0) -> None:
    """Start the lookups of a preview when it opens, or again with the next number."""
    if bulk.has_reconciliation:
        st.session_state[f"lookups_{key}"] = Lookups(turn, console().now())
        if access.write_block() is None:
            actions.store_silently(
                lambda actor: console().previews.ask(bulk, actor=actor, command_id=_command_id(key, turn))
            )


def _lookups(key: str) -> Lookups:
    lookups: Lookups = st.session_state.setdefault(f"lookups_{key}", Lookups(0, console().now()))
    return lookups


def _command_id(key: str, turn: int) -> str:
    return same_sight_key(CommandKind.LOOK_UP_INVENTORY_MANY, key, turn, None)


def draw(bulk: BulkRequest, key: str) -> FrozenSelection | None:
    """Draw the compared items; returns the frozen selection, or None while lookups are running."""
    if not bulk.has_reconciliation:
        _table([_facts(target) for target in bulk.targets], f"The {len(bulk.targets)} items of the preview")
        return FrozenSelection(bulk.seen_at)
    reading = console().previews.compared(bulk, _command_id(key, _lookups(key).turn))
    comparison = reading.value or PreviewComparison({}, None)
    frozen = _frozen(comparison, key)
    rows = [_row(bulk, target, comparison, frozen) for target in bulk.targets]
    if not any(row[FOLLOWS] for row in rows):
        for row in rows:
            del row[FOLLOWS]
    _table(
        rows,
        f"The {len(bulk.targets)} items of the preview with their inventory status",
    )
    _summary(bulk, comparison, frozen, key)
    for why, number in Counter(_left_out(comparison, frozen).values()).items():
        st.caption(f":material/block: {number:,} will be left out: {labels.plain(why)}")
    _claimed(bulk)
    return frozen


def _claimed(bulk: BulkRequest) -> None:
    """Draw the number of items that other actors have claimed. The job refuses them, unless its actor is an admin."""
    others = Counter(target.claimed_by for target in bulk.targets if target.claimed_by not in (None, access.actor()))
    if others:
        names = ", ".join(labels.plain(name) for name in others)
        then = "you act over that claim" if access.is_admin() else "refused when the turn comes"
        st.caption(f":material/person_pin: {others.total():,} claimed by {names}: {then}.")


def _table(rows: list[dict[str, str]], alt: str) -> None:
    if len(rows) <= FEW:
        # st.table renders Markdown, st.dataframe does not.
        shown = [{name: labels.plain(cell) for name, cell in row.items()} for row in rows]
        st.table(shown, border="horizontal", hide_index=True, alt=alt)
    else:
        st.dataframe(rows, hide_index=True, height=320, alt=alt)


def _left_out(comparison: PreviewComparison, frozen: FrozenSelection | None) -> Mapping[str, str]:
    """Reasons by item id: items that are left out, or before the freeze, items that a freeze now would leave out."""
    return frozen.left_out if frozen else {item_id: one.why for item_id, one in comparison.items.items() if one.why}


def _frozen(comparison: PreviewComparison, key: str) -> FrozenSelection | None:
    """The frozen selection; None while lookups are running."""
    lookups, now = _lookups(key), console().now()
    if lookups.frozen is None:
        # No answer can arrive while no worker runs.
        is_asking = comparison.is_asking and access.write_note() is None
        lookups.frozen = freeze(comparison.items, now, is_asking=is_asking, waited=now - lookups.began_at)
    return lookups.frozen


def _summary(bulk: BulkRequest, comparison: PreviewComparison, frozen: FrozenSelection | None, key: str) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key=f"compared_{key}"):
        if frozen is None and access.write_block():
            st.markdown(":material/sync_disabled: The Inventory Service cannot be asked now.", width="stretch")
            return
        if frozen is None:
            st.markdown(":material/compare_arrows: Asking the Inventory Service...", width="stretch")
            st.button("Do not wait", key=f"now_{key}", type="tertiary", on_click=_do_not_wait, args=(comparison, key))
            return
        text = preview_summary(one.agreement for one in comparison.items.values())
        st.markdown(f":material/compare_arrows: {text[:1].upper()}{text[1:]}.", width="stretch")
        access.button(
            "Ask again",
            f"again_{key}",
            icon="sync",
            type="tertiary",
            hint="Asks anew, and freezes what is acted on anew.",
            on_click=_again,
            args=(bulk, key),
        )
    number = len(bulk.targets) - len(frozen.left_out)
    at = clock.at(frozen.at, console().now())
    late = _late(comparison, frozen)
    st.caption(
        f":material/ac_unit: Frozen at {at}: acts on {number:,} of {len(bulk.targets):,}. Later answers change nothing "
        f"here; each item is compared once more when its turn comes.{late}"
    )


def _late(comparison: PreviewComparison, frozen: FrozenSelection) -> str:
    """A warning with the number of further items that a new freeze would leave out; empty without any."""
    number = sum(one.why is not None and item_id not in frozen.left_out for item_id, one in comparison.items.items())
    return f" :orange[{number:,} more would be refused by now: ask again to leave them out.]" if number else ""


def _row(
    bulk: BulkRequest, target: BulkTarget, comparison: PreviewComparison, frozen: FrozenSelection | None
) -> dict[str, str]:
    one = comparison.items.get(target.item_id, ComparedItem(Agreement.UNANSWERED))
    is_left_out = target.item_id in _left_out(comparison, frozen)
    follows = LEFT_OUT if is_left_out else _retried(bulk, one)
    is_asking = frozen is None and access.write_block() is None
    columns = {"Inventory status": _stock(one, is_asking=is_asking), FOLLOWS: follows}
    return _named(target) | columns | _facts(target)


def _named(target: BulkTarget) -> dict[str, str]:
    return {"Id": target.item_id} | ({"Order": target.order_id} if target.order_id != target.item_id else {})


def _facts(target: BulkTarget) -> dict[str, str]:
    """The table cells of an item except its inventory status, ids first."""
    cells = {
        "State": target.state.capitalize(),
        "Version": str(target.version),
        "Cause": labels.plain(labels.cause_text(target.cause)),
    }
    claim = f"{target.claimed_by} works on it. " if target.claimed_by else ""
    note = f"{claim}{labels.sentence(target.note)}"
    return _named(target) | cells | ({"Note": note} if note else {})


def _stock(one: ComparedItem, *, is_asking: bool) -> str:
    if one.agreement == Agreement.LATER:
        return f"Beyond the first {MAX_ASKED}"
    if one.lookup is not None and one.lookup.stock is not None:
        return labels.text(labels.STOCK_STATE, one.lookup.stock)
    if one.lookup is not None:
        return labels.text(labels.LOOKUP_PROBLEM, one.lookup.problem or "NO_ANSWER")
    return "Asking..." if is_asking else "Not answered"


def _retried(bulk: BulkRequest, one: ComparedItem) -> str:
    if bulk.bulk_action != BulkAction.RETRY_RELEASE or one.lookup is None:
        return ""
    return RETRIED.get(one.lookup.stock, "") if one.lookup.stock else ""


def _do_not_wait(comparison: PreviewComparison, key: str) -> None:
    _lookups(key).frozen = FrozenSelection(console().now(), _left_out(comparison, None))


def _again(bulk: BulkRequest, key: str) -> None:
    st.session_state.pop(f"complaint_{key}", None)
    begin(bulk, key, _lookups(key).turn + 1)
