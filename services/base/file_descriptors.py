"""Open files are a budget: the soft limit is raised to the hard one, and what is taken of it is bounded below it."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from typing import Self

MOST_FILES = 1 << 20
"""Asked for where the hard limit is infinite."""

MOST_CONNECTIONS = 4096
MOST_REQUESTS = 1000
MOST_OUTGOING = 256


@dataclass(frozen=True, slots=True)
class Budget:
    """How many open files of a process go where; the rest is for databases, the broker, logs and libraries."""

    connections: int
    """Of clients; more wait in the kernel's queue."""
    surplus: int
    """Connections beyond those, only to be told to come back."""
    requests: int
    """Handled at once; more are told to come back."""
    outgoing: int
    """Connections in use to the services that are called for orders."""

    @classmethod
    def of(cls, files: int) -> Self:
        """Shares of so many open files."""
        kept = min(128, files // 4)
        surplus = min(64, files // 16)
        outgoing = min(MOST_OUTGOING, (files - kept) // 5)
        # A pool may keep as many idle connections to one service as it uses to another.
        connections = min(MOST_CONNECTIONS, max(files - kept - surplus - 2 * outgoing, 1))
        return cls(connections, surplus, min(MOST_REQUESTS, connections), max(outgoing, 1))

    @classmethod
    def of_process(cls) -> Self:
        """Shares of what this process may open now."""
        return cls.of(_known(resource.getrlimit(resource.RLIMIT_NOFILE)[0]))


def raise_limit() -> int:
    """Raise this process's soft limit of open files to the hard one, which children inherit: the limit now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (_known(hard), hard))
        except (ValueError, OSError):
            # Some kernels allow less than the hard limit says; what there is has to do.
            return _known(soft)
    return _known(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _known(limit: int) -> int:
    return MOST_FILES if limit == resource.RLIM_INFINITY else limit
