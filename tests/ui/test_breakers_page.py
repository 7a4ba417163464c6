"""The Breakers page: each breaker on each replica, the orders that its openings affected, and manual overrides."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from services.console.facade import console
from services.console.incidents import IncidentInterval
from services.domain.incident_impact import DENIED, FALLBACK, Impact
from state import breakers, incident_impacts, orders, replicas
from state.breakers import BreakerOverride, BreakerTransition
from state.engine.database import Database
from tests.support import seed_console
from tests.support.pages import NOON, PAGES, affected, checked, dialog, listed, press, stored, text_of

Show = Callable[..., AppTest]
CHECKER, RESERVER, RELEASER = seed_console.BREAKERS
OUTAGE = IncidentInterval(NOON - seed_console.OUTAGE[0], NOON - seed_console.OUTAGE[1], RESERVER)


def start_override(database: Database, *, minutes: int = 10, state: str = "forced_open") -> None:
    override = BreakerOverride(RESERVER, state, "sale drill", "olga", NOON, NOON + timedelta(minutes=minutes))
    database.write_now(lambda c: breakers.put_override(c, override))


def test_each_breaker_shows_its_state_its_sample_its_threshold_and_what_it_denied(busy: Database, show: Show) -> None:
    text = text_of(show("breakers.py"))
    assert "70.8 % of 24" in text
    assert "opens at 50 % of at least 5" in text
    assert "half-open, one trial, in 18 s" in text
    assert "Calls denied 8 within the last hour 9" in text
    assert "Fallbacks served within the last hour 7" in text


def test_each_replica_has_a_line_and_the_worst_one_decides_the_state_of_the_breaker(busy: Database, show: Show) -> None:
    start = NOON - timedelta(hours=1)
    calm = [seed_console.breaker(name, "closed", start) for name in seed_console.BREAKERS]

    def second(connection: Any) -> None:
        replicas.beat(
            connection,
            replicas.Replica("worker-2", started_at=start, heartbeat_at=NOON, breakers=calm, facts={"sandbox": True}),
        )

    busy.write_now(second)
    test = show("breakers.py")
    rows = test.table[1].value.to_dict("records")
    assert [row["Replica"].replace("\\", "") for row in rows] == ["worker-1", "worker-2"]
    assert [row["Half-open in"] for row in rows] == ["18 s", ""]
    assert "Rolling window of worker-1" in text_of(test)


def test_an_opening_shows_what_it_affected_and_leads_to_exactly_those_orders(busy: Database, show: Show) -> None:
    test = show("breakers.py")
    assert "8 orders · 8 denied · 7 fallbacks · 2 flagged" in text_of(test)
    impact = next(button for button in test.button if f"_{OUTAGE.start.timestamp()}" in str(button.key))
    checked(impact.click().run())
    assert test.query_params["incident"] == str(OUTAGE)
    assert set(affected(test)) == set(seed_console.AFFECTED)
    text = text_of(test)
    assert "8 orders affected" in text
    assert "Calls denied refused by an open breaker 8" in text


def test_one_of_a_kind_is_shown_in_the_singular(busy: Database, show: Show) -> None:
    at = NOON - timedelta(minutes=3)

    def one(connection: Any) -> None:
        breakers.add_transitions(connection, [BreakerTransition("worker-1", CHECKER, "closed", "open", at)])
        incident_impacts.add(
            connection, "HURT-0", [Impact(at, FALLBACK, "check_availability", "AVAILABILITY_UNVERIFIED")]
        )

    busy.write_now(one)
    assert "1 order · 1 fallback\n" in text_of(show("breakers.py"))


def test_an_opening_that_is_over_is_grey_and_one_that_affected_no_order_has_no_button(
    busy: Database, show: Show
) -> None:
    def two(connection: Any) -> None:
        began, ended = NOON - timedelta(hours=3), NOON - timedelta(hours=2)
        moves = [("closed", "open", began), ("open", "closed", ended), ("closed", "open", NOON - timedelta(seconds=5))]
        changes = [BreakerTransition("worker-9", CHECKER, *move) for move in moves]
        breakers.add_transitions(connection, changes)

    busy.write_now(two)
    test = show("breakers.py")
    lasting, over = (
        test.button(key=f"impact_worker-9_{CHECKER}_{at.timestamp()}")
        for at in (NOON - timedelta(seconds=5), NOON - timedelta(hours=3))
    )
    assert not lasting.disabled
    assert (over.disabled, over.help) == (True, "No order was affected in this time.")
    text = text_of(test)
    assert ":red-badge[:material/block: Open] **Availability check**" in text
    assert ":gray-badge[:material/history: Was open] **Availability check**" in text


def test_the_orders_page_lists_the_very_orders_that_the_incident_impact_lists(busy: Database, show: Show) -> None:
    test = show("orders.py", incident=str(OUTAGE))
    assert set(listed(test)) == set(seed_console.AFFECTED)
    text = text_of(test)
    assert "8 orders match" in text
    press(test, "drop_incident")
    assert "incident" not in test.query_params
    assert len(listed(test)) == 20


def test_counts_and_list_agree_and_the_list_is_paged(busy: Database, show: Show) -> None:
    def many(connection: Any) -> None:
        for number in range(30):
            at = OUTAGE.start + timedelta(seconds=number)
            made = seed_console.order(f"HURT-{number:02}", "REJECTED", at)
            orders.add(connection, made, "h")
            incident_impacts.add(connection, made.order_id, [Impact(at, DENIED, "reserve", "short_circuited")])

    busy.write_now(many)
    test = show("breakers.py", incident=str(OUTAGE))
    first = affected(test)
    press(test, "hurt_page_next")
    second = affected(test)
    assert "38 orders affected" in text_of(test)
    assert (len(first), len(second)) == (20, 18)
    assert len({*first, *second}) == 38


def test_an_interval_without_affected_orders_reports_it(busy: Database, show: Show) -> None:
    calm = IncidentInterval(NOON - timedelta(hours=5), NOON - timedelta(hours=4))
    assert "No order was affected in this time" in text_of(show("breakers.py", incident=str(calm)))


@pytest.mark.parametrize(
    "nonsense", ["x", "2026~", "~", "2026-11-22T12:00:00Z~2026-11-22T11:00:00Z~", "2026-11-22T12:00:00Z~~thief"]
)
def test_an_address_that_makes_no_sense_is_no_incident(busy: Database, show: Show, nonsense: str) -> None:
    assert "Affected orders**" not in text_of(show("breakers.py", incident=nonsense))


def test_closing_the_incident_impact_takes_it_out_of_the_address(busy: Database, show: Show) -> None:
    test = press(show("breakers.py", incident=str(OUTAGE)), "drop_incident")
    assert "incident" not in test.query_params


# -------------------------------------------------------------------------------------------- overrides


def test_a_breaker_is_forced_by_a_stored_command_with_state_reason_and_length(busy: Database, show: Show) -> None:
    test = press(show("breakers.py"), f"override_{CHECKER}")
    test.radio[0].set_value("forced_closed")
    test.text_area(key=dialog(test, "note_")).set_value("sale drill")
    test.button(key=dialog(test, "do_")).click().run()
    (command,) = stored(busy)
    assert (command.kind, command.target_id) == ("set_override", CHECKER)
    assert command.arguments == {"state": "forced_closed", "reason": "sale drill", "expiresIn": 900_000}


def test_no_state_is_chosen_before_a_person_does(busy: Database, show: Show) -> None:
    test = press(show("breakers.py"), f"override_{CHECKER}")
    assert test.radio[0].value is None
    test.text_area(key=dialog(test, "note_")).set_value("sale drill")
    test.button(key=dialog(test, "do_")).click().run()
    assert stored(busy) == []


def test_without_a_reason_nothing_is_forced(busy: Database, show: Show) -> None:
    test = press(show("breakers.py"), f"override_{CHECKER}")
    test.radio[0].set_value("forced_open")
    test.button(key=dialog(test, "do_")).click().run()
    assert stored(busy) == []


@pytest.mark.parametrize("page", PAGES)
def test_every_page_shows_which_breaker_is_forced_by_whom_why_and_until_when(
    busy: Database, show: Show, page: str
) -> None:
    start_override(busy)
    text = text_of(show(page, order="ORD-1002"))
    assert "Forced open] **Reservation** breaker by olga: sale drill · ends by itself in 10 min (12:10:00)" in text


def test_an_override_is_ended_from_the_banner_once(busy: Database, show: Show) -> None:
    start_override(busy)
    test = show("overview.py")
    test.button(key=f"end_override_{RESERVER}").click().run()
    (command,) = stored(busy)
    assert (command.kind, command.target_id) == ("end_override", RESERVER)
    assert test.button(key=f"end_override_{RESERVER}").disabled


@pytest.mark.parametrize("page", ["overview.py", "orders.py", "metrics.py"])
def test_the_message_after_the_end_of_an_override_is_shown_on_the_same_page(
    busy: Database, show: Show, page: str
) -> None:
    start_override(busy)
    test = show(page)
    test.button(key=f"end_override_{RESERVER}").click().run()
    assert len(test.toast) == 1


def test_an_override_that_has_ended_has_no_banner(busy: Database, show: Show) -> None:
    start_override(busy, minutes=-1)
    assert "sale drill" not in text_of(show("overview.py"))


def test_nothing_can_be_forced_while_the_database_is_away(busy: Database, show: Show) -> None:
    start_override(busy)
    test = show("breakers.py")
    file = Path(str(busy.url.database))
    file.rename(file.with_suffix(".away"))
    test.run()
    assert test.button(key=f"override_{CHECKER}").disabled
    assert test.button(key=f"end_override_{RESERVER}").disabled
    assert console().status.overrides().problem
