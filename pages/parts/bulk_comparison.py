"""The comparison in a bulk preview: the inventory status of each item, a summary and the time of the freeze."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime

import streamlit as st

from pages.parts import access, actions, labels
from pages.parts.widgets import clock
from services.console.bulk import BulkRequest, BulkTarget, PreviewComparison
from services.console.facade import console, same_sight_key
from services.domain.bulk import BulkAction
from services.domain.bulk_preview import MAX_ASKED, Agreement, ComparedItem, FrozenSelection, freeze, summary
from services.domain.conservation import StockState

FEW = 20
"""Maximum items of a preview in a table. A longer preview is a grid, which scrolls, searches and catches Escape."""
LEFT_OUT, FOLLOWS = "Will be left out", "What follows"
RETRIED = {
    StockState.RESERVED: "Releases the reservation",
    StockState.FREE: "Harmless: nothing held, closes the job",
}
"""The effect of a release retry, by stock state."""


def begin(bulk: BulkRequest, key: str) -> None:
    """Start the lookups of a preview when it opens."""
    if not bulk.has_reconciliation:
        return
    st.session_state[_opened(key)] = (0, console().now())
    if access.write_block() is None:
        _ask(bulk, _question(key))


def draw(bulk: BulkRequest, key: str) -> FrozenSelection | None:
    """Draw the compared items; returns the frozen selection, or None while lookups are running."""
    if not bulk.has_reconciliation:
        _table([_facts(target) for target in bulk.targets], f"The {len(bulk.targets)} things previewed")
        return FrozenSelection(bulk.seen_at)
    reading = console().previews.compared(bulk, _question(key))
    said = reading.value or PreviewComparison({}, None)
    frozen = _frozen(said, key)
    rows = [_row(bulk, target, said, frozen) for target in bulk.targets]
    _table(
        rows if any(row[FOLLOWS] for row in rows) else [_without(row, FOLLOWS) for row in rows],
        f"The {len(bulk.targets)} things previewed, with what the Inventory Service says of each",
    )
    _summary(bulk, said, frozen, key)
    for why, number in Counter(_left_out(said, frozen).values()).items():
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


def _left_out(said: PreviewComparison, frozen: FrozenSelection | None) -> Mapping[str, str]:
    """Reasons by item id: items that are left out, or before the freeze, items that a freeze now would leave out."""
    return frozen.left_out if frozen else {item_id: one.why for item_id, one in said.items.items() if one.why}


def _without(row: dict[str, str], column: str) -> dict[str, str]:
    return {name: cell for name, cell in row.items() if name != column}


def _frozen(said: PreviewComparison, key: str) -> FrozenSelection | None:
    """The frozen selection; None while lookups are running.

    A selection is frozen once per lookup, so that it does not change while the actor types.
    """
    place = f"frozen_{key}"
    if place not in st.session_state:
        now = console().now()
        _, opened_at = _turn(key)
        # No answer can arrive while no worker runs.
        is_asking = said.is_asking and access.write_note() is None
        if (fixed := freeze(said.items, now, is_asking=is_asking, waited=now - opened_at)) is None:
            return None
        st.session_state[place] = fixed
    return st.session_state[place]  # type: ignore[no-any-return]


def _summary(bulk: BulkRequest, said: PreviewComparison, frozen: FrozenSelection | None, key: str) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key=f"compared_{key}"):
        if frozen is None and access.write_block():
            st.markdown(":material/sync_disabled: The Inventory Service cannot be asked now.", width="stretch")
            return
        if frozen is None:
            st.markdown(":material/compare_arrows: Asking the Inventory Service...", width="stretch")
            st.button("Do not wait", key=f"now_{key}", type="tertiary", on_click=_do_not_wait, args=(said, key))
            return
        text = summary(one.agreement for one in said.items.values())
        st.markdown(f":material/compare_arrows: {text[:1].upper()}{text[1:]}.", width="stretch")
        reason = access.write_block()
        st.button(
            "Ask again",
            key=f"again_{key}",
            icon=":material/sync:",
            type="tertiary",
            disabled=reason is not None,
            help=reason or "Asks anew, and freezes what is acted on anew.",
            on_click=_again,
            args=(bulk, key),
        )
    number = len(bulk.targets) - len(frozen.left_out)
    at = clock.at(frozen.at, console().now())
    late = _late(said, frozen)
    st.caption(
        f":material/ac_unit: Frozen at {at}: acts on {number:,} of {len(bulk.targets):,}. Later answers change nothing "
        f"here; each item is compared once more when its turn comes.{late}"
    )


def _late(said: PreviewComparison, frozen: FrozenSelection) -> str:
    """A warning with the number of further items that a new freeze would leave out; empty without any."""
    number = sum(one.why is not None and item_id not in frozen.left_out for item_id, one in said.items.items())
    return f" :orange[{number:,} more would be refused by now: ask again to leave them out.]" if number else ""


def _row(
    bulk: BulkRequest, target: BulkTarget, said: PreviewComparison, frozen: FrozenSelection | None
) -> dict[str, str]:
    one = said.items.get(target.item_id, ComparedItem(Agreement.UNANSWERED))
    is_left_out = target.item_id in _left_out(said, frozen)
    follows = LEFT_OUT if is_left_out else _retried(bulk, one)
    is_asking = frozen is None and access.write_block() is None
    columns = {"Theirs": _stock(one, is_asking=is_asking), FOLLOWS: follows}
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


# -- lookups --------------------------------------------------------------------------------------


def _opened(key: str) -> str:
    return f"compared_at_{key}"


def _turn(key: str) -> tuple[int, datetime]:
    """The number of the current lookup and its start time; 0 and now if the session has none."""
    turn: tuple[int, datetime] = st.session_state.get(_opened(key)) or (0, console().now())
    return turn


def _question(key: str) -> str:
    """The id of the lookup command; a repeated lookup has another id."""
    turn, _ = _turn(key)
    return same_sight_key("ask_theirs_many", key, turn, None)


def _ask(bulk: BulkRequest, command_id: str) -> None:
    actions.store_silently(lambda actor: console().previews.ask(bulk, actor=actor, command_id=command_id))


def _do_not_wait(said: PreviewComparison, key: str) -> None:
    left_out = {item_id: one.why for item_id, one in said.items.items() if one.why}
    st.session_state[f"frozen_{key}"] = FrozenSelection(console().now(), left_out)


def _again(bulk: BulkRequest, key: str) -> None:
    turn, _ = _turn(key)
    st.session_state[_opened(key)] = (turn + 1, console().now())
    st.session_state.pop(f"frozen_{key}", None)
    st.session_state.pop(f"complaint_{key}", None)
    _ask(bulk, _question(key))
