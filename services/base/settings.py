"""The configuration: one frozen object, read once from the environment in a composition root.

Times in the environment are whole milliseconds; the properties here are seconds.
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy.engine import make_url

from services.base.addresses import Proxy, http_url, sqlite_url
from services.base.setting_types import (
    DATA_DIR,
    PROJECT,
    SECRET_FIELDS,
    AlertWindow,
    DatabaseUrl,
    DataDir,
    Hosts,
    HttpUrl,
    InstallationName,
    Milliseconds,
    NatsUrls,
    OptionalText,
    OtlpProtocol,
    People,
    ProxyUrl,
    Switch,
    Tokens,
    TracesExporter,
    TraceUrl,
    presentable,
)
from services.domain.calls import RetryPolicy
from services.domain.errors import ConfigurationError

PAYMENT_TIMEOUT_SECONDS = 5.0
"""Timeout of one call to the payment gateway."""

RECORDING_SECONDS = 2.0
"""Usual upper limit of the time to record the result of a call."""

LONGEST_RETRY_AFTER_SECONDS = 900
"""Upper limit of Retry-After: a wrong header of one service must not stop orders for a day."""

USUAL_INSTALLATION = "default"


class Settings(BaseSettings):
    """All settings. ``Settings.load()`` reports a wrong value as a ConfigurationError of one line."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", case_sensitive=False)

    inventory_service_url: HttpUrl = None
    inventory_service_timeout: Milliseconds = 3000
    inventory_service_token: SecretStr | None = None
    payment_service_url: HttpUrl = None
    nats_url: NatsUrls = None
    database_url: DatabaseUrl = None
    database_connections: Annotated[int, Field(ge=2, le=100)] = 12
    """Upper limit of the connections of this process to a database server; fewer connections are slower."""
    database_pooler: Literal["auto", "transaction", "none"] = "auto"
    data_dir: DataDir = DATA_DIR
    api_host: str = "127.0.0.1"
    api_port: Annotated[int, Field(ge=1, le=65535)] = 8600
    holdfast_installation: InstallationName = USUAL_INSTALLATION
    console_role: Literal["none", "viewer", "operator", "admin"] = "operator"
    console_people: People = ()
    """Logged-in people whose role differs from console_role, with their roles."""
    prometheus_url: HttpUrl = None
    alert_webhook_url: HttpUrl = None
    outgoing_proxy: ProxyUrl = None
    """Proxy for all outgoing HTTP, except to this machine and to the hosts of outgoing_no_proxy."""
    outgoing_no_proxy: Hosts = ()
    api_tokens: Tokens = ()
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
    """Set by the parent process of a worker: the worker stops when its standard input ends."""
    holdfast_sandbox: bool = False
    """Set by the parent process of a worker that uses the Inventory Service of the sandbox."""
    otel_exporter_otlp_endpoint: HttpUrl = None
    """Enables the export of traces, as otel_exporter_otlp_traces_endpoint does. The OpenTelemetry SDK reads both."""
    otel_exporter_otlp_traces_endpoint: HttpUrl = None
    otel_exporter_otlp_protocol: OtlpProtocol = None
    otel_exporter_otlp_traces_protocol: OtlpProtocol = None
    otel_traces_exporter: TracesExporter = "otlp"
    otel_sdk_disabled: Switch = False
    otel_service_name: OptionalText = None
    trace_url_template: TraceUrl = None
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @classmethod
    def load(cls, **overrides: Any) -> Settings:
        """Read the environment. Raises ConfigurationError with the variable, its value and the allowed values."""
        try:
            return cls(**overrides)
        except ValidationError as error:
            raise ConfigurationError(_one_line(error)) from None

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
        """The proxy rule of outgoing HTTP."""
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
        # The request itself makes the first attempt; the delayed attempts follow.
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
        """Interval of alert evaluation and of metric samples; shorter for a short ALERT_WINDOW."""
        return min(max(self.alert_window / 1000 / 60, 1.0), 5.0)

    @property
    def api_url(self) -> str:
        """The base URL at which this machine reaches the API."""
        return http_url(self.api_host, self.api_port)

    @property
    def confirmation_timeout_seconds(self) -> float:
        return self.confirmation_timeout / 1000

    @property
    def call_deadline_seconds(self) -> float:
        """Time after which no attempt of a call begins; long enough for all attempts and their usual pauses."""
        pauses = self.immediate_retry.base_delay_seconds * (2.0**self.retry_attempts - 1)
        return self.retry_attempts * self.inventory_timeout_seconds + pauses

    @property
    def step_deadline_seconds(self) -> float:
        """Longest time of the calls of one step of an order; a worker that takes longer counts as dead.

        The longest step makes two inventory calls and a payment. The last attempt of each inventory call may begin at
        the deadline of the call.
        """
        longest_call = self.call_deadline_seconds + self.inventory_timeout_seconds
        return 2 * longest_call + self.payment_deadline_seconds

    @property
    def payment_deadline_seconds(self) -> float:
        """Longest time of a step that only calls the payment gateway."""
        return PAYMENT_TIMEOUT_SECONDS + RECORDING_SECONDS

    @property
    def release_claim_seconds(self) -> float:
        """Longest time of one attempt of a release."""
        return self.inventory_timeout_seconds + RECORDING_SECONDS

    @property
    def operation_lease_seconds(self) -> float:
        """Longest time of a round of a bulk job, in which each item takes one step; at least a minute."""
        return max(self.step_deadline_seconds + RECORDING_SECONDS, 60.0)

    @property
    def longest_wait_seconds(self) -> float:
        """Longest delay of any policy. A due time further ahead is clock skew."""
        waits = (
            self.reservation_retry_max_delay,
            self.release_retry_max_delay,
            self.confirmation_timeout,
            self.breaker_reset_timeout,
        )
        return max(*waits, 1000 * LONGEST_RETRY_AFTER_SECONDS) / 1000 + self.step_deadline_seconds

    @property
    def is_tracing(self) -> bool:
        """Whether traces are exported: an OTLP endpoint is set, and no OpenTelemetry variable disables the export."""
        endpoint = self.otel_exporter_otlp_traces_endpoint or self.otel_exporter_otlp_endpoint
        return endpoint is not None and self.otel_traces_exporter == "otlp" and not self.otel_sdk_disabled

    @property
    def is_sandbox(self) -> bool:
        """Whether the Inventory Service of the sandbox replaces a real Inventory Service."""
        return self.inventory_service_url is None or self.holdfast_sandbox


def _one_line(error: ValidationError) -> str:
    first = error.errors()[0]
    field = str(first["loc"][0])
    shown = "the given value" if field in SECRET_FIELDS else repr(presentable(field, first["input"]))
    return f"{field.upper()}: {shown} is not valid; allowed: {_allowed(field, first)}"


def _allowed(field: str, problem: ErrorDetails) -> str:
    """What a setting allows: a range for numbers, the message of the validator for other types."""
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
