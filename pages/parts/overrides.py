"""The banner of active overrides on every page: breaker, actor, reason, end, and a button to end it."""

from __future__ import annotations

import streamlit as st

from pages.parts import actions, labels
from pages.parts.widgets import clock
from services.console.facade import console, same_sight_key
from services.console.overrides import BreakerOverride


def banner(block: str | None) -> None:
    """One line per active override; ``block`` is the reason why commands cannot be stored now."""
    running = console().overrides.running().value or {}
    overrides = sorted(
        (override for override in running.values() if override.expires_at > console().now()),
        key=lambda one: one.breaker,
    )
    if not overrides:
        return
    asked = console().overrides.asked(tuple(override.breaker for override in overrides)).value or {}
    for override in overrides:
        command = asked.get(override.breaker)
        is_ending = command is not None and command.kind == "end_override" and actions.is_waiting(command)
        with st.container(
            border=True, key=f"override_banner_{override.breaker}", horizontal=True, vertical_alignment="center"
        ):
            st.markdown(_sentence(override), width="stretch")
            st.button(
                "Ending" if is_ending else "End now",
                key=f"end_override_{override.breaker}",
                icon=":material/undo:",
                disabled=is_ending or block is not None,
                help=block or "The breaker returns to its automatic state.",
                on_click=_end,
                args=(
                    override,
                    same_sight_key("end_override", override.breaker, int(override.created_at.timestamp() * 1000), None),
                ),
            )


def _sentence(override: BreakerOverride) -> str:
    now = console().now()
    name = labels.breaker(override.breaker)
    state = labels.badge(labels.BREAKER, override.state, grey=bool(console().status.live().problem))
    ends = f"ends by itself in {clock.span(override.expires_at - now)} ({clock.at(override.expires_at, now)})"
    return f"{state} **{name}** breaker by {labels.plain(override.actor)}: {labels.plain(override.reason)} · {ends}"


def _end(override: BreakerOverride, key: str) -> None:
    actions.store(lambda actor: console().overrides.end(override, actor=actor, command_id=key))
