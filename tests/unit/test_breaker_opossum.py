"""Strict mode is opossum 9: 300 recorded traces of the original, compared step by step."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from services.clients.breaker import AsyncBreaker
from services.clients.rolling_window import BreakerOptions
from services.domain.errors import BusinessError, CircuitOpen

TRACES = Path(__file__).parents[1] / "vectors" / "opossum-traces.jsonl"


class Filtered(BusinessError):
    pass


async def ok() -> None:
    pass


async def fail() -> None:
    raise RuntimeError


async def filtered() -> None:
    raise Filtered("an answer")


CALLS = {"ok": ok, "fail": fail, "filtered": filtered}


class Replay:
    def __init__(self, trace: dict[str, Any]) -> None:
        self.now_ms = 0
        options = BreakerOptions(threshold_percentage=trace["pct"], volume_threshold=trace["volume"], strict=True)
        self.breaker = AsyncBreaker(
            "b", options, clock=lambda: datetime(2026, 1, 1, tzinfo=UTC), monotonic_ns=lambda: self.now_ms * 1_000_000
        )

    async def step(self, kind: str, value: Any) -> list[Any]:
        if kind == "tick":
            self.now_ms += value
        else:
            with suppress(RuntimeError, Filtered, CircuitOpen):
                await self.breaker.acall(CALLS[value])
        counts = self.breaker._storage.window.total(self.now_ms * 1_000_000)
        state = self.breaker.effective_state.replace("_", "-")
        return [state, counts.fires, counts.failures, counts.successes, counts.rejects]


@pytest.mark.parametrize("chunk", range(10))
async def test_every_recorded_trace_of_opossum_is_reproduced_step_by_step(chunk):
    traces = TRACES.read_bytes().splitlines()
    assert len(traces) == 300
    for number, line in list(enumerate(traces))[chunk::10]:
        trace = orjson.loads(line)
        replay = Replay(trace)
        for index, ((kind, value), expected) in enumerate(zip(trace["steps"], trace["expect"], strict=True)):
            assert await replay.step(kind, value) == expected, f"trace {number}, step {index}"
