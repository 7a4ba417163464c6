"""What holds for the delays of every retry policy."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.domain.calls import RetryPolicy

policies = st.builds(
    RetryPolicy,
    attempts=st.integers(1, 2_000),
    base_delay_seconds=st.floats(0.001, 1_000),
    max_delay_seconds=st.floats(0.001, 1_000),
)
fractions = st.floats(0, 1, exclude_max=True)
made = st.integers(1, 3_000)


@given(policies, made, fractions)
def test_there_is_a_delay_exactly_while_attempts_are_left(policy, made, fraction):
    delay = policy.delay_seconds(made, lambda: fraction)
    assert (delay is None) == (made >= policy.attempts)


@given(policies, made, fractions)
def test_a_delay_lies_between_half_and_all_of_the_bounded_exponential(policy, made, fraction):
    delay = policy.delay_seconds(made, lambda: fraction)
    if delay is not None:
        whole = min(policy.base_delay_seconds * 2.0 ** min(made - 1, 60), policy.max_delay_seconds)
        assert whole / 2 <= delay <= whole <= policy.max_delay_seconds


@given(policies, st.integers(1, 1_998), fractions)
def test_without_luck_delays_never_shrink(policy, made, fraction):
    first, second = (policy.delay_seconds(n, lambda: fraction) for n in (made, made + 1))
    if first is not None and second is not None:
        assert first <= second


@given(policies, made, fractions, st.floats(0, 10_000))
def test_nobody_comes_back_before_he_was_asked_to(policy, made, fraction, retry_after):
    plain = policy.delay_seconds(made, lambda: fraction)
    asked = policy.delay_seconds(made, lambda: fraction, retry_after_seconds=retry_after)
    assert asked == (None if plain is None else max(plain, retry_after))
