"""The whole product as a user starts it: `streamlit run app.py` with its sandbox."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from services.base.addresses import free_port
from tests.support.children import MORTAL, end

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = "/usr/bin/chromium"
BROWSER_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
START_SECONDS = 150
ANSWER_SECONDS = 30
"""For one request to the API: the machine is shared with other tests."""


@dataclass(frozen=True)
class Holdfast:
    """A running product."""

    console: str
    api: str
    inventory: str
    data_dir: Path

    @property
    def database_url(self) -> str:
        return f"sqlite:///{self.data_dir / 'holdfast.db'}"

    def place_order(self, **changes: Any) -> httpx.Response:
        body = {
            "userId": "3fa85f64-5717-4562-b3fc-2c963f66afa6",
            "items": [
                {
                    "productId": "0e8dddc7-9ebf-41f3-b08a-5a3f91f1c3c0",
                    "variantId": "7c9e6679-7425-40de-944b-e07fc1f90ae7",
                    "quantity": 1,
                }
            ],
        }
        return httpx.post(f"{self.api}/api/v1/orders", json=body | changes, timeout=ANSWER_SECONDS)

    def order(self, order_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.data(f"orders/{order_id}")
        return found

    def data(self, path: str, **parameters: str) -> Any:
        """What the API answers to a GET."""
        answer = httpx.get(f"{self.api}/api/v1/{path}", params=parameters, timeout=ANSWER_SECONDS)
        return answer.raise_for_status().json()["data"]

    def act(self, method: str, path: str, body: dict[str, Any] | None = None, actor: str | None = None) -> Any:
        """What the API answers to a request that changes something."""
        headers = {"X-Actor": actor} if actor else {}
        url = f"{self.api}/api/v1/{path}"
        answer = httpx.request(method, url, json=body, headers=headers, timeout=ANSWER_SECONDS)
        return answer.raise_for_status().json()["data"]

    def cancel(self, order_id: str, actor: str | None = None) -> None:
        self.act("POST", f"orders/{order_id}/cancel", {"reason": "customer called"}, actor)

    def force_open(self, breaker: str, milliseconds: int = 120_000, actor: str | None = None) -> None:
        override = {"state": "forced_open", "reason": "their maintenance", "expiresIn": milliseconds}
        self.act("PUT", f"breakers/{breaker}/override", override, actor)

    def end_override(self, breaker: str, actor: str | None = None) -> None:
        self.act("DELETE", f"breakers/{breaker}/override", actor=actor)

    def set_faults(self, **faults: bool) -> None:
        """The faults of the reference Inventory Service; those left out are off."""
        body = {"outage": False, "latencyMs": 0, "errorRate": 0.0, "silentConfirmations": False}
        url = f"{self.inventory}/api/v1/sandbox/faults"
        httpx.put(url, json=body | faults, timeout=ANSWER_SECONDS).raise_for_status()


def eventually(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        time.sleep(0.05)


@contextmanager
def running(data_dir: Path, settings: Mapping[str, str]) -> Iterator[Holdfast]:
    """Holdfast from its start until everything it started has ended."""
    console_port, api_port = free_port(data_dir / "console.port"), free_port(data_dir / "api.port")
    environment = {**os.environ, **settings, "DATA_DIR": str(data_dir), "API_PORT": str(api_port)}
    command = [*MORTAL, sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(console_port)]
    log = data_dir / "console.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        wait_until_healthy(f"http://127.0.0.1:{console_port}/_stcore/health", process, log)
        inventory_port = (data_dir / "sandbox" / "inventory.port").read_text()
        console, api, inventory = (f"http://127.0.0.1:{port}" for port in (console_port, api_port, inventory_port))
        wait_until_healthy(f"{api}/readyz", process, log)
        yield Holdfast(console, api, inventory, data_dir)
    finally:
        end(process)


def wait_until_healthy(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        with suppress(httpx.TransportError):
            if httpx.get(url).status_code == 200:
                return
        time.sleep(0.1)
    raise AssertionError(f"not healthy within {START_SECONDS} s: {log.read_text()}")


QUICK_SETTINGS = {
    "SANDBOX_TRAFFIC": "0",
    "RETRY_BASE_DELAY": "20",
    "BREAKER_RESET_TIMEOUT": "1000",
    # Long, so that a flagged order waits for the click and not for its own retry.
    "RESERVATION_RETRY_BASE_DELAY": "600000",
}


def flagged(holdfast: Holdfast) -> tuple[str, str]:
    """An order that waits for inventory although the Inventory Service is back, and its case."""
    holdfast.set_faults(outage=True)
    try:
        answer = holdfast.place_order(customerPriority="high")
    finally:
        holdfast.set_faults()
    assert answer.status_code == 202, answer.text
    order = answer.json()["data"]
    case = next(case for case in order["reviews"] if case["reason"] == "PENDING_INVENTORY")
    return order["orderId"], case["reviewId"]
