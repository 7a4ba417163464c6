"""Labels of alerts: their fingerprint, and matchers on them.

Pure. Prometheus and Alertmanager compute the same fingerprint, so a receiver can match alerts of both sources.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_FNV_OFFSET, _FNV_PRIME, _MASK = 0xCBF29CE484222325, 0x100000001B3, (1 << 64) - 1
_SEPARATOR = b"\xff"


def fingerprint(labels: Mapping[str, str]) -> str:
    """Sixteen hexadecimal digits: FNV-1a over the sorted label names and values."""
    digest = _FNV_OFFSET
    for name in sorted(labels):
        for byte in name.encode() + _SEPARATOR + str(labels[name]).encode() + _SEPARATOR:
            digest = ((digest ^ byte) * _FNV_PRIME) & _MASK
    return f"{digest:016x}"


@dataclass(frozen=True, slots=True)
class Matcher:
    """A condition on one label. An absent label counts as empty."""

    name: str
    value: str
    is_equal: bool = True

    @classmethod
    def all_of(cls, labels: Mapping[str, str]) -> tuple[Matcher, ...]:
        """Matchers that match the alerts with all of these labels."""
        return tuple(cls(name, value) for name, value in sorted(labels.items()))

    def fits(self, labels: Mapping[str, str]) -> bool:
        return (labels.get(self.name, "") == self.value) is self.is_equal

    def wire(self) -> dict[str, Any]:
        """The JSON form of Alertmanager."""
        return {"name": self.name, "value": self.value, "isRegex": False, "isEqual": self.is_equal}

    def __str__(self) -> str:
        return f'{self.name}{"=" if self.is_equal else "!="}"{self.value}"'


def matchers_of(wire: Iterable[Mapping[str, Any]]) -> tuple[Matcher, ...]:
    """Matchers from the JSON form of Alertmanager; a matcher without name or value matches no alert."""
    return tuple(_matcher(one) for one in wire)


def _matcher(wire: Mapping[str, Any]) -> Matcher:
    if wire.get("name") is None or wire.get("value") is None:
        return Matcher("unreadable", "an unreadable matcher")
    return Matcher(str(wire["name"]), str(wire["value"]), bool(wire.get("isEqual", True)))


def fit(matchers: Iterable[Matcher], labels: Mapping[str, str]) -> bool:
    return all(matcher.fits(labels) for matcher in matchers)
