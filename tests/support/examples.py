"""How many examples Hypothesis tries: ``HYPOTHESIS_PROFILE=thorough`` tries twenty times as many, never the same."""

from __future__ import annotations

import os

from hypothesis import settings

USUAL, THOROUGH = "usual", "thorough"


def load_profile() -> None:
    """Timing on a shared machine says nothing about the rule, and a failure must come back on the next run."""
    settings.register_profile(USUAL, deadline=None, derandomize=True, max_examples=100)
    settings.register_profile(THOROUGH, deadline=None, max_examples=2_000, print_blob=True)
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", USUAL))


def examples(usual: int) -> int:
    """For a test whose examples cost more or less than others: the number in the profile that is loaded."""
    return usual * settings.get_profile(settings.get_current_profile_name()).max_examples // 100
