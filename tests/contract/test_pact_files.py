"""The committed contracts are the ones that the consumers write today, byte for byte."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.domain.orders import events
from tests.contract.pact_examples import COMMITTED, HOLDFAST, HOLDFAST_EVENTS, INVENTORY, INVENTORY_EVENTS, committed

CONSUMERS = ("test_pact_rest_consumer.py", "test_pact_event_consumers.py")
UPDATE = "If the change is meant, run `make pacts` and commit the files."


def test_the_committed_contracts_are_what_the_consumers_write(tmp_path: Path) -> None:
    write_contracts(tmp_path)
    written, agreed = texts(tmp_path), texts(COMMITTED)
    assert sorted(agreed) == sorted(written), UPDATE
    for name, text in agreed.items():
        assert text.splitlines() == written[name].splitlines(), f"{name} is not what the consumers write. {UPDATE}"
        assert text == written[name], f"{name} differs in its line ends. {UPDATE}"


@pytest.mark.parametrize(
    ("contract", "subjects"),
    [
        (committed(INVENTORY, HOLDFAST_EVENTS), events.OUTGOING),
        (committed(HOLDFAST, INVENTORY_EVENTS), events.INCOMING),
    ],
    ids=["outgoing", "incoming"],
)
def test_every_event_has_a_contract(contract: Path, subjects: tuple[str, ...]) -> None:
    interactions = json.loads(contract.read_text())["interactions"]
    assert [message["metadata"]["subject"] for message in interactions] == sorted(subjects)


def test_every_operation_has_a_contract() -> None:
    interactions = json.loads(committed(HOLDFAST, INVENTORY).read_text())["interactions"]
    assert {(each["request"]["path"].rpartition("/")[2], each["response"]["status"]) for each in interactions} == {
        ("check-availability", 200),
        ("reserve", 200),
        ("reserve", 409),
        ("reserve", 422),
        ("release", 200),
        ("release", 409),
    }


def write_contracts(directory: Path) -> None:
    """Run the consumer tests as `make pacts` does: in a process of its own, with none of this run's options."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    tests = [Path(__file__).parent / name for name in CONSUMERS]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
        env=environment | {"PACT_DIRECTORY": str(directory)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=60,
    )
    if run.returncode != 0:
        pytest.fail(f"The consumers write no contracts, because their tests fail.\n{run.stdout}", pytrace=False)


def texts(directory: Path) -> dict[str, str]:
    return {path.name: path.read_bytes().decode() for path in sorted(directory.iterdir())}
