"""What a trace is told besides its calls and events; composed in only when tracing is on."""

from __future__ import annotations

from collections.abc import Callable

from services.domain.call_attempts import SHORT_CIRCUITED, Attempt
from services.tracing.port import Tracer
from services.unit_of_work import Recorded


def told_after_commit(tracer: Tracer, after_commit: Callable[[Recorded], None]) -> Callable[[Recorded], None]:
    """After each commit, the present span names the order and the statuses that it went through."""

    def told(recorded: Recorded) -> None:
        tracer.became(recorded.order.order_id, recorded.became)
        after_commit(recorded)

    return told


def told_of_short_circuits(tracer: Tracer, on_attempt: Callable[[Attempt], None]) -> Callable[[Attempt], None]:
    """Attempts that a breaker kept back have no span of their own: the present one says so."""

    def told(attempt: Attempt) -> None:
        if attempt.outcome == SHORT_CIRCUITED:
            tracer.short_circuited(attempt.call, str(attempt.details.get("error")))
        on_attempt(attempt)

    return told
