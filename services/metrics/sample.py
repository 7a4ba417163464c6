"""The latency buckets, shared by the registry that counts and the console that reads."""

from __future__ import annotations

LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 3.25, 5.0)
"""Upper bounds in seconds; a last bucket without a bound follows.

The alert's second and the timeout of three are bounds themselves. Attempts that time out last a little longer
than the timeout: a narrow bucket behind it keeps their quantiles from being read as five seconds.

A stored histogram has ``len(LATENCY_BUCKETS) + 1`` counts, cumulative as in Prometheus: each counts
what lasted at most as long as its bound, so that the last one is the count of all.
"""
