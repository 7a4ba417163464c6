"""What holds for every test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.orders_harness import OrdersHarness, SqliteTemplate

# Timing on a shared machine says nothing about the rule, and a failure must come back on the next run.
settings.register_profile("holdfast", deadline=None, derandomize=True)
settings.load_profile("holdfast")


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> SqliteTemplate:
    """A migrated SQLite database to copy."""
    return SqliteTemplate(tmp_path_factory.mktemp("template"))


@pytest.fixture
def sqlite_url(sqlite_template: SqliteTemplate, tmp_path: Path) -> str:
    """A fresh, migrated SQLite database of the test's own."""
    return sqlite_template.copy_to(tmp_path / "holdfast.db")


@pytest.fixture
def shop(sqlite_url: str) -> Iterator[OrdersHarness]:
    """The order use cases over a fresh database."""
    harness = OrdersHarness(sqlite_url)
    yield harness
    harness.close()
