"""How fast this machine is at this moment, by a fixed piece of work.

Shared machines change their speed by a factor of two within an hour; figures travel only beside it.
"""

from __future__ import annotations

import time

REFERENCE_SECONDS = 0.109
"""What the work took on the machine of the limit when nothing else ran there."""


def slowness() -> float:
    """How many times longer the fixed work takes now than at the reference; the best of five rounds."""
    return min(_work() for _ in range(5)) / REFERENCE_SECONDS


def _work() -> float:
    started = time.process_time()
    total = 0
    for number in range(3_000_000):
        total += number * number % 7
    return time.process_time() - started
