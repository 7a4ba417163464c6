"""The panel of the objective for reservations: the error budget that is left and its burn rates."""

from __future__ import annotations

import math

import streamlit as st

from pages.parts import frame, tiles
from pages.parts.widgets import clock, empty
from services.console.cache import Reading
from services.console.metric_history import PERIOD, Budget, Burn

# The warnings have icons and no colour, because Streamlit draws notes too faintly for a readable colour.
USED_UP = " · :material/error: used up"
TOO_FAST = " · :material/local_fire_department: too fast"


def panel(reading: Reading[Budget]) -> None:
    """Objective, budget and burn rates of reservations."""
    with st.container(border=True):
        st.markdown(
            "**Objective: reservations answered** "
            ":gray[:small[technical success; calls denied by an open breaker count as failures]]"
        )
        if reading.value is None and reading.problem is None:
            empty.no_data_yet("The objective is being computed.")
        elif reading.value is None:
            empty.no_source(reading)
        else:
            _budget(reading.value, reading)


def _budget(budget: Budget, reading: Reading[Budget]) -> None:
    frame.as_of(reading, f"target {budget.target * 100:g} % over {clock.span(PERIOD)}")
    grey = bool(reading.problem)
    calls = budget.calls
    failed = round(calls.total - calls.good)
    allowed = round(calls.total * (1 - budget.target))
    with st.grid(4, min_column_width=170):
        tiles.number(
            "Success",
            tiles.percent(calls.success_rate),
            note=f"{round(calls.total):,} calls in {clock.span(PERIOD)}",
            grey=grey,
            chart=False,
        )
        tiles.number(
            "Error budget left",
            "n/a" if budget.left is None else f"{max(-9.99, budget.left) * 100:.0f} %",
            note=f"{failed:,} failed of {allowed:,} allowed{USED_UP if budget.is_used_up else ''}",
            grey=grey,
            chart=False,
        )
        for burn in budget.burns:
            _burn(burn, grey=grey)


def _burn(burn: Burn, *, grey: bool) -> None:
    pace = burn.pace
    verdict = TOO_FAST if burn.is_too_fast else ""
    tiles.number(
        f"{pace.name} ({clock.span(pace.long)})",
        _times(burn.long),
        note=f"{_times(burn.short)} in {clock.span(pace.short)} · limit {pace.limit:g}{verdict}",
        grey=grey,
        chart=False,
        help="1 uses the budget up exactly within the period. Too fast: both windows are at the limit or above.",
    )


def _times(rate: float | None) -> str:
    if rate is None:
        return "no calls"
    return "∞" if math.isinf(rate) else f"{rate:.1f} x"
