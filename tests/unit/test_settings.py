"""The configuration: every variable of the contract, its default, and what a wrong value says."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.base.settings import Settings
from services.domain.errors import ConfigurationError

ROOT = Path(__file__).resolve().parents[2]

DEFAULTS = {
    "INVENTORY_SERVICE_URL": None,
    "INVENTORY_SERVICE_TIMEOUT": 3000,
    "INVENTORY_SERVICE_TOKEN": None,
    "PAYMENT_SERVICE_URL": None,
    "NATS_URL": None,
    "DATABASE_URL": None,
    "DATABASE_CONNECTIONS": 12,
    "DATABASE_POOLER": "auto",
    "DATA_DIR": str(ROOT / "var"),
    "API_HOST": "127.0.0.1",
    "API_PORT": 8600,
    "PROMETHEUS_URL": None,
    "ALERT_WEBHOOK_URL": None,
    "API_TOKENS": (),
    "RESERVATION_TTL_SECONDS": 1800,
    "RETRY_ATTEMPTS": 3,
    "RETRY_BASE_DELAY": 200,
    "RESERVATION_RETRY_ATTEMPTS": 6,
    "RESERVATION_RETRY_BASE_DELAY": 30000,
    "RESERVATION_RETRY_MAX_DELAY": 900000,
    "RELEASE_RETRY_ATTEMPTS": 8,
    "RELEASE_RETRY_BASE_DELAY": 1000,
    "RELEASE_RETRY_MAX_DELAY": 900000,
    "CONFIRMATION_TIMEOUT": 300000,
    "BREAKER_ERROR_THRESHOLD_PERCENTAGE": 50,
    "BREAKER_ROLLING_COUNT_TIMEOUT": 10000,
    "BREAKER_ROLLING_COUNT_BUCKETS": 10,
    "BREAKER_RESET_TIMEOUT": 30000,
    "BREAKER_VOLUME_THRESHOLD": 5,
    "ALERT_RESERVATION_SUCCESS_RATE": 0.95,
    "ALERT_QUEUE_DEPTH": 100,
    "ALERT_RELEASE_FAILURES": 3,
    "ALERT_AVAILABILITY_LATENCY": 1000,
    "ALERT_WINDOW": 300000,
    "SANDBOX_TRAFFIC": 1.0,
    "OTEL_EXPORTER_OTLP_ENDPOINT": None,
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": None,
    "OTEL_EXPORTER_OTLP_PROTOCOL": None,
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": None,
    "OTEL_TRACES_EXPORTER": "otlp",
    "OTEL_SDK_DISABLED": False,
    "OTEL_SERVICE_NAME": None,
    "TRACE_URL_TEMPLATE": None,
}

WHOLE_NUMBERS = [name for name, default in DEFAULTS.items() if type(default) is int]
ADDRESSES = [
    "INVENTORY_SERVICE_URL",
    "PAYMENT_SERVICE_URL",
    "PROMETHEUS_URL",
    "ALERT_WEBHOOK_URL",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
]
SECRETS = ["API_TOKENS", "DATABASE_URL", "NATS_URL"]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in DEFAULTS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def given(monkeypatch):
    """Load the settings with one variable set."""

    def load(name, value):
        monkeypatch.setenv(name, value)
        return Settings.load()

    return load


@pytest.mark.parametrize(("name", "default"), DEFAULTS.items())
def test_a_variable_that_is_not_set_has_its_default(name, default):
    value = getattr(Settings.load(), name.lower())
    assert value == default or str(value) == default


GOOD = [
    *((name, "7" if name != "RESERVATION_TTL_SECONDS" else "60", None) for name in WHOLE_NUMBERS),
    *((name, "http://there.example:8080/", "http://there.example:8080") for name in ADDRESSES),
    ("INVENTORY_SERVICE_URL", "https://there.example/base", "https://there.example/base"),
    ("INVENTORY_SERVICE_URL", "", None),
    ("NATS_URL", "nats://a:4222, tls://b:4222", "nats://a:4222, tls://b:4222"),
    ("DATABASE_URL", "sqlite:///there.db", "sqlite:///there.db"),
    ("DATABASE_URL", "postgresql+psycopg://u:p@h/d", "postgresql+psycopg://u:p@h/d"),
    ("DATABASE_URL", "postgresql://u:p@h/d", "postgresql://u:p@h/d"),
    ("ALERT_RESERVATION_SUCCESS_RATE", "0.5", 0.5),
    ("SANDBOX_TRAFFIC", "0", 0.0),
    ("API_HOST", "0.0.0.0", "0.0.0.0"),
    ("BREAKER_VOLUME_THRESHOLD", "0", 0),
    ("API_TOKENS", "", ()),
    ("API_TOKENS", "   ", ()),
    ("TRACE_URL_TEMPLATE", "https://there.example/{trace_id}?x", "https://there.example/{trace_id}?x"),
    ("TRACE_URL_TEMPLATE", "", None),
]


@pytest.mark.parametrize(("name", "text", "value"), GOOD)
def test_a_good_value_is_taken(given, name, text, value):
    loaded = getattr(given(name, text), name.lower())
    assert loaded == (int(text) if name in WHOLE_NUMBERS else value)


BAD = [
    *((name, text, "a whole number from ") for name in WHOLE_NUMBERS for text in ("x", "1.5", "-1", "")),
    *((name, "there.example", "an http:// or https:// URL with a host") for name in ADDRESSES),
    *((name, "http://", "an http:// or https:// URL with a host") for name in ADDRESSES),
    *((name, "http://there.example:high", "port") for name in ADDRESSES),
    *((name, "http://there.example:99999", "port") for name in ADDRESSES),
    ("INVENTORY_SERVICE_TIMEOUT", "0", "a whole number from 1 to 604800000"),
    ("INVENTORY_SERVICE_TIMEOUT", "99999999999", "a whole number from 1 to 604800000"),
    ("API_PORT", "65536", "a whole number from 1 to 65535"),
    ("RESERVATION_TTL_SECONDS", "59", "a whole number from 60 to 86400"),
    ("RETRY_ATTEMPTS", "0", "a whole number from 1 to 10"),
    ("BREAKER_ERROR_THRESHOLD_PERCENTAGE", "101", "a whole number from 1 to 100"),
    ("ALERT_RESERVATION_SUCCESS_RATE", "1.5", "a number from 0 to 1"),
    ("ALERT_RESERVATION_SUCCESS_RATE", "nan", "a number from 0 to 1"),
    ("SANDBOX_TRAFFIC", "-1", "a number from 0 to 100"),
    ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "'http/protobuf'"),
    ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json", "'http/protobuf'"),
    ("OTEL_TRACES_EXPORTER", "zipkin", "'otlp' or 'none'"),
    ("TRACE_URL_TEMPLATE", "https://there.example/", "an http:// or https:// URL that contains {trace_id} once"),
    ("TRACE_URL_TEMPLATE", "javascript:{trace_id}", "an http:// or https:// URL that contains {trace_id} once"),
    ("LOG_LEVEL", "LOUD", "'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
]


@pytest.mark.parametrize(("name", "text", "allowed"), BAD)
def test_a_wrong_value_is_reported_in_one_line_with_variable_value_and_what_is_allowed(given, name, text, allowed):
    with pytest.raises(ConfigurationError) as caught:
        given(name, text)
    told = str(caught.value)
    assert told.startswith(f"{name}: {text!r} is not valid; allowed: ")
    assert allowed in told
    assert "\n" not in told


SECRET = [
    ("NATS_URL", "http://secret@there", "one or more nats:// or tls:// URLs, comma separated"),
    ("NATS_URL", "nats://secret@there, nats://", "one or more nats:// or tls:// URLs, comma separated"),
    ("NATS_URL", "nats://secret@there:high", "nats:// or tls:// URLs"),
    ("DATABASE_URL", "mysql://secret@there/d", "postgresql+psycopg://..."),
    ("DATABASE_URL", "secret", "sqlite:///..."),
    ("DATABASE_URL", "postgresql+asyncpg://secret@there/d", "postgresql+psycopg://..."),
    ("DATABASE_URL", "postgresql+psycopg2://secret@there/d", "postgresql+psycopg://..."),
    ("DATABASE_URL", "sqlite+aiosqlite:///secret.db", "sqlite:///..."),
    ("DATABASE_URL", "sqlite://", "sqlite:///..."),
    ("DATABASE_URL", "sqlite:///:memory:", "sqlite:///..."),
    ("API_TOKENS", "ada:operator", "name:role:token"),
    ("API_TOKENS", "ada:king:secret", "one of viewer, operator, admin, service"),
    ("API_TOKENS", ":viewer:secret", "name:role:token"),
    ("API_TOKENS", "ada:viewer:", "name:role:token"),
    ("API_TOKENS", ",", "name:role:token"),
    ("API_TOKENS", "x" * 129 + ":viewer:secret", "name of at most 128 characters"),
]


@pytest.mark.parametrize(("name", "text", "allowed"), SECRET)
def test_a_wrong_secret_is_reported_without_being_shown(given, name, text, allowed):
    with pytest.raises(ConfigurationError) as caught:
        given(name, text)
    told = str(caught.value)
    assert told.startswith(f"{name}: the given value is not valid; allowed: ")
    assert allowed in told
    assert "secret" not in told
    assert "\n" not in told


def test_tokens_name_callers_and_their_roles_and_hide_the_secret(given):
    tokens = given("API_TOKENS", "shop:service:a:b, ada:operator:secret").api_tokens
    assert [(token.name, token.role, token.token) for token in tokens] == [
        ("shop", "service", "a:b"),
        ("ada", "operator", "secret"),
    ]
    assert "secret" not in repr(tokens)


def test_an_inventory_token_is_not_shown(given):
    settings = given("INVENTORY_SERVICE_TOKEN", "secret")
    assert "secret" not in repr(settings)
    assert settings.inventory_service_token.get_secret_value() == "secret"


def test_settings_cannot_be_changed():
    with pytest.raises(Exception, match="frozen"):
        Settings.load().api_port = 1


def test_nats_servers_are_separated_by_commas(given):
    assert given("NATS_URL", "nats://a:4222, nats://b:4222").nats_servers == ["nats://a:4222", "nats://b:4222"]


def test_the_database_is_a_file_in_the_data_directory_unless_given(given, tmp_path):
    assert given("DATA_DIR", str(tmp_path)).database == f"sqlite:///{tmp_path / 'holdfast.db'}"
    assert given("DATABASE_URL", "postgresql+psycopg://h/d").database == "postgresql+psycopg://h/d"


def test_relative_paths_are_meant_from_the_directory_of_the_project_wherever_it_is_started(
    given, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert given("DATA_DIR", "there").data_dir == ROOT / "there"
    assert given("DATA_DIR", "there").database == f"sqlite:///{ROOT / 'there' / 'holdfast.db'}"
    assert given("DATABASE_URL", "sqlite:///there.db").database == f"sqlite:///{ROOT / 'there.db'}"
    assert given("DATABASE_URL", "sqlite:////there.db").database == "sqlite:////there.db"
    assert given("DATA_DIR", "").data_dir == ROOT / "var"


CREDENTIALS = [
    *(
        (name, f"ftp://{pair}@there.example/x")
        for name in ADDRESSES
        for pair in ("u:pa55word", "pa55word", "u:x@pa55word")
    ),
    ("ALERT_WEBHOOK_URL", "ftp://there.example/services/T1/pa55word"),
    ("ALERT_WEBHOOK_URL", "ftp://there.example?key=pa55word"),
    ("NATS_URL", "nats://a:4222,http://u:pa55word@there"),
    ("DATABASE_URL", "postgresql://u:x@pa55word@there/d"),
    ("DATABASE_URL", "postgresql://u:x@pa55word/y@there/d"),
    ("DATABASE_URL", "postgresql://u:pa55word@there:port/d"),
    ("API_TOKENS", "ada:nobody:pa55word"),
    ("TRACE_URL_TEMPLATE", "https://u:pa55word@there/x"),
]


@pytest.mark.parametrize(("name", "text"), CREDENTIALS)
def test_no_message_about_a_setting_shows_credentials(given, name, text):
    with pytest.raises(ConfigurationError) as caught:
        given(name, text)
    assert str(caught.value).startswith(f"{name}: ")
    assert "pa55word" not in str(caught.value)


def test_it_is_a_sandbox_until_an_inventory_service_is_named(given):
    assert Settings.load().is_sandbox
    assert not given("INVENTORY_SERVICE_URL", "http://there").is_sandbox
    assert given("HOLDFAST_SANDBOX", "true").is_sandbox


def test_delays_are_given_in_milliseconds_and_used_in_seconds(given):
    settings = given("INVENTORY_SERVICE_TIMEOUT", "1500")
    assert settings.inventory_timeout_seconds == 1.5
    assert settings.confirmation_timeout_seconds == 300
    assert (settings.immediate_retry.attempts, settings.immediate_retry.base_delay_seconds) == (3, 0.2)
    reservation = settings.reservation_retry
    assert (reservation.attempts, reservation.base_delay_seconds, reservation.max_delay_seconds) == (7, 30, 900)
    release = settings.release_retry
    assert (release.attempts, release.base_delay_seconds, release.max_delay_seconds) == (8, 1, 900)


def test_a_step_is_given_longer_than_all_its_calls_can_take(given):
    settings = given("INVENTORY_SERVICE_TIMEOUT", "10000")
    assert settings.step_deadline_seconds > 2 * 3 * 10


def test_the_lease_of_an_operation_is_longer_than_a_step_of_its_items_may_take():
    assert Settings().operation_lease_seconds == 60
    slow = Settings(inventory_service_timeout=60_000)
    assert slow.operation_lease_seconds > slow.step_deadline_seconds > 60
