"""The dialog that gives up one dead letter; those of a group are bulk operations."""

from __future__ import annotations

from functools import partial

import streamlit as st

from pages.parts import labels, overlay
from pages.parts.dialogs import form
from services.console.access import Command
from services.console.events import DeadLetter
from services.console.facade import console, new_key


def discard(letter: DeadLetter) -> None:
    overlay.show("Discard event", _discard, letter, new_key(), icon=":material/delete:")


def _discard(letter: DeadLetter, key: str) -> None:
    st.markdown(
        f"**{labels.plain(letter.subject)}** will never take effect. This cannot be undone; the letter stays "
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
