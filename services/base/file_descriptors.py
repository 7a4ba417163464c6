"""Raise the limit of open files, and divide it among client connections, requests and other uses."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from typing import Self

MOST_FILES = 1 << 20
"""The limit that is requested when the hard limit is infinite."""

MOST_CONNECTIONS = 4096
MOST_REQUESTS = 1000
MOST_OUTGOING = 256


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits by purpose. The remaining open files are for databases, the broker, logs and libraries."""

    connections: int
    """Client connections; further connections wait in the kernel's queue."""
    surplus: int
    """Additional connections that are accepted only to answer 503."""
    requests: int
    """Concurrent requests; further requests are answered 503."""
    outgoing: int
    """Connections in use to the Inventory Service; the payment gateway has the same number."""

    @classmethod
    def of(cls, files: int) -> Self:
        """Divide ``files`` open files."""
        kept = min(128, files // 4)
        surplus = min(64, files // 16)
        outgoing = min(MOST_OUTGOING, (files - kept) // 5)
        # A pool may also keep as many idle connections, so the outgoing connections count twice.
        connections = min(MOST_CONNECTIONS, max(files - kept - surplus - 2 * outgoing, 1))
        return cls(connections, surplus, min(MOST_REQUESTS, connections), max(outgoing, 1))

    @classmethod
    def of_process(cls) -> Self:
        """Divide the present limit of this process."""
        return cls.of(_known(resource.getrlimit(resource.RLIMIT_NOFILE)[0]))


def raise_limit() -> int:
    """Raise the soft limit of open files to the hard limit and return it; child processes inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (_known(hard), hard))
        except (ValueError, OSError):
            # Some kernels refuse the hard limit; the present limit stays.
            return _known(soft)
    return _known(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _known(limit: int) -> int:
    return MOST_FILES if limit == resource.RLIM_INFINITY else limit
