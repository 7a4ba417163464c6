"""Contract tests talk to nobody, and write where they are told to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.inventory_shop import Shop, opened_shop

# Before the pact library is loaded, or it counts its users over the network.
os.environ["PACT_DO_NOT_TRACK"] = "true"


@pytest.fixture
def pact_directory(tmp_path: Path) -> Path:
    """Where consumers write their contracts: ``PACT_DIRECTORY``, else a place of the test's own."""
    return Path(os.environ.get("PACT_DIRECTORY") or tmp_path / "pacts")


@pytest.fixture
def stockroom(tmp_path: Path) -> Iterator[Shop]:
    """The reference Inventory Service's rules on a database of their own."""
    with opened_shop(tmp_path / "inventory.db") as shop:
        yield shop
