"""Without an endpoint nothing of OpenTelemetry is loaded; callers' traces are passed on as they came."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.base.settings import Settings

ROOT = Path(__file__).parents[2]
ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
SOMEWHERE = "http://127.0.0.1:1"

LOADED = """
import asyncio, logging, sys
import services.console.facade, services.worker, services.sandbox.inventory_service.__main__
from services import worker
from services.base.settings import Settings

class Started(logging.Handler):
    def emit(self, record):
        if record.getMessage() == "worker_started":
            self.stop.set()

async def main():
    started = Started()
    started.stop = stop = asyncio.Event()
    logging.getLogger("holdfast.worker").addHandler(started)
    logging.getLogger("holdfast.worker").setLevel(logging.INFO)
    # Port 0: any free one.
    await worker.serve(Settings.load().model_copy(update={"api_port": 0}), stop)

asyncio.run(main())
print(sum(name.startswith("opentelemetry") for name in sys.modules))
"""


def loaded_modules(folder: Path, **environment: str) -> int:
    """How many modules of OpenTelemetry a worker has loaded that was started and stopped."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    ours = {
        "DATA_DIR": str(folder),
        "INVENTORY_SERVICE_URL": SOMEWHERE,
        "NATS_URL": "nats://127.0.0.1:1",
        "PYTHONPATH": str(ROOT),
    }
    run = subprocess.run(
        [sys.executable, "-c", LOADED], env={**kept, **ours, **environment}, capture_output=True, text=True, check=True
    )
    return int(run.stdout)


def test_a_worker_without_tracing_settings_loads_nothing_of_opentelemetry(tmp_path: Path) -> None:
    assert loaded_modules(tmp_path) == 0


def test_a_worker_that_was_given_an_endpoint_loads_it(tmp_path: Path) -> None:
    assert loaded_modules(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=SOMEWHERE) > 0


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def test_tracing_is_off_by_default() -> None:
    assert not Settings.load().is_tracing


@pytest.mark.parametrize("name", ENDPOINTS)
def test_an_endpoint_turns_it_on(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "http://collector:4318")
    assert Settings.load().is_tracing


@pytest.mark.parametrize(
    ("name", "value", "is_on"),
    [
        ("OTEL_SDK_DISABLED", "true", False),
        ("OTEL_SDK_DISABLED", " TRUE ", False),
        ("OTEL_SDK_DISABLED", "false", True),
        ("OTEL_SDK_DISABLED", "1", True),
        ("OTEL_SDK_DISABLED", "", True),
        ("OTEL_TRACES_EXPORTER", "none", False),
        ("OTEL_TRACES_EXPORTER", "None", False),
        ("OTEL_TRACES_EXPORTER", "otlp", True),
        ("OTEL_TRACES_EXPORTER", "", True),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf", True),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "", True),
    ],
)
def test_the_standard_switches_decide_where_there_is_an_endpoint(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, is_on: bool
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")
    monkeypatch.setenv(name, value)
    assert Settings.load().is_tracing is is_on
