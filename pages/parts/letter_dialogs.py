"""Dialogs about dead letters: the ids of a group are frozen when the dialog opens."""

from __future__ import annotations

from functools import partial

import streamlit as st
from parts import words
from parts.dialogs import form

from services.console import Command, SourceUnavailable, console, new_key
from services.console.events import DeadLetter, Group

LISTED = 10


def replay_group(group: Group) -> None:
    if ids := _ids(group):
        _replay_group(group, ids, new_key())


def discard_group(group: Group) -> None:
    if ids := _ids(group):
        _discard_group(group, ids, new_key())


def discard(letter: DeadLetter) -> None:
    _discard(letter, new_key())


def _ids(group: Group) -> tuple[str, ...]:
    try:
        return tuple(console().events.ids_of_group(group))
    except SourceUnavailable as error:
        st.toast(str(error), icon=":material/error:")
        return ()


@st.dialog("Replay events", icon=":material/replay:", width="medium")
def _replay_group(group: Group, ids: tuple[str, ...], key: str) -> None:
    rate = console().events.REPLAYS_PER_SECOND
    _preview(group, ids)
    st.markdown(
        f"The handler runs on the stored bytes again, {rate} a second at most, the oldest first. "
        "What was handled before has no second effect; what fails again stays open with its new reason."
    )
    form(key, button=f"Replay {len(ids)}", store=lambda _: [partial(_store_replay, group, ids, key)])


def _store_replay(group: Group, ids: tuple[str, ...], key: str, actor: str) -> Command:
    return console().events.replay_group(group, ids, actor=actor, command_id=key)


@st.dialog("Discard events", icon=":material/delete:", width="medium")
def _discard_group(group: Group, ids: tuple[str, ...], key: str) -> None:
    _preview(group, ids)
    st.markdown("These events will never take effect. This cannot be undone; the letters stay readable for 90 days.")
    form(
        key,
        note="Reason",
        required=True,
        typed_count=len(ids) if len(ids) > 1 else None,
        button=f"Discard {len(ids)}",
        store=lambda note: [partial(_store_discard_group, group, ids, note, key)],
    )


def _store_discard_group(group: Group, ids: tuple[str, ...], note: str, key: str, actor: str) -> Command:
    return console().events.discard_group(group, ids, note, actor=actor, command_id=key)


@st.dialog("Discard event", icon=":material/delete:")
def _discard(letter: DeadLetter, key: str) -> None:
    st.markdown(
        f"**{words.plain(letter.subject)}** will never take effect. This cannot be undone; the letter stays "
        "readable for 90 days."
    )
    form(
        key,
        note="Reason",
        required=True,
        button="Discard",
        store=lambda note: [partial(_store_discard, letter, note, key)],
    )


def _store_discard(letter: DeadLetter, note: str, key: str, actor: str) -> Command:
    return console().events.discard(letter, note, actor=actor, command_id=key)


def _preview(group: Group, ids: tuple[str, ...]) -> None:
    left = group.letters - len(ids)
    st.markdown(f"**{words.plain(group.subject)}** · {len(ids)} of {max(group.letters, len(ids))} open letters")
    st.caption(words.plain(group.example))
    if left > 0:
        st.caption(f"At most {console().events.MAX_GROUP} at a time, the oldest first; {left:,} are left for later.")
    shown = ", ".join(words.plain(letter_id) for letter_id in ids[:LISTED])
    more = f" and {len(ids) - LISTED} more" if len(ids) > LISTED else ""
    st.caption(f"{shown}{more}")
