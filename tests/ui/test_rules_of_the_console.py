"""Rules that hold on every page alike: who may not act, old data, search and retry by key, the viewer's zone."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import Block

from services.console.access import NotPermitted
from services.console.facade import console
from state.engine.database import Database
from tests.support.pages import NOON, PAGES, as_role, checked, stored, text_of

Show = Callable[..., AppTest]

ACTING = {
    "alerts.py": ("Acknowledge", "Silence"),
    "breakers.py": ("Override",),
    "conservation.py": ("Compensate",),
    "events.py": ("Replay", "Discard"),
    "handover.py": ("Mark as seen",),
    "order.py": ("Cancel order", "Return items"),
    "releases.py": ("Retry now", "Mark released", "Retry 6 of 6 matching"),
    "reviews.py": ("Next unclaimed", "Cancel order", "Claim", "Confirm again"),
    "sandbox.py": ("Set up", "Set"),
}
EVERY = pytest.mark.parametrize("page", ACTING)


def acting(test: AppTest, page: str) -> list[tuple[str, bool, str]]:
    """Label, whether it is off, and the reason of the buttons that ask for something."""
    found = [(one.label, one.disabled, one.help) for one in test.button if one.label in ACTING[page]]
    assert {label for label, _, _ in found} == set(ACTING[page])
    return found


@EVERY
def test_who_may_not_act_sees_every_action_off_with_the_reason(busy: Database, show: Show, page: str) -> None:
    as_role(busy, "viewer")
    for label, disabled, reason in acting(show(page, order="ORD-1002", case="REV-3"), page):
        assert disabled, label
        assert reason == "Your role here is viewer: an operator may do this.", label


@EVERY
def test_what_can_no_longer_be_read_can_no_longer_be_acted_on(busy: Database, show: Show, page: str) -> None:
    test = show(page, order="ORD-1002", case="REV-3")
    file = Path(str(busy.url.database))
    file.rename(file.with_suffix(".away"))
    for label, disabled, reason in acting(checked(test.run()), page):
        assert disabled, label
        assert "Nothing can be stored" in reason, label


def test_the_facade_refuses_what_the_page_did_not(busy: Database) -> None:
    as_role(busy, "viewer")
    with pytest.raises(NotPermitted):
        console().handover.looked("ada")
    with pytest.raises(NotPermitted):
        console().access.store_command("set_traffic", "traffic", {}, actor="ada", command_id="key-1")
    assert stored(busy) == []


def shortcuts(test: AppTest) -> dict[str, str]:
    return {str(one.key): one.proto.shortcut for one in test.button if one.proto.shortcut}


@pytest.mark.parametrize(
    ("page", "field"),
    [
        ("orders.py", "q"),
        ("events.py", "event_order"),
        ("stock.py", "product"),
        ("reviews.py", "q"),
        ("releases.py", "find"),
        ("audit.py", "target"),
        ("alerts.py", "alert"),
    ],
)
def test_f_searches_on_every_page_with_a_search(busy: Database, show: Show, page: str, field: str) -> None:
    test = show(page)
    assert shortcuts(test)[f"open_find_{field}"].lower() == "f"
    test.button(key=f"open_find_{field}").click().run()
    test.text_input(key=f"find_text_{field}").set_value("ORD-1002")
    test.button(key=f"find_do_{field}").click().run()
    assert checked(test).text_input(key=field).value == "ORD-1002"


def test_retry_and_next_have_keys_and_nothing_final_has_one(busy: Database, show: Show) -> None:
    releases = show("releases.py")
    releases.checkbox(key="pick_release_ORD-3000").check().run()
    assert shortcuts(releases)["bulk_retry"].lower() == "t"
    assert "bulk_mark" not in shortcuts(releases)
    case = shortcuts(show("reviews.py", case="REV-1"))
    assert case["RETRY_RESERVATION_REV-1"].lower() == "t"
    assert case["claim_REV-1"].lower() == "m"
    assert case["next_unclaimed"].lower() == "n"
    assert "CANCEL_ORDER_REV-1" not in case
    assert shortcuts(show("order.py", order="ORD-3000"))["retry_release"].lower() == "t"
    assert shortcuts(show("orders.py"))["orders_before_step"].lower() == "ctrl+right"


def test_one_choice_of_the_zone_moves_tables_and_charts(
    busy: Database, show: Show, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = show("metrics.py")
    import pages.parts.widgets.clock  # type: ignore[import-not-found]

    monkeypatch.setattr(pages.parts.widgets.clock, "_of_browser", lambda: ZoneInfo("Asia/Tokyo"))
    assert "As of 21:00:00" in text_of(checked(test.run()))
    assert scales(test) == {"time"}
    test.segmented_control(key="times_in").set_value("UTC").run()
    assert "As of 12:00:00" in text_of(checked(test))
    assert scales(test) == {"utc"}
    test.switch_page("overview.py").run()
    assert "As of 12:00:00" in text_of(checked(test))


def test_an_instant_among_the_facts_of_a_step_reads_like_any_other_time(
    busy: Database, show: Show, monkeypatch: pytest.MonkeyPatch
) -> None:
    show("overview.py")
    import pages.parts.widgets.clock  # type: ignore[import-not-found]
    from pages.parts.widgets import history

    monkeypatch.setattr(pages.parts.widgets.clock, "_of_browser", lambda: ZoneInfo("Asia/Tokyo"))
    facts = {"expiresAt": "2026-11-22T12:20:40.911Z", "repeatAt": "never"}
    today, tomorrow = (history.details(facts, NOON + later).replace("\\", "") for later in (timedelta(), timedelta(1)))
    assert today == "expires at 21:20:40 · repeat at never"
    assert tomorrow == "expires at 22 Nov 2026 21:20 · repeat at never"


def test_charts_of_old_data_are_grey_and_bad_values_keep_their_colour(busy: Database, show: Show) -> None:
    test = show("breakers.py")
    assert '"#D23A57"' in _specs(test)
    file = Path(str(busy.url.database))
    file.rename(file.with_suffix(".away"))
    old = _specs(checked(test.run()))
    assert not any(f'"{color}"' in old for color in ("#D23A57", "#AC6600", "#3B82F6", "#199470"))
    assert '"#64748B"' in old
    assert '"#B4BDCB"' in old


def _specs(test: AppTest) -> str:
    return "".join(str(chart.proto.spec) for chart in test.get("vega_lite_chart"))


def scales(test: AppTest) -> set[str]:
    """The kinds of the time axes of every chart."""
    specs = [json.loads(chart.proto.spec) for chart in test.get("vega_lite_chart")]
    return {str(found) for spec in specs for found in _time_scales(spec)}


def _time_scales(part: object) -> list[str]:
    if isinstance(part, list):
        return [found for one in part for found in _time_scales(one)]
    if not isinstance(part, dict):
        return []
    own = [part["scale"]["type"]] if part.get("type") == "temporal" and "axis" in part else []
    return own + [found for one in part.values() for found in _time_scales(one)]


@pytest.mark.parametrize("page", PAGES)
def test_what_a_refresh_writes_in_the_header_is_last_behind_a_lasting_element(
    busy: Database, show: Show, page: str
) -> None:
    """Streamlit may drop such a write; a page whose places then move is dropped whole by the browser."""
    header = next(one for one in show(page).main.children.values() if isinstance(one, Block))
    row, *banner = header.children.values()
    title, *badges = row.children[0].children.values()
    assert (title.type, len(badges), len(banner)) == ("title", 1, 1)
