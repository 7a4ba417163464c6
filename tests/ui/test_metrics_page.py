"""The Metrics page: key metrics, thresholds, bands, ranges in the address, spikes and their orders, CSV, objective."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from services.console.facade import console
from services.console.incidents import IncidentInterval
from services.console.metric_span import Wanted
from state import samples
from state.engine.database import Database
from tests.support import seed_console
from tests.support.pages import NOON, affected, checked, press, text_of

Show = Callable[..., AppTest]
OUTAGE = IncidentInterval(NOON - seed_console.OUTAGE[0], NOON - seed_console.OUTAGE[1])


def charts(test: AppTest) -> dict[str, Any]:
    """The specification of each chart by its description."""
    return {chart.proto.alt: json.loads(chart.proto.spec) for chart in test.get("vega_lite_chart")}


def test_the_five_key_metrics_of_the_seed_are_on_top(busy: Database, show: Show) -> None:
    text = text_of(show("metrics.py"))
    for label in (
        "Availability p95",
        "Availability success",
        "Reservation success",
        "Breakers not closed",
        "Failed orders",
    ):
        assert label in text
    assert "3 min" in text
    assert "most: waiting for inventory" in text


def test_the_page_shows_where_its_numbers_come_from_and_how_old_they_are(busy: Database, show: Show) -> None:
    text = text_of(show("metrics.py"))
    assert "source: local history, newest measurement" in text
    assert "each point is 30 s" in text


def test_alert_thresholds_are_drawn_and_named(busy: Database, show: Show) -> None:
    found = charts(show("metrics.py"))
    for name, threshold in (("Response time p95", "1,000 ms"), ("Success rate", "95 %"), ("Queues", "100")):
        alt = next(alt for alt in found if alt.startswith(name))
        assert f"alert threshold {threshold}" in alt
        assert any(layer["mark"]["type"] == "rule" for layer in found[alt]["layer"])


def test_breaker_bands_are_behind_every_time_series_and_each_of_them_can_be_brushed(busy: Database, show: Show) -> None:
    found = {alt: spec for alt, spec in charts(show("metrics.py")).items() if "layer" in spec and "States" not in alt}
    assert len(found) >= 6
    for alt, spec in found.items():
        assert "shaded where a breaker was not closed" in alt
        assert spec["layer"][0]["mark"]["type"] == "rect"
        assert spec["layer"][1]["params"][0]["select"] == {"type": "interval", "encodings": ["x"]}


@pytest.mark.parametrize("preset", ["15m", "1h", "6h", "24h", "7d", "30d"])
def test_every_preset_opens_from_its_address(busy: Database, show: Show, preset: str) -> None:
    test = show("metrics.py", range=preset)
    assert test.session_state["range"] == preset
    assert "Reservation success" in text_of(test)


def test_an_interval_of_ones_own_is_in_the_address(busy: Database, show: Show) -> None:
    test = show("metrics.py", **{"range": "custom", "from": "2026-11-22T11:40:00Z", "to": "2026-11-22T11:45:00Z"})
    text = text_of(test)
    assert "11:40:00 to 11:45:00 UTC" in text
    assert "all closed throughout" in text


def test_a_time_in_which_nothing_was_recorded_offers_the_way_back(busy: Database, show: Show) -> None:
    test = show("metrics.py", **{"range": "custom", "from": "2026-11-01T11:40:00Z", "to": "2026-11-01T11:45:00Z"})
    assert "Nothing was recorded in this time." in text_of(test)
    press(test, "last_hour")
    assert "Reservation success" in text_of(test)


def test_no_failure_is_a_text_and_not_an_empty_chart(busy: Database, show: Show) -> None:
    test = show("metrics.py", **{"range": "custom", "from": "2026-11-22T11:30:00Z", "to": "2026-11-22T11:33:00Z"})
    assert "No call was denied by an open breaker in this time." in text_of(test)


def test_a_brushed_spike_leads_to_exactly_the_orders_in_it(busy: Database, show: Show) -> None:
    test = show("metrics.py", incident=str(OUTAGE))
    assert set(affected(test)) == set(seed_console.AFFECTED)
    assert "8 orders affected" in text_of(test)


def test_a_picked_interval_can_be_enlarged(busy: Database, show: Show) -> None:
    test = press(show("metrics.py", incident=str(OUTAGE)), "zoom_in")
    assert test.session_state["range"] == "custom"
    text = text_of(test)
    assert "11:46:3" in text
    assert "each point is 15 s" in text


def test_the_objective_shows_what_is_left_of_its_budget(busy: Database, show: Show) -> None:
    text = text_of(show("metrics.py"))
    assert "target 95 % over 30 d" in text
    assert "Error budget left" in text
    assert ":material/error: used up" in text
    assert "Fast burn (60 min)" in text


def test_the_table_for_download_has_a_row_per_step_and_a_column_per_series(busy: Database, show: Show) -> None:
    history = console().metrics.history(Wanted("15m")).value
    assert history is not None
    head, *rows = history.csv().decode().splitlines()
    assert head.startswith("at,")
    assert {"success_rate.reserve", "failures_per_minute.INVENTORY_UNAVAILABLE", "queues.reservation"} <= set(
        head.split(",")
    )
    assert rows[0].startswith("2026-11-22T11:45:00Z,")
    assert len(rows) in (60, 61)


def test_the_history_outlives_the_database(busy: Database, show: Show) -> None:
    test = show("metrics.py")
    file = Path(str(busy.url.database))
    file.rename(file.with_suffix(".away"))
    text = text_of(checked(test.run()))
    assert "Old data: as of 12:00:00" in text
    assert "Reservation success" in text


def test_rates_of_the_page_are_those_of_the_samples(busy: Database, show: Show) -> None:
    history = console().metrics.history(Wanted("custom", NOON - timedelta(minutes=10), NOON)).value
    assert history is not None
    rows = busy.read_now(lambda c: samples.since(c, NOON - timedelta(minutes=10, seconds=6)))
    first, last = rows[0][2], rows[-1][2]

    def grown(outcome: str) -> int:
        return last["requests"]["reserve"].get(outcome, 0) - first["requests"]["reserve"].get(outcome, 0)

    outcomes = {outcome: grown(outcome) for outcome in last["requests"]["reserve"]}
    answered = outcomes["success"] + outcomes["rejected"]
    assert history.total("success_rate")["reserve"] == pytest.approx(answered / sum(outcomes.values()), abs=0.01)
