"""What holds for every page: it opens, whatever the state of the world, and says what that state is."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from state.engine.database import Database
from tests.support import seed_console
from tests.support.pages import NOON, PAGES, checked, stored, text_of

Show = Callable[..., AppTest]
EVERY = pytest.mark.parametrize("page", PAGES)


def greyed(line: str) -> str:
    """As it looks once it is old: badges have lost their colour, and nothing else."""
    return re.sub(r":[a-z]+-badge\[", ":gray-badge[", line)


def file_of(database: Database) -> Path:
    return Path(str(database.url.database))


@EVERY
def test_a_page_opens_on_a_busy_day_and_shows_from_when_its_data_is(busy: Database, show: Show, page: str) -> None:
    text = text_of(show(page, order="ORD-1002"))
    assert "As of 12:00:00" in text
    assert "SANDBOX" in text
    assert "No worker" not in text


@EVERY
def test_a_page_opens_on_an_empty_database(database: Database, show: Show, page: str) -> None:
    assert "No worker is running" in text_of(show(page, order="ORD-1002"))


@EVERY
def test_a_page_opens_before_there_is_a_database(nowhere: Path, show: Show, page: str) -> None:
    text = text_of(show(page, order="ORD-1002"))
    assert "The database is away" in text
    assert "The database does not exist yet" in text


@EVERY
def test_a_page_keeps_the_last_good_data_when_the_database_goes_away(busy: Database, show: Show, page: str) -> None:
    test = show(page, order="ORD-1002")
    known = {line for line in text_of(test).splitlines() if "ORD-" in line}
    file_of(busy).rename(file_of(busy).with_suffix(".away"))
    text = text_of(checked(test.run()))
    assert "You see the last good data, from 12:00:00" in text
    assert "The database file is gone" in text
    assert "Old data: as of 12:00:00" in text
    assert {greyed(line) for line in known} <= {greyed(line) for line in text.splitlines()}
    assert not Path(str(busy.url.database)).exists()


def test_old_data_is_grey(busy: Database, show: Show) -> None:
    test = show("releases.py")
    assert ":red-badge[:material/error: Failed]" in text_of(test)
    file_of(busy).rename(file_of(busy).with_suffix(".away"))
    text = text_of(test.run())
    assert ":red-badge" not in text
    assert ":gray-badge[:material/error: Failed]" in text


def test_to_look_makes_no_database(nowhere: Path, show: Show) -> None:
    show("orders.py")
    assert not nowhere.exists()


def test_a_database_without_tables_is_distinguished_from_one_that_is_not_there(nowhere: Path, show: Show) -> None:
    nowhere.touch()
    assert "The database has no tables yet" in text_of(show())


@EVERY
def test_without_a_worker_a_page_shows_since_when(busy: Database, show: Show, page: str) -> None:
    busy.write_now(lambda connection: seed_console.heartbeat(connection, NOON - seed_console.OUTAGE[0]))
    text = text_of(show(page, order="ORD-1002"))
    assert "No worker is running" in text
    assert "11:48:00 · 12 min ago" in text


def test_what_is_requested_without_a_worker_is_stored_for_later(busy: Database, show: Show) -> None:
    busy.write_now(lambda connection: seed_console.heartbeat(connection, NOON - seed_console.OUTAGE[0]))
    test = show("releases.py")
    button = test.button(key="retry_ORD-3000")
    assert "will run when a worker is back" in button.help
    button.click().run()
    assert [command.state for command in stored(busy)] == ["STORED"]


def test_the_badge_of_the_sandbox_follows_the_worker(busy: Database, show: Show) -> None:
    busy.write_now(lambda connection: seed_console.heartbeat(connection, NOON, sandbox=False))
    assert "SANDBOX" not in text_of(show())


def test_commands_are_given_in_the_name_typed_in_the_sidebar(busy: Database, show: Show) -> None:
    test = show("releases.py")
    test.text_input(key="display_name").set_value("  olga  ").run()
    test.button(key="retry_ORD-3000").click().run()
    assert [command.actor for command in stored(busy)] == ["olga"]


def test_a_person_who_is_logged_in_is_not_asked_for_a_name(busy: Database, show: Show) -> None:
    test = show("releases.py")
    test.user = {"is_logged_in": True, "email": "ben@example.com"}
    checked(test.run())
    assert [field.key for field in test.text_input] == ["find"]
    test.button(key="retry_ORD-3000").click().run()
    assert [command.actor for command in stored(busy)] == ["ben@example.com"]
