"""The configuration: one frozen object, read once from the environment in a composition root.

Times in the environment are whole milliseconds, as in the seed; properties here are seconds.
Source: contract section 2.
"""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from services.base.addresses import http_url, sqlite_url, without_credentials
from services.base.proxy import Proxy
from services.domain.errors import ConfigurationError
from services.domain.retry import RetryPolicy
from services.domain.roles import CONSOLE_ROLES

PAYMENT_TIMEOUT_SECONDS = 5.0
"""Timeout of one call to the payment gateway."""

RECORDING_SECONDS = 2.0
"""How long the recording of what a call did may usually take."""

LONGEST_RETRY_AFTER_SECONDS = 900
"""Of any service: a longer one is cut to this, since one wrong header must not stop orders for a day."""

ROLES = ("viewer", "operator", "admin", "service")

MAX_NAME_LENGTH = 128
"""Of a caller; names go into timelines and the audit log."""

TOKENS_ALLOWED = (
    f"name:role:token, comma separated, role one of {', '.join(ROLES)}, name of at most {MAX_NAME_LENGTH} characters"
)

PEOPLE_ALLOWED = (
    f"name:role, comma separated, role one of {', '.join(CONSOLE_ROLES)}, name of at most {MAX_NAME_LENGTH} characters"
)

USUAL_INSTALLATION = "default"

InstallationName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,32}$")]
"""What the name of a consumer may hold."""

DATABASE_DRIVERS = ("sqlite", "sqlite+pysqlite", "postgresql", "postgresql+psycopg")


PROJECT = Path(__file__).resolve().parents[2]
"""The directory that holds app.py: relative paths are meant from here."""

DATA_DIR = PROJECT / "var"


def _empty_is_unset(value: Any) -> Any:
    return None if isinstance(value, str) and not value.strip() else value


def _empty_is_default(value: Any) -> Any:
    return DATA_DIR if isinstance(value, str) and not value.strip() else value


def _lower(value: Any) -> Any:
    return value.strip().lower() or "otlp" if isinstance(value, str) else value


def _only_true(value: Any) -> bool:
    """The standard's rule for switches: whatever is not "true" is false."""
    return str(value).strip().lower() == "true"


Milliseconds = Annotated[int, Field(ge=1, le=7 * 86_400_000)]
AlertWindow = Annotated[int, Field(ge=1, le=86_400_000)]
"""Milliseconds; samples are kept in full for a day."""
HttpUrl = Annotated[str | None, BeforeValidator(_empty_is_unset)]
OptionalText = Annotated[str | None, BeforeValidator(_empty_is_unset)]
OtlpProtocol = Annotated[Literal["http/protobuf"] | None, BeforeValidator(_empty_is_unset)]


class ApiToken:
    """A caller of the API: name, role and the secret it presents as a bearer token."""

    __slots__ = ("name", "role", "token")

    def __init__(self, name: str, role: str, token: str) -> None:
        self.name, self.role, self.token = name, role, token

    def __repr__(self) -> str:
        return f"ApiToken({self.name}:{self.role}:***)"


class Settings(BaseSettings):
    """All settings; ``Settings.load()`` turns a wrong value into a one-line ConfigurationError."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", case_sensitive=False)

    inventory_service_url: HttpUrl = None
    inventory_service_timeout: Milliseconds = 3000
    inventory_service_token: SecretStr | None = None
    payment_service_url: HttpUrl = None
    nats_url: OptionalText = None
    database_url: OptionalText = None
    database_connections: Annotated[int, Field(ge=2, le=100)] = 12
    """To a database server at most, of this process; with fewer it is slower."""
    database_pooler: Literal["auto", "transaction", "none"] = "auto"
    data_dir: Annotated[Path, BeforeValidator(_empty_is_default), Field(validate_default=True)] = DATA_DIR
    """Absolute: a relative one is meant from the directory of app.py, wherever the service is started."""
    api_host: str = "127.0.0.1"
    api_port: Annotated[int, Field(ge=1, le=65535)] = 8600
    holdfast_installation: InstallationName = USUAL_INSTALLATION
    console_role: Literal["none", "viewer", "operator", "admin"] = "operator"
    console_people: Annotated[tuple[tuple[str, str], ...], NoDecode] = ()
    """Roles of people who log in, where theirs differs from console_role."""
    prometheus_url: HttpUrl = None
    alert_webhook_url: HttpUrl = None
    outgoing_proxy: HttpUrl = None
    """Through which everything is asked over HTTP but what is on this machine and the next one's hosts."""
    outgoing_no_proxy: Annotated[tuple[str, ...], NoDecode] = ()
    api_tokens: Annotated[tuple[ApiToken, ...], NoDecode] = ()
    reservation_ttl_seconds: Annotated[int, Field(ge=60, le=86_400)] = 1800
    retry_attempts: Annotated[int, Field(ge=1, le=10)] = 3
    retry_base_delay: Milliseconds = 200
    reservation_retry_attempts: Annotated[int, Field(ge=1, le=100)] = 6
    reservation_retry_base_delay: Milliseconds = 30_000
    reservation_retry_max_delay: Milliseconds = 900_000
    release_retry_attempts: Annotated[int, Field(ge=1, le=100)] = 8
    release_retry_base_delay: Milliseconds = 1000
    release_retry_max_delay: Milliseconds = 900_000
    confirmation_timeout: Milliseconds = 300_000
    breaker_error_threshold_percentage: Annotated[int, Field(ge=1, le=100)] = 50
    breaker_rolling_count_timeout: Milliseconds = 10_000
    breaker_rolling_count_buckets: Annotated[int, Field(ge=1, le=1000)] = 10
    breaker_reset_timeout: Milliseconds = 30_000
    breaker_volume_threshold: Annotated[int, Field(ge=0, le=1_000_000)] = 5
    alert_reservation_success_rate: Annotated[float, Field(ge=0, le=1)] = 0.95
    alert_queue_depth: Annotated[int, Field(ge=0)] = 100
    alert_release_failures: Annotated[int, Field(ge=1)] = 3
    alert_availability_latency: Milliseconds = 1000
    alert_window: AlertWindow = 300_000
    alert_outbox_age: Milliseconds = 60_000
    alert_review_age: Milliseconds = 3_600_000
    alert_heartbeat_interval: AlertWindow = 300_000
    console_url: HttpUrl = None
    sandbox_traffic: Annotated[float, Field(ge=0, le=100)] = 1.0
    holdfast_supervised: bool = False
    """Set by the parent of a worker: it ends with its parent, at the end of its standard input."""
    holdfast_sandbox: bool = False
    """Set by the parent of a worker whose INVENTORY_SERVICE_URL is that of the sandbox."""
    otel_exporter_otlp_endpoint: HttpUrl = None
    """With this or the next one traces are exported. The SDK reads these itself, and the standard's other variables."""
    otel_exporter_otlp_traces_endpoint: HttpUrl = None
    otel_exporter_otlp_protocol: OtlpProtocol = None
    otel_exporter_otlp_traces_protocol: OtlpProtocol = None
    otel_traces_exporter: Annotated[Literal["otlp", "none"], BeforeValidator(_lower)] = "otlp"
    otel_sdk_disabled: Annotated[bool, BeforeValidator(_only_true)] = False
    otel_service_name: OptionalText = None
    trace_url_template: OptionalText = None
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @classmethod
    def load(cls, **overrides: Any) -> Settings:
        """Read the environment; raises ConfigurationError naming variable, value and what is allowed."""
        try:
            return cls(**overrides)
        except ValidationError as error:
            raise ConfigurationError(_one_line(error)) from None

    @field_validator(
        "inventory_service_url",
        "payment_service_url",
        "prometheus_url",
        "alert_webhook_url",
        "console_url",
        "otel_exporter_otlp_endpoint",
        "otel_exporter_otlp_traces_endpoint",
    )
    @classmethod
    def _http_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not _is_address(value, ("http", "https")):
            raise ValueError("an http:// or https:// URL with a host, and a port from 1 to 65535 if any")
        return value.rstrip("/")

    @field_validator("outgoing_proxy")
    @classmethod
    def _proxy_url(cls, value: str | None) -> str | None:
        if value is not None and not _is_address(value, ("http",)):
            raise ValueError("an http:// URL with a host, and a port from 1 to 65535 if any")
        return value

    @field_validator("outgoing_no_proxy", mode="before")
    @classmethod
    def _hosts(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        hosts = tuple(host.strip() for host in value.split(",") if host.strip())
        try:
            Proxy(direct=hosts)
        except ValueError:
            raise ValueError("host names, addresses and networks as 10.0.0.0/8, comma separated") from None
        return hosts

    @field_validator("trace_url_template")
    @classmethod
    def _trace_url(cls, value: str | None) -> str | None:
        if value is not None and not (_is_address(value, ("http", "https")) and value.count("{trace_id}") == 1):
            raise ValueError("an http:// or https:// URL that contains {trace_id} once")
        return value

    @field_validator("nats_url")
    @classmethod
    def _nats_urls(cls, value: str | None) -> str | None:
        if value is not None and not all(_is_address(server.strip(), ("nats", "tls")) for server in value.split(",")):
            raise ValueError("one or more nats:// or tls:// URLs, comma separated")
        return value

    @field_validator("database_url")
    @classmethod
    def _database(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            url = make_url(value)
        except ArgumentError:
            url = make_url("unreadable://")
        is_file = url.get_backend_name() != "sqlite" or url.database not in (None, "", ":memory:")
        if url.drivername not in DATABASE_DRIVERS or not is_file:
            raise ValueError("an SQLAlchemy URL: sqlite:///... or postgresql+psycopg://...")
        if "@" in (url.host or "") or "@" in (url.database or "" if url.host else ""):
            # What stands behind the first of several is a part of the password that would be taken for the host.
            raise ValueError("a user name and password in which @ : / ? # and % are written as %40 %3A %2F %3F %23 %25")
        return value

    @field_validator("data_dir")
    @classmethod
    def _from_the_project(cls, value: Path) -> Path:
        return PROJECT / value

    @field_validator("api_tokens", mode="before")
    @classmethod
    def _tokens(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        tokens = []
        for entry in filter(None, (part.strip() for part in value.split(","))):
            name, _, rest = entry.partition(":")
            role, _, token = rest.partition(":")
            if not 1 <= len(name) <= MAX_NAME_LENGTH or role not in ROLES or not token:
                raise ValueError(TOKENS_ALLOWED)
            tokens.append(ApiToken(name, role, token))
        if value.strip() and not tokens:
            # Without tokens everybody is let in: that must not come from a stray comma.
            raise ValueError(TOKENS_ALLOWED)
        return tuple(tokens)

    @field_validator("console_people", mode="before")
    @classmethod
    def _people(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        pairs = [entry.strip().rpartition(":")[::2] for entry in value.split(",") if entry.strip()]
        if not all(1 <= len(name) <= MAX_NAME_LENGTH and role in CONSOLE_ROLES for name, role in pairs):
            raise ValueError(PEOPLE_ALLOWED)
        return tuple(pairs)

    @cached_property
    def database(self) -> str:
        """The SQLAlchemy URL in use."""
        if self.database_url is None:
            return sqlite_url((self.data_dir / "holdfast.db").resolve())
        url = make_url(self.database_url)
        is_file = url.get_backend_name() == "sqlite" and not str(url.database).startswith("file:")
        if not is_file:
            return self.database_url
        path = PROJECT / str(url.database)
        return url.set(database=str(path)).render_as_string(hide_password=False) if url.query else sqlite_url(path)

    @cached_property
    def proxy(self) -> Proxy:
        """Which addresses are asked through a proxy."""
        return Proxy(self.outgoing_proxy, self.outgoing_no_proxy)

    @property
    def nats_servers(self) -> list[str]:
        return [server.strip() for server in (self.nats_url or "").split(",") if server.strip()]

    @property
    def inventory_timeout_seconds(self) -> float:
        return self.inventory_service_timeout / 1000

    @property
    def immediate_retry(self) -> RetryPolicy:
        base = self.retry_base_delay / 1000
        return RetryPolicy(self.retry_attempts, base, max(base * 16, 5.0))

    @property
    def reservation_retry(self) -> RetryPolicy:
        # The attempt of the request itself comes before the delayed ones.
        return RetryPolicy(
            self.reservation_retry_attempts + 1,
            self.reservation_retry_base_delay / 1000,
            self.reservation_retry_max_delay / 1000,
        )

    @property
    def release_retry(self) -> RetryPolicy:
        return RetryPolicy(
            self.release_retry_attempts, self.release_retry_base_delay / 1000, self.release_retry_max_delay / 1000
        )

    @property
    def alert_interval_seconds(self) -> float:
        """How often alerts are judged, and what they are judged by is sampled: often enough for a short window."""
        return min(max(self.alert_window / 1000 / 60, 1.0), 5.0)

    @property
    def api_url(self) -> str:
        """The address of the API as this machine reaches it."""
        return http_url(self.api_host, self.api_port)

    @property
    def confirmation_timeout_seconds(self) -> float:
        return self.confirmation_timeout / 1000

    @property
    def call_deadline_seconds(self) -> float:
        """After this long no attempt of a call begins: its attempts and their usual pauses fit in."""
        pauses = self.immediate_retry.base_delay_seconds * (2.0**self.retry_attempts - 1)
        return self.retry_attempts * self.inventory_timeout_seconds + pauses

    @property
    def step_deadline_seconds(self) -> float:
        """Longest time that the calls of one step of an order take; afterwards its worker is taken for dead.

        Two calls to the Inventory Service, the last attempt of each beginning at its deadline, and a payment.
        """
        longest_call = self.call_deadline_seconds + self.inventory_timeout_seconds
        return 2 * longest_call + self.payment_deadline_seconds

    @property
    def payment_deadline_seconds(self) -> float:
        """The same for a step that only asks the payment gateway."""
        return PAYMENT_TIMEOUT_SECONDS + RECORDING_SECONDS

    @property
    def release_claim_seconds(self) -> float:
        """The same for one attempt of a release."""
        return self.inventory_timeout_seconds + RECORDING_SECONDS

    @property
    def operation_lease_seconds(self) -> float:
        """The same for a round of a bulk operation, whose items each take a step; a minute at least."""
        return max(self.step_deadline_seconds + RECORDING_SECONDS, 60.0)

    @property
    def longest_wait_seconds(self) -> float:
        """Longest time that anything is put off by any rule; what waits for longer was given a wrong time."""
        waits = (
            self.reservation_retry_max_delay,
            self.release_retry_max_delay,
            self.confirmation_timeout,
            self.breaker_reset_timeout,
        )
        return max(*waits, 1000 * LONGEST_RETRY_AFTER_SECONDS) / 1000 + self.step_deadline_seconds

    @property
    def is_tracing(self) -> bool:
        """Whether traces are exported: a standard endpoint is set and nothing standard turns them off."""
        endpoint = self.otel_exporter_otlp_traces_endpoint or self.otel_exporter_otlp_endpoint
        return endpoint is not None and self.otel_traces_exporter == "otlp" and not self.otel_sdk_disabled

    @property
    def is_sandbox(self) -> bool:
        """Whether the reference Inventory Service stands in for a real one."""
        return self.inventory_service_url is None or self.holdfast_sandbox


SECRET_FIELDS = frozenset({"inventory_service_token", "api_tokens", "nats_url", "database_url", "outgoing_proxy"})
"""Their values may hold passwords and are never echoed."""

KEYED_FIELDS = frozenset({"alert_webhook_url"})
"""Addresses whose path is a secret, as those of chat services are."""


def _is_address(value: str, schemes: tuple[str, ...]) -> bool:
    try:
        parts = urlsplit(value)
        return parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        # A port that is no number, or brackets that do not match.
        return False


def _one_line(error: ValidationError) -> str:
    first = error.errors()[0]
    field = str(first["loc"][0])
    shown = "the given value" if field in SECRET_FIELDS else repr(_presentable(field, first["input"]))
    return f"{field.upper()}: {shown} is not valid; allowed: {_allowed(field, first)}"


def _presentable(field: str, value: Any) -> Any:
    """The value without what only its owner may know."""
    if not isinstance(value, str):
        return value
    shown = without_credentials(value)
    if field in KEYED_FIELDS and "://" in shown:
        # The path and the query of such an address are its password.
        scheme, _, rest = shown.partition("://")
        host = re.split("[/?#]", rest, maxsplit=1)[0]
        return shown if rest == host else f"{scheme}://{host}/***"
    return shown


def _allowed(field: str, problem: ErrorDetails) -> str:
    """A range for numbers, the validator's own words for the rest."""
    described = Settings.model_fields[field]
    numbers = {int: "a whole number", float: "a number"}
    kind = numbers.get(described.annotation) if isinstance(described.annotation, type) else None
    if kind is None:
        return str(problem["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
    bounds = [
        f"{word} {getattr(bound, name)}"
        for name, word in (("ge", "from"), ("le", "to"))
        for bound in described.metadata
        if hasattr(bound, name)
    ]
    return " ".join([kind, *bounds])
