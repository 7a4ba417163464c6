"""Actions: a click stores a command, and its state is shown. No page calls another service."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any

import streamlit as st

from pages.parts import access, labels, names
from pages.parts.widgets import clock
from services.console.access import NotPermitted
from services.console.facade import console, same_sight_key
from services.domain.commands import CommandKind, CommandState
from state.commands import Command
from state.engine.source import SourceUnavailable

FLASH = "flash"


def stored(command: Command) -> str:
    """The message after a click that has stored a command."""
    return f"{names.KINDS.get(command.kind, 'Command')}: stored"


def store(store: Callable[[str], Any], message: Callable[[Any], str] = stored) -> bool:
    """Callback: store a command on behalf of the actor. Returns False if it could not be stored."""
    try:
        result = store(access.actor())
    except (SourceUnavailable, NotPermitted) as error:
        st.session_state[FLASH] = (f"Not stored: {error}", ":material/error:")
        return False
    st.session_state[FLASH] = (message(result), ":material/schedule:")
    return True


def command(
    kind: CommandKind,
    target_id: str,
    key: str,
    arguments: Mapping[str, Any] | None = None,
    undo_for: timedelta | None = None,
) -> Callable[[str], Command]:
    """What store() stores: a command under its idempotency key. ``undo_for`` is how long it can be undone."""
    return lambda actor: console().access.store_command(
        kind, target_id, arguments or {}, actor=actor, command_id=key, undo_for=undo_for
    )


def store_once(
    kind: CommandKind, target_id: str, version: int, last: Command | None, arguments: Mapping[str, Any] | None = None
) -> None:
    """Callback of a button without a dialog: store a command once for what the page shows; see same_sight_key."""
    store(command(kind, target_id, same_sight_key(kind, target_id, version, last), arguments))


def store_silently(store: Callable[[str], Command | None]) -> None:
    """Store a lookup on behalf of the actor. Shows no message when the lookup cannot be stored."""
    with suppress(SourceUnavailable, NotPermitted):
        store(access.actor())


def flash() -> None:
    """Show the message of the last callback once."""
    if message := st.session_state.pop(FLASH, None):
        text, icon = message
        st.toast(text, icon=icon)


def is_waiting(command: Command | None) -> bool:
    """True when the target's command is stored or running."""
    return command is not None and command.is_unfinished


def if_waiting(command: Command | None, reason: str) -> str | None:
    """The reason why a button is disabled while the target's command is stored or running; None otherwise."""
    return reason if is_waiting(command) else None


def can_undo(command: Command | None) -> bool:
    """True when no worker has run the command yet and a person may undo it."""
    if command is None or command.state != CommandState.STORED or command.undo_until is None:
        return False
    return command.is_queued or command.undo_until > console().now()


def undo(command: Command) -> None:
    """Callback: withdraw a delayed command."""
    try:
        taken = console().access.withdraw(command, actor=access.actor())
    except (SourceUnavailable, NotPermitted) as error:
        st.session_state[FLASH] = (f"Not taken back: {error}", ":material/error:")
        return
    late = ("Too late: it has run already", ":material/error:")
    st.session_state[FLASH] = ("Taken back: nothing was done", ":material/undo:") if taken else late


def draw(command: Command | None, undo_key: str | None = None) -> None:
    """Draw a command, if any, with its outcome, and with ``undo_key`` the button that withdraws it."""
    if command is None:
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(f":small[{summary(command)}]", width="content")
        if undo_key and can_undo(command):
            _undo_button(command, undo_key)


def _undo_button(command: Command, key: str) -> None:
    left = clock.span(command.undo_until - console().now()) if command.undo_until else ""
    access.button(
        f"Undo ({'queued' if command.is_queued else left})",
        key,
        icon="undo",
        hint="Nothing has been done yet: this takes it back.",
        on_click=undo,
        args=(command,),
    )


def summary(command: Command, *, with_age: bool = True) -> str:
    """A command in one line of Markdown: state, action, outcome, actor and age."""
    said = (command.outcome.title, command.outcome.detail) if command.outcome else ()
    ended = " · ".join(labels.plain(text) for text in said if text)
    badge = labels.badge(labels.COMMAND, command.state, grey=bool(console().status.live().problem))
    if control := command.arguments.get("move"):
        what = f"{names.CONTROLS.get(str(control), 'Control')}: bulk job"
    else:
        what = names.ACTIONS.get(str(command.arguments.get("action"))) or labels.kind(command.kind)
    who = labels.plain(command.actor)
    age = f" · {clock.ago(command.created_at, console().now())}" if with_age else ""
    return f"{badge} {what}{f': {ended}' if ended else ''} · {who}{age}"
