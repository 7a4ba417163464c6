"""Identities that sort by the time of their making."""

from __future__ import annotations

import os
import random
import socket
import time

# Seeded from the system once: asking it for every identity costs a system call, during which another
# thread takes the interpreter. Identities are not secrets.
_source = random.Random(os.urandom(32))  # noqa: S311

_VERSION_7 = 0x7 << 76
_VARIANT = 0x2 << 62
_RANDOM_BITS = (0xFFF << 64) | ((1 << 62) - 1)


def new_id() -> str:
    """A UUID of version 7: 48 bits of milliseconds, then 74 random ones.

    Rows that are made together lie together in an index, so a commit touches few pages of it
    however many orders there are.
    """
    milliseconds = time.time_ns() // 1_000_000
    value = milliseconds << 80 | _VERSION_7 | _VARIANT | (_source.getrandbits(76) & _RANDOM_BITS)
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def replica_name() -> str:
    """The name of this process among all replicas, under which it holds leases; at most 128 characters.

    Containers may share a host name and all be process 1: the last part is random.
    """
    return f"{socket.gethostname()[:64]}-{os.getpid()}-{new_id()[-12:]}"
