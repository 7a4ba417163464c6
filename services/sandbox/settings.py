"""The sandbox processes: their settings, read once per process from their own variables, and their start."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.base import logs
from services.base.addresses import sqlite_url, without_credentials
from services.base.setting_types import DATA_DIR, InstallationName
from services.base.settings import USUAL_INSTALLATION
from services.http_server.process import run

Port = Annotated[int, Field(ge=0, le=65_535)]


class _Process(BaseSettings):
    model_config = SettingsConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    is_supervised: bool = Field(default=False, validation_alias="HOLDFAST_SUPERVISED")
    """Whether the process ends with its parent, when its standard input closes."""


class InventorySettings(_Process):
    """``SANDBOX_INVENTORY_*``, ``NATS_URL`` and ``HOLDFAST_INSTALLATION``."""

    model_config = SettingsConfigDict(env_prefix="SANDBOX_INVENTORY_")

    host: str = "127.0.0.1"
    port: Port = 8601
    database_url: str = sqlite_url(DATA_DIR / "sandbox" / "inventory.db")
    sweep_interval: Annotated[int, Field(ge=10, le=60_000)] = 5000
    """Milliseconds between two runs of the sweeper that expires overdue reservations."""
    installation: InstallationName = Field(default=USUAL_INSTALLATION, validation_alias="HOLDFAST_INSTALLATION")
    """The installation this service serves, on a broker shared by several installations."""
    nats_url: SecretStr = Field(default=SecretStr("nats://127.0.0.1:4222"), validation_alias="NATS_URL")

    @property
    def nats_servers(self) -> list[str]:
        return [server.strip() for server in self.nats_url.get_secret_value().split(",") if server.strip()]


class PaymentSettings(_Process):
    """``SANDBOX_PAYMENT_*``."""

    model_config = SettingsConfigDict(env_prefix="SANDBOX_PAYMENT_")

    host: str = "127.0.0.1"
    port: Port = 8602
    database_url: str = sqlite_url(DATA_DIR / "sandbox" / "payments.db")


class TrafficSettings(_Process):
    """``SANDBOX_TRAFFIC``, ``SANDBOX_API_URL``, ``SANDBOX_API_TOKEN`` and ``SANDBOX_INVENTORY_URL``."""

    model_config = SettingsConfigDict(env_prefix="SANDBOX_")

    traffic: Annotated[float, Field(ge=0, le=100)] = 1.0
    """Orders per second."""
    api_url: str = "http://127.0.0.1:8600"
    api_token: SecretStr | None = None
    inventory_url: str = "http://127.0.0.1:8601"


S = TypeVar("S", bound=_Process)


def run_process(settings: type[S], serve: Callable[[S, asyncio.Event], Awaitable[None]]) -> None:
    """Load the settings and run ``serve(settings, stop)`` until it returns."""
    read = loaded(settings)
    logs.configure("WARNING")
    run(lambda stop: serve(read, stop), is_supervised=read.is_supervised)


def loaded(settings: type[S]) -> S:
    """Load the settings; an invalid value ends the process with a line that names variable and value."""
    try:
        return settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        prefix = "" if name.isupper() else settings.model_config.get("env_prefix", "")
        sys.stderr.write(
            f"{prefix}{name}".upper() + f": {_shown(first['input'])} is not valid; allowed: {first['msg']}\n"
        )
        raise SystemExit(2) from None


def _shown(value: object) -> str:
    return repr(without_credentials(value)) if isinstance(value, str) else "the given value"
