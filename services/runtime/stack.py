"""The child processes of an installation: the worker and the embedded parts.

Each real address (INVENTORY_SERVICE_URL, NATS_URL, PAYMENT_SERVICE_URL, DATABASE_URL) replaces one embedded part.
Source: contract 1.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from services.base.addresses import free_port, http_url, reachable_host, sqlite_url
from services.base.settings import Settings
from services.base.supervisor import Child, Supervisor
from services.messaging.embedded import BrokerCheck, EmbeddedNats

LOOPBACK = "127.0.0.1"
"""The address of the sandbox services."""

ROOT = Path(__file__).resolve().parents[2]


class Stack:
    """Starts and stops the children in order; ``environment`` holds their addresses as settings."""

    def __init__(self, settings: Settings, *, with_worker: bool) -> None:
        self._settings = settings
        self._data_dir = settings.data_dir.resolve()
        self._owned = ExitStack()
        self.environment: dict[str, str] = {
            "DATA_DIR": str(self._data_dir),
            "DATABASE_URL": settings.database,
            "HOLDFAST_INSTALLATION": settings.holdfast_installation,
        }
        self._children: list[Child] = []
        self._broker_check: BrokerCheck | None = None
        try:
            self._choose(with_worker)
        except BaseException:
            self._owned.close()
            raise
        self._supervisor = Supervisor(self._children, self._data_dir)

    async def start(self) -> None:
        """Start each child once its predecessor is ready; on ChildFailed no child is left running."""
        await self._supervisor.start()

    async def stop(self) -> None:
        """Stop the children in reverse order and unlock the data directory."""
        await self._supervisor.stop()
        self._owned.close()

    def _choose(self, with_worker: bool) -> None:
        (self._data_dir / "sandbox").mkdir(parents=True, exist_ok=True)
        if self._settings.nats_url is None:
            nats = self._owned.enter_context(EmbeddedNats(self._data_dir))
            self._broker_check = BrokerCheck(nats.home)
            # A stack always has a worker, as a child process or in this process.
            self._broker_check.add_worker(self._settings.api_host, self._settings.api_port)
            self._children.append(nats.child(self._broker_check))
            self.environment["NATS_URL"] = nats.url
        if self._settings.inventory_service_url is None:
            self._add_inventory()
            if self._settings.payment_service_url is None:
                self._add_payments()
        if with_worker:
            self._add_worker()
        if self._settings.inventory_service_url is None and self._settings.sandbox_traffic > 0:
            self._add_traffic()

    def _add_inventory(self) -> None:
        port = free_port(self._data_dir / "sandbox" / "inventory.port")
        if self._broker_check is not None:
            self._broker_check.add_inventory(LOOPBACK, port)
        self.environment |= {"INVENTORY_SERVICE_URL": http_url(LOOPBACK, port), "HOLDFAST_SANDBOX": "1"}
        extra = {
            "SANDBOX_INVENTORY_PORT": str(port),
            "SANDBOX_INVENTORY_DATABASE_URL": sqlite_url(self._data_dir / "sandbox" / "inventory.db"),
        }
        self._add_python("inventory", "services.sandbox.inventory_service", extra, (LOOPBACK, port))

    def _add_payments(self) -> None:
        port = free_port(self._data_dir / "sandbox" / "payments.port")
        self.environment["PAYMENT_SERVICE_URL"] = http_url(LOOPBACK, port)
        extra = {
            "SANDBOX_PAYMENT_PORT": str(port),
            "SANDBOX_PAYMENT_DATABASE_URL": sqlite_url(self._data_dir / "sandbox" / "payments.db"),
        }
        self._add_python("payments", "services.sandbox.payment_gateway", extra, (LOOPBACK, port))

    def _add_worker(self) -> None:
        address = (reachable_host(self._settings.api_host), self._settings.api_port)
        self._add_python("worker", "services", {}, address, "worker")

    def _add_traffic(self) -> None:
        extra = {
            "SANDBOX_API_URL": self._settings.api_url,
            "SANDBOX_INVENTORY_URL": self.environment["INVENTORY_SERVICE_URL"],
        }
        tokens = [token for token in self._settings.api_tokens if token.role in ("service", "operator", "admin")]
        if tokens:
            extra["SANDBOX_API_TOKEN"] = tokens[0].token
        self._add_python("traffic", "services.sandbox.traffic", extra, None)

    def _add_python(
        self, name: str, module: str, extra: Mapping[str, str], address: tuple[str, int] | None, *arguments: str
    ) -> None:
        self._children.append(
            Child(
                name=name,
                argv=(sys.executable, "-m", module, *arguments),
                env={**os.environ, **self.environment, **extra, "HOLDFAST_SUPERVISED": "1"},
                cwd=ROOT,
                ready=_Listening(*address) if address else _at_once,
            )
        )


class _Listening:
    """Readiness check: the address accepts connections."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port

    async def __call__(self) -> None:
        while True:
            try:
                _, writer = await asyncio.open_connection(self._host, self._port)
            except OSError:
                await asyncio.sleep(0.02)
                continue
            writer.close()
            return


async def _at_once() -> None:
    return
