"""Dead letters: groups with the same cause, the letters of one group, replay and discard."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st
from parts import asks, clock, empty, letter_dialogs, live, orders, payloads, steps, words

from services.console import console, same_sight_key
from services.console.events import EventsPage, Group, Letter

GROUP = "cause"
"""The parameter of the address that names the group shown: ``subject|cause``."""


def _group() -> tuple[str, str] | None:
    subject, bar, cause = str(st.query_params.get(GROUP, "")).partition("|")
    return (subject, cause) if bar else None


def every_cause() -> None:
    """For callbacks: letters of all groups again."""
    st.query_params.pop(GROUP, None)
    steps.reset("letters")


def _only(group: Group) -> None:
    steps.reset("letters")
    st.query_params[GROUP] = f"{group.subject}|{group.cause}"


def draw(state: str, order_id: str | None, clear: Callable[[], None]) -> None:
    group = _group()
    before, after = steps.places("letters")
    reading = console().events.letters(state=state, group=group, order_id=order_id, before=before, after=after)
    page = reading.value
    if page is None:
        empty.no_source(reading)
        return
    for command in page.commands:
        st.markdown(f":small[{asks.state(command)}]")
    if not page.letters.rows:
        _nothing(state, is_filtered=bool(group or order_id), clear=clear)
    grey = bool(reading.problem)
    if page.groups and not group and not order_id:
        _groups(page, state, grey=grey)
    if page.letters.rows:
        _letters(page, group, order_id, grey=grey)
    steps.buttons("letters", page.letters)  # type: ignore[arg-type]


def _nothing(state: str, *, is_filtered: bool, clear: Callable[[], None]) -> None:
    if is_filtered:
        empty.nothing_matches("No such letter matches; it may have been settled.", clear)
    elif state == "OPEN":
        empty.nothing_wrong("Every event that came in was handled.")
    else:
        empty.nothing_matches("No letter is in this state.", clear)


def _groups(page: EventsPage, state: str, *, grey: bool) -> None:
    st.markdown("**By cause**")
    with st.container(border=True, gap="small"):
        for number, group in enumerate(page.groups):
            _one_group(group, number, state, grey=grey)


def _one_group(group: Group, number: int, state: str, *, grey: bool) -> None:
    now = console().now()
    block = live.write_block()
    with st.container(gap="xxsmall", key=f"cause_{number}"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(words.badge(words.LETTER, state, grey=grey), width=90)
            count = f"{group.letters:,} {'letter' if group.letters == 1 else 'letters'}"
            st.markdown(f"**{words.plain(group.subject)}** · {count}", width="content")
            st.caption(f"last {clock.ago(group.last_at, now)}", width="stretch")
            st.button(
                "Only these", key=f"show_cause_{number}", icon=":material/filter_alt:", type="tertiary", on_click=_only,
                args=(group,),
            )  # fmt: skip
            if state == "OPEN":
                reach = min(group.letters, console().events.MAX_GROUP)
                if st.button(
                    f"Replay {reach}", key=f"replay_cause_{number}", icon=":material/replay:",
                    disabled=block is not None, help=block or live.write_note(),
                ):  # fmt: skip
                    letter_dialogs.replay_group(group)
                if st.button(
                    f"Discard {reach}", key=f"discard_cause_{number}", icon=":material/delete:",
                    disabled=block is not None, help=block or live.write_note(),
                ):  # fmt: skip
                    letter_dialogs.discard_group(group)
        st.caption(words.plain(group.example))


def _letters(page: EventsPage, group: tuple[str, str] | None, order_id: str | None, *, grey: bool) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        title = "Letters of this cause" if group else "Letters of this order" if order_id else "Newest letters"
        st.markdown(f"**{title}**", width="content")
        if group:
            st.button("Every cause", key="every_cause", type="tertiary", icon=":material/close:", on_click=every_cause)
    with st.container(border=True, gap="small"):
        for row in page.letters.rows:
            _letter(row, grey=grey)


def _letter(row: Letter, *, grey: bool) -> None:
    letter, now = row.letter, console().now()
    with st.container(gap="xxsmall", key=f"letter_{letter.id}"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(words.badge(words.LETTER, letter.state, grey=grey), width=90)
            st.markdown(f"**{words.plain(letter.subject)}**", width="content")
            if letter.order_id:
                orders.link(letter.order_id)
            else:
                st.caption("no order known", width=orders.ID_WIDTH)
            st.caption(clock.both(letter.created_at, now), width="stretch")
            if letter.state == "OPEN":
                _buttons(row)
        attempts = f"{letter.attempts} {'attempt' if letter.attempts == 1 else 'attempts'}"
        st.caption(f"{words.plain(letter.reason)} · {attempts}{_fate(row)}")
        if row.command:
            st.markdown(f":small[{asks.state(row.command)}]")
        with st.expander("Payload and headers", type="compact"):
            payloads.draw(letter.payload)
            if letter.headers:
                st.table(
                    [{"Header": words.plain(k), "Value": words.plain(v)} for k, v in letter.headers.items()],
                    border="horizontal", hide_index=True, alt="Headers of the message",
                )  # fmt: skip
            st.caption(f"{words.plain(letter.stream)} #{letter.stream_seq:,} · {len(letter.payload):,} bytes")


def _fate(row: Letter) -> str:
    letter = row.letter
    if letter.state == "OPEN":
        return f" · replay asked for by {words.plain(letter.replay_by)}" if letter.replay_at else ""
    note = f": {words.plain(letter.note)}" if letter.note else ""
    return f" · by {words.plain(letter.resolved_by)}{note}"


def _buttons(row: Letter) -> None:
    letter = row.letter
    block = live.write_block()
    reason = block or ("A command on this letter is under way." if asks.is_waiting(row.command) else None)
    st.button(
        "Replay", key=f"replay_{letter.id}", icon=":material/replay:", disabled=reason is not None,
        help=reason or live.write_note() or "Runs the handler on these bytes again; what was handled has no second "
        "effect.", on_click=_replay, args=(row,),
    )  # fmt: skip
    if st.button(
        "Discard", key=f"discard_{letter.id}", icon=":material/delete:", disabled=reason is not None,
        help=reason or live.write_note(),
    ):  # fmt: skip
        letter_dialogs.discard(letter)


def _replay(row: Letter) -> None:
    key = same_sight_key("replay_dead_letter", row.letter.id, row.letter.attempts, row.command)
    asks.ask(lambda actor: console().events.replay(row.letter, actor=actor, command_id=key))
