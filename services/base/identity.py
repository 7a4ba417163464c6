"""Time and identity: the clock, ids that sort by time of creation, names of replicas, the version of Holdfast."""

from __future__ import annotations

import os
import random
import socket
import time
from datetime import UTC, datetime

VERSION = "0.2.0"

# Seeded once: os.urandom for every id costs a system call, in which this thread can lose the
# interpreter lock. Ids are not secrets.
_source = random.Random(os.urandom(32))  # noqa: S311

_VERSION_7 = 0x7 << 76
_VARIANT = 0x2 << 62
_RANDOM_BITS = (0xFFF << 64) | ((1 << 62) - 1)


def new_id() -> str:
    """Return a UUID of version 7: 48 bits of milliseconds, then 74 random bits.

    Rows of the same time are adjacent in an index, so a commit writes few index pages.
    """
    milliseconds = time.time_ns() // 1_000_000
    value = milliseconds << 80 | _VERSION_7 | _VARIANT | (_source.getrandbits(76) & _RANDOM_BITS)
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def replica_name() -> str:
    """Return a name for this process that no other replica has; at most 128 characters.

    Containers may share a host name and all be process 1, so the last part is random.
    """
    return f"{socket.gethostname()[:64]}-{os.getpid()}-{new_id()[-12:]}"


def utc_now() -> datetime:
    """The present time, aware, in whole milliseconds, the precision of stored and displayed times."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)
