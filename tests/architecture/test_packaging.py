"""The package is built from the same pins as the environment, and the lock file names the same versions."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PIN = re.compile(r"^([A-Za-z0-9_.-]+)(?:\[[a-z]+\])?==([^\s;\\]+)", re.MULTILINE)


def pins(file: str) -> dict[str, str]:
    return {name.lower().replace("_", "-"): version for name, version in PIN.findall((ROOT / file).read_text())}


def test_the_package_depends_on_the_pins_of_the_requirements() -> None:
    listed = dict(match.groups() for pin in PROJECT["dependencies"] if (match := PIN.match(pin)))
    assert listed == {name: version for name, version in pins("requirements.txt").items() if name != "pytest"}


def test_the_lock_file_has_every_requirement_in_the_constrained_version() -> None:
    locked = pins("requirements.lock")
    constrained = pins("constraints.txt")
    assert pins("requirements.txt").items() <= locked.items()
    assert {name: version for name, version in locked.items() if constrained.get(name, version) != version} == {}


def test_every_locked_package_has_hashes_and_no_address() -> None:
    text = (ROOT / "requirements.lock").read_text()
    packages = re.split(r"\n(?=[a-z])", text.strip())
    assert len(packages) > 50
    assert [package.split()[0] for package in packages if "--hash=sha256:" not in package] == []
    assert "://" not in text


def test_the_command_starts_the_entry_point_of_the_service() -> None:
    assert PROJECT["scripts"] == {"holdfast": "services.__main__:main"}
