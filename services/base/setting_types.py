"""Types of the settings: they parse and validate texts of the environment."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import NoDecode
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from services.base.addresses import Proxy, without_credentials
from services.domain.roles import CONSOLE_ROLES

PROJECT = Path(__file__).resolve().parents[2]
"""The directory of app.py; relative paths in settings are resolved against it."""

DATA_DIR = PROJECT / "var"

ROLES = ("viewer", "operator", "admin", "service")

MAX_NAME_LENGTH = 128
"""Characters of a caller's name, which timelines and the audit log store."""

TOKENS_ALLOWED = (
    f"name:role:token, comma separated, role one of {', '.join(ROLES)}, name of at most {MAX_NAME_LENGTH} characters"
)

PEOPLE_ALLOWED = (
    f"name:role, comma separated, role one of {', '.join(CONSOLE_ROLES)}, name of at most {MAX_NAME_LENGTH} characters"
)

DATABASE_DRIVERS = ("sqlite", "sqlite+pysqlite", "postgresql", "postgresql+psycopg")

SECRET_FIELDS = frozenset({"inventory_service_token", "api_tokens", "nats_url", "database_url", "outgoing_proxy"})
"""Settings whose values may contain passwords. Error messages never contain these values."""

KEYED_FIELDS = frozenset({"alert_webhook_url"})
"""Settings with a URL whose path is a secret, such as the webhook of a chat service."""


class ApiToken:
    """A caller of the API: name, role and the secret it presents as a bearer token."""

    __slots__ = ("name", "role", "token")

    def __init__(self, name: str, role: str, token: str) -> None:
        self.name, self.role, self.token = name, role, token

    def __repr__(self) -> str:
        return f"ApiToken({self.name}:{self.role}:***)"


def _empty_is_unset(value: Any) -> Any:
    return None if isinstance(value, str) and not value.strip() else value


def _empty_is_default(value: Any) -> Any:
    return DATA_DIR if isinstance(value, str) and not value.strip() else value


def _lower(value: Any) -> Any:
    return value.strip().lower() or "otlp" if isinstance(value, str) else value


def _only_true(value: Any) -> bool:
    """True only for "true" in any case. OpenTelemetry defines boolean variables this way."""
    return str(value).strip().lower() == "true"


def _is_address(value: str, schemes: tuple[str, ...]) -> bool:
    try:
        parts = urlsplit(value)
        return parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        # The port is not a number, or the brackets do not match.
        return False


def _http_url(value: str | None) -> str | None:
    if value is None:
        return None
    if not _is_address(value, ("http", "https")):
        raise ValueError("an http:// or https:// URL with a host, and a port from 1 to 65535 if any")
    return value.rstrip("/")


def _proxy_url(value: str | None) -> str | None:
    if value is not None and not _is_address(value, ("http",)):
        raise ValueError("an http:// URL with a host, and a port from 1 to 65535 if any")
    return value


def _hosts(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    hosts = tuple(host.strip() for host in value.split(",") if host.strip())
    try:
        Proxy(direct=hosts)
    except ValueError:
        raise ValueError("host names, addresses and networks as 10.0.0.0/8, comma separated") from None
    return hosts


def _trace_url(value: str | None) -> str | None:
    if value is not None and not (_is_address(value, ("http", "https")) and value.count("{trace_id}") == 1):
        raise ValueError("an http:// or https:// URL that contains {trace_id} once")
    return value


def _nats_urls(value: str | None) -> str | None:
    if value is not None and not all(_is_address(server.strip(), ("nats", "tls")) for server in value.split(",")):
        raise ValueError("one or more nats:// or tls:// URLs, comma separated")
    return value


def _database(value: str | None) -> str | None:
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
        # An unquoted @ in the password would make the rest of the password part of the host.
        raise ValueError("a user name and password in which @ : / ? # and % are written as %40 %3A %2F %3F %23 %25")
    return value


def _from_the_project(value: Path) -> Path:
    return PROJECT / value


def _tokens(value: Any) -> Any:
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
        # Without tokens the API is open to all callers; a stray comma must not cause that.
        raise ValueError(TOKENS_ALLOWED)
    return tuple(tokens)


def _people(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    pairs = [entry.strip().rpartition(":")[::2] for entry in value.split(",") if entry.strip()]
    if not all(1 <= len(name) <= MAX_NAME_LENGTH and role in CONSOLE_ROLES for name, role in pairs):
        raise ValueError(PEOPLE_ALLOWED)
    return tuple(pairs)


Milliseconds = Annotated[int, Field(ge=1, le=7 * 86_400_000)]
AlertWindow = Annotated[int, Field(ge=1, le=86_400_000)]
"""Milliseconds, at most a day: older samples are not kept in full."""
HttpUrl = Annotated[str | None, BeforeValidator(_empty_is_unset), AfterValidator(_http_url)]
ProxyUrl = Annotated[str | None, BeforeValidator(_empty_is_unset), AfterValidator(_proxy_url)]
TraceUrl = Annotated[str | None, BeforeValidator(_empty_is_unset), AfterValidator(_trace_url)]
NatsUrls = Annotated[str | None, BeforeValidator(_empty_is_unset), AfterValidator(_nats_urls)]
DatabaseUrl = Annotated[str | None, BeforeValidator(_empty_is_unset), AfterValidator(_database)]
DataDir = Annotated[
    Path, BeforeValidator(_empty_is_default), AfterValidator(_from_the_project), Field(validate_default=True)
]
"""Absolute path. A relative path is resolved against the directory of app.py, not the working directory."""
Hosts = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_hosts)]
Tokens = Annotated[tuple[ApiToken, ...], NoDecode, BeforeValidator(_tokens)]
People = Annotated[tuple[tuple[str, str], ...], NoDecode, BeforeValidator(_people)]
OptionalText = Annotated[str | None, BeforeValidator(_empty_is_unset)]
OtlpProtocol = Annotated[Literal["http/protobuf"] | None, BeforeValidator(_empty_is_unset)]
TracesExporter = Annotated[Literal["otlp", "none"], BeforeValidator(_lower)]
Switch = Annotated[bool, BeforeValidator(_only_true)]
InstallationName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,32}$")]
"""Only characters that NATS allows in the name of a durable consumer."""


def presentable(field: str, value: Any) -> Any:
    """The value of the setting without passwords and secret paths."""
    if not isinstance(value, str):
        return value
    shown = without_credentials(value)
    if field in KEYED_FIELDS and "://" in shown:
        # Path and query of such a URL are secret.
        scheme, _, rest = shown.partition("://")
        host = re.split("[/?#]", rest, maxsplit=1)[0]
        return shown if rest == host else f"{scheme}://{host}/***"
    return shown
