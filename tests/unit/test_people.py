"""What the people at the console may do, and how the settings say so."""

from __future__ import annotations

import pytest

from services.base.settings import Settings
from services.console.access import People
from services.domain.errors import ConfigurationError


@pytest.mark.parametrize(
    ("role", "looks", "acts", "is_admin"),
    [
        ("none", False, False, False),
        ("viewer", True, False, False),
        ("operator", True, True, False),
        ("admin", True, True, True),
    ],
)
def test_a_role_may_do_what_it_is_for(role: str, looks: bool, acts: bool, is_admin: bool) -> None:
    people = People(role)
    assert (people.may_look("ada"), people.why_not_act("ada") is None, people.is_admin("ada")) == (
        looks,
        acts,
        is_admin,
    )
    if not acts:
        assert f"Your role here is {role}" in str(people.why_not_act("ada"))


def test_who_is_listed_has_the_role_listed() -> None:
    people = People("viewer", {"olga@example.com": "admin"})
    assert (people.role_of("olga@example.com"), people.role_of("ben")) == ("admin", "viewer")
    assert (people.is_listed("olga@example.com"), people.is_listed("ben")) == (True, False)


def test_people_come_from_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSOLE_ROLE", "viewer")
    monkeypatch.setenv("CONSOLE_PEOPLE", "olga@example.com:admin, urn:x:ben:operator,")
    settings = Settings.load()
    assert settings.console_role == "viewer"
    assert settings.console_people == (("olga@example.com", "admin"), ("urn:x:ben", "operator"))


@pytest.mark.parametrize("value", ["olga", "olga:king", ":admin", f"{'x' * 129}:admin", "olga:service"])
def test_people_that_cannot_be_read_are_named_with_what_is_allowed(value: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^CONSOLE_PEOPLE: .* allowed: name:role, comma"):
        Settings.load(console_people=value)


def test_a_role_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="CONSOLE_ROLE: 'service' is not valid; allowed: 'none'"):
        Settings.load(console_role="service")
