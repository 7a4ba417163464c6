"""Circuit breakers for coroutines, based on pybreaker. Only this module and rolling_window.py import pybreaker.

pybreaker's ``call`` keeps its lock while the function runs, and does not count the exception of a coroutine.
AsyncBreaker admits a call under the lock, awaits it without the lock, and records its result under the lock. Every
transition increases a generation number. A result from an earlier generation is ignored, so a late result neither
closes nor re-opens a circuit.

Source: requirements 7.1; docs/adr/0005.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, NoReturn, TypeVar

from pybreaker import (
    STATE_CLOSED,
    STATE_HALF_OPEN,
    STATE_OPEN,
    CircuitBreaker,
    CircuitBreakerListener,
    CircuitBreakerState,
)

from services.clients.rolling_window import NS_PER_MS, BreakerOptions, Counts, RollingStorage
from services.domain.errors import (
    BusinessError,
    CircuitOpen,
    DependencyError,
    InventoryThrottled,
    ReleaseFailed,
)

T = TypeVar("T")

CLOSED = "closed"
OPEN = "open"
HALF_OPEN = "half_open"
FORCED_OPEN = "forced_open"
FORCED_CLOSED = "forced_closed"

TRIAL_WAIT_SECONDS = 1.0
"""Retry-After of a denied call while another trial call is running."""

_NAMES = {STATE_CLOSED: CLOSED, STATE_OPEN: OPEN, STATE_HALF_OPEN: HALF_OPEN}


@dataclass(frozen=True, slots=True)
class Override:
    """A manual breaker state with a reason and an end."""

    state: str
    """FORCED_OPEN or FORCED_CLOSED."""
    reason: str
    expires_at: datetime
    ends_ns: int
    """The end, in nanoseconds of the breaker's monotonic clock."""


@dataclass(frozen=True, slots=True)
class BreakerSnapshot:
    """State, window and override of one breaker at one moment."""

    name: str
    state: str
    since: datetime
    retry_in_ms: int
    """Time until the next trial call or until the end of an override that opens the breaker; 0 when calls may pass."""
    calls: int
    failures: int
    failure_rate: float
    """Failures in percent of ``calls``, comparable with ``threshold_percentage``; 0 without calls."""
    threshold_percentage: int
    volume_threshold: int
    denied: int
    """Calls of the window that the breaker denied; they were not sent."""
    buckets: tuple[tuple[int, int], ...]
    """(calls, failures) of each bucket of the window, oldest first."""
    override: Override | None = None


TransitionListener = Callable[["AsyncBreaker", str, str, datetime], None]
"""Called with (breaker, from_state, to_state, at) under the breaker's lock. It must be quick and must not raise."""


class AsyncBreaker(CircuitBreaker):
    """A circuit breaker whose ``acall`` awaits a coroutine function. Business answers count as successes.

    An override hides the automatic state without changing it. When the override ends, the automatic state applies
    again; its reset timer continues during the override.
    """

    def __init__(
        self,
        name: str,
        options: BreakerOptions,
        *,
        clock: Callable[[], datetime],
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        listeners: Sequence[TransitionListener] = (),
    ) -> None:
        self._storage = RollingStorage(options, monotonic_ns)
        super().__init__(
            reset_timeout=options.reset_timeout_ms / 1000,
            exclude=[is_answer],
            listeners=[_StateChanges()],
            state_storage=self._storage,
            name=name,
        )
        self.options = options
        self._clock = clock
        self._monotonic_ns = monotonic_ns
        self._transition_listeners = list(listeners)
        self._override: Override | None = None
        self._override_changed_ns = self._storage.changed_ns
        self._announced, self._since = CLOSED, clock()

    @property
    def label(self) -> str:
        """The name as a str; pybreaker declares it as optional."""
        return str(self.name)

    @property
    def effective_state(self) -> str:
        """The state of an active override, else the automatic state; one of CLOSED to FORCED_CLOSED."""
        with self._lock:
            return self._effective_state()

    async def acall(self, function: Callable[..., Awaitable[T]], *arguments: object) -> T:
        """Await ``function(*arguments)``, or raise CircuitOpen without calling it.

        An Exception counts as a failure unless it is a business answer. A cancelled call is not counted, and neither is
        a call that failed because of a shortage in this process. Answers 429 are counted separately.
        """
        permit = self._admit()
        try:
            result = await function(*arguments)
        except InventoryThrottled:
            self._note_throttled(permit)
            raise
        except DependencyError as error:
            if error.is_ours:
                self._withdraw(permit)
            else:
                self._settle(permit, failed=self.is_system_error(error))
            raise
        except Exception as error:
            self._settle(permit, failed=self.is_system_error(error))
            raise
        except BaseException:
            self._withdraw(permit)
            raise
        self._settle(permit, failed=False)
        return result

    def call(self, *_: object, **__: object) -> NoReturn:
        """Raise TypeError, because pybreaker's ``call`` would block the event loop."""
        raise TypeError("AsyncBreaker guards coroutines: use acall")

    def open(self) -> bool:
        """Open the circuit. The reset timer of an open circuit is not restarted."""
        with self._lock:
            if self.current_state != STATE_OPEN:
                self._enter(STATE_OPEN)
            return False

    def half_open(self) -> None:
        """Make the circuit half-open, which allows the next call as a trial."""
        with self._lock:
            self._enter(STATE_HALF_OPEN)

    def close(self) -> None:
        """Close the circuit, which allows all calls."""
        with self._lock:
            self._enter(STATE_CLOSED)

    def start_override(self, state: Literal["forced_open", "forced_closed"], reason: str, expires_in_ms: int) -> None:
        """Start an override, which replaces an active override."""
        with self._lock:
            expires_at = self._clock() + timedelta(milliseconds=expires_in_ms)
            now = self._monotonic_ns()
            self._set_override(Override(state, reason, expires_at, now + expires_in_ms * NS_PER_MS), now)

    def end_override(self) -> None:
        """End the override early. Does nothing without an override."""
        with self._lock:
            if self._override is not None:
                self._set_override(None, self._monotonic_ns())

    def on_transition(self, listener: TransitionListener) -> None:
        """Add a listener, which is called at every later change of the effective state."""
        with self._lock:
            self._transition_listeners.append(listener)

    def snapshot(self) -> BreakerSnapshot:
        """Return state, window and override, read under one lock."""
        with self._lock:
            state = self._effective_state()
            now = self._monotonic_ns()
            total = self._storage.window.total(now)
            calls = self._calls(total)
            return BreakerSnapshot(
                name=self.label,
                state=state,
                since=self._since,
                retry_in_ms=-(-self._closed_for_ns(state) // NS_PER_MS),
                calls=calls,
                failures=total.failures,
                failure_rate=100.0 * total.failures / calls if calls else 0.0,
                threshold_percentage=self.options.threshold_percentage,
                volume_threshold=self.options.volume_threshold,
                denied=total.rejects,
                buckets=tuple((self._calls(bucket), bucket.failures) for bucket in self._storage.window.buckets(now)),
                override=self._override,
            )

    def announce(self) -> None:
        """Call the listeners when the effective state has changed since their last call."""
        override, automatic = self._override, _NAMES[self.current_state]
        state = automatic if override is None else override.state
        if state == self._announced:
            return
        before = self._announced
        self._announced, self._since = state, self._changed_at()
        for listener in self._transition_listeners:
            listener(self, before, state, self._since)

    def _admit(self) -> int:
        with self._lock:
            state = self._effective_state()
            bucket = self._storage.window.current(self._monotonic_ns())
            bucket.fires += 1
            if state in (CLOSED, FORCED_CLOSED) or (state == HALF_OPEN and self._storage.begin_trial()):
                return self._storage.generation
            bucket.rejects += 1
            wait = self._closed_for_ns(state) / 1e9
        raise CircuitOpen(self.label, wait or TRIAL_WAIT_SECONDS)

    def _settle(self, permit: int, *, failed: bool) -> None:
        with self._lock:
            state = self._effective_state()
            if permit != self._storage.generation:
                return
            self._count(failed=failed)
            if state == HALF_OPEN:
                self._enter(STATE_OPEN if failed else STATE_CLOSED)
            elif state == CLOSED and failed and self._storage.must_open():
                self._enter(STATE_OPEN)

    def _note_throttled(self, permit: int) -> None:
        """Count an answer 429. A trial call answered 429 leaves the circuit half-open, and the next call is a trial."""
        with self._lock:
            state = self._effective_state()
            if permit != self._storage.generation:
                return
            self._storage.trial_ns = None
            self._storage.window.current(self._monotonic_ns()).throttled += 1
            if state == CLOSED and self._storage.must_open():
                self._enter(STATE_OPEN)

    def _count(self, *, failed: bool) -> None:
        bucket = self._storage.window.current(self._monotonic_ns())
        if failed:
            bucket.failures += 1
        else:
            bucket.successes += 1

    def _withdraw(self, permit: int) -> None:
        with self._lock:
            if permit == self._storage.generation:
                self._storage.trial_ns = None

    def _enter(self, state: str) -> None:
        # Change the storage first: pybreaker calls its listeners when the state in the storage differs.
        self._storage.state = state
        self._effective_state()

    def _set_override(self, override: Override | None, at_ns: int) -> None:
        self._effective_state()
        self._override = override
        self._override_changed_ns = at_ns
        self._storage.void_permits()
        self.announce()

    def _effective_state(self) -> str:
        override = self._override
        if override is not None and self._monotonic_ns() >= override.ends_ns:
            self._override = None
            self._override_changed_ns = override.ends_ns
            self._storage.void_permits()
            self.announce()
            override = None
        # Reading ``self.state`` makes pybreaker adopt the state of the storage, which may have become half-open.
        automatic = _NAMES[self.state.name]
        return automatic if override is None else override.state

    def _changed_at(self) -> datetime:
        changed_ns = max(self._storage.changed_ns if self._override is None else 0, self._override_changed_ns)
        return self._clock() - timedelta(microseconds=(self._monotonic_ns() - changed_ns) // 1000)

    def _closed_for_ns(self, state: str) -> int:
        if state == FORCED_OPEN and self._override is not None:
            return self._override.ends_ns - self._monotonic_ns()
        return self._storage.reset_ns - self._monotonic_ns() if state == OPEN else 0

    def _calls(self, counts: Counts) -> int:
        return counts.fires if self.options.strict else counts.completed


class _StateChanges(CircuitBreakerListener):
    """Passes state changes of pybreaker to the listeners of the effective state."""

    def state_change(self, cb: CircuitBreaker, _old: CircuitBreakerState | None, _new: CircuitBreakerState) -> None:
        if isinstance(cb, AsyncBreaker):
            cb.announce()


def is_answer(error: Exception) -> bool:
    """Whether the error is a business answer. ReleaseFailed is one: the service refused one release."""
    return isinstance(error, BusinessError | ReleaseFailed)
