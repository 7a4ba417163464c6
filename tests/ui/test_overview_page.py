"""Overview and breakers: is it healthy, why not, and where to go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamlit.testing.v1 import AppTest

from state import replicas, reviews
from state.engine.database import Database
from tests.support import seed_console
from tests.support.pages import NOON, text_of

Show = Callable[..., AppTest]


def well(connection: Any) -> None:
    seed_console.heartbeat(connection, NOON)


def test_all_well_is_one_quiet_sentence(database: Database, show: Show) -> None:
    database.write_now(well)
    test = show()
    assert "Everything is running.** 3 breakers closed; nothing waits for a person." in text_of(test)
    assert not test.error
    assert not test.warning


def test_what_is_wrong_is_shown_worst_first_and_linked(busy: Database, show: Show) -> None:
    test = show()
    assert test.error[0].value.startswith("The breaker of reservation is open. 1 order waits for inventory.")
    links = {link.proto.label: link.proto for link in test.get("page_link")}
    assert list(links) == [
        "Breakers",
        "Orders that wait",
        "Failed releases",
        "Manual review",
        "Differences",
        "Dead letters",
        "Alerts: what to do, acknowledge, silence",
    ]
    assert links["Orders that wait"].query_string == "status=Waiting+for+inventory"
    assert links["Failed releases"].query_string == "job=Failed"


def test_a_tile_per_breaker_has_state_in_words_sample_size_and_time_to_the_trial(busy: Database, show: Show) -> None:
    text = text_of(show())
    assert ":red-badge[:material/block: Open]" in text
    assert "17 of 24 failed · trial in 18 s" in text
    assert "1 of 42 failed · closed for 6 h" in text


def test_tiles_have_a_time_series(busy: Database, show: Show) -> None:
    shown = {metric.label: metric for metric in show().metric}
    assert shown["Waiting for inventory"].value == "1"
    assert shown["Releases pending"].value == "3"
    assert shown["Flagged orders"].value == "6"
    assert shown["Dead letters"].value == "12"
    assert shown["Reservation success"].value.endswith(" %")
    assert len(shown["Flagged orders"].proto.chart_data) > 20


def test_orders_per_minute_are_drawn_with_the_outage(busy: Database, show: Show) -> None:
    (chart,) = show().get("vega_lite_chart")
    assert "breaker was not closed" in chart.proto.alt


def test_without_samples_nothing_is_drawn_and_nothing_is_zero(database: Database, show: Show) -> None:
    database.write_now(well)
    test = show()
    assert "No samples yet" in text_of(test)
    assert not test.get("vega_lite_chart")
    assert next(metric for metric in test.metric if metric.label == "Reservation success").value == "n/a"


def test_what_changed_last_has_transitions_and_commands(busy: Database, show: Show) -> None:
    text = text_of(show())
    assert "Closed] Availability check breaker" in text
    assert "Refused] Confirm again: Somebody was faster · resolved by olga@example.com · ben" in text


def test_a_breaker_shows_rate_with_sample_and_threshold_denied_calls_and_quantiles(busy: Database, show: Show) -> None:
    text = text_of(show("breakers.py"))
    assert "70.8 % of 24" in text
    assert "opens at 50 % of at least 5" in text
    assert "inventoryServiceReserver · since 11:59:48 · 12 s ago · half-open, one trial, in 18 s · on worker-1" in text


def test_the_worst_replica_makes_the_state_of_a_breaker(busy: Database, show: Show) -> None:
    def second(connection: Any) -> None:
        half_open = [seed_console.breaker(seed_console.BREAKERS[0], "half_open", NOON)]
        facts: dict[str, Any] = {"version": "0.1.0", "sandbox": True}
        replicas.beat(
            connection,
            replicas.Replica("worker-2", started_at=NOON, heartbeat_at=NOON, breakers=half_open, facts=facts),
        )

    busy.write_now(second)
    test = show("breakers.py")
    table = test.table[0].value.to_dict("records")
    assert [row["Replica"] for row in table] == ["worker-1", "worker-2"]
    assert ":orange-badge[:material/hourglass_top: Half-open]" in text_of(test)


def test_no_breaker_opened_is_distinguished_from_missing_data(database: Database, show: Show) -> None:
    database.write_now(well)
    assert "No breaker has opened in the last day." in text_of(show("breakers.py"))


def test_a_case_that_is_resolved_no_longer_counts(busy: Database, show: Show) -> None:
    def settle(connection: Any) -> None:
        for review_id, *_ in seed_console.CASES:
            case = reviews.get(connection, review_id)
            assert case is not None
            reviews.resolve(connection, case, by="olga", resolution="APPROVE", note="", at=NOON, ignore_claim=True)

    def flagged() -> str:
        return str(next(metric for metric in show().metric if metric.label == "Flagged orders").value)

    assert flagged() == "6"
    busy.write_now(settle)
    assert flagged() == "0"
