"""Where a service that listens on an address is asked: one rule for everybody who asks it. Pure."""

from __future__ import annotations

EVERYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
"""Hosts that mean every address of this machine, and the one that this machine asks then."""


def reachable_host(host: str) -> str:
    """The host by which this machine reaches what listens on ``host``, without brackets."""
    bare = host.strip().removeprefix("[").removesuffix("]")
    return EVERYWHERE.get(bare, bare)


def http_url(host: str, port: int) -> str:
    """The base URL of what listens on ``host`` and ``port``, as this machine reaches it."""
    reachable = reachable_host(host)
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"
