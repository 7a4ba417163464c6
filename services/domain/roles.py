"""The roles of API tokens and of the console's users, and what each role permits.

Source: contract 2; docs/adr/0016.
"""

from __future__ import annotations

NONE, VIEWER, OPERATOR, ADMIN, SERVICE = "none", "viewer", "operator", "admin", "service"

READ = frozenset({VIEWER, OPERATOR, ADMIN, SERVICE})
TRADE = frozenset({SERVICE, OPERATOR, ADMIN})
"""Roles that may place, cancel and return orders."""
OPERATE = frozenset({OPERATOR, ADMIN})
"""Roles that may act on review cases, release jobs and dead letters."""

CONSOLE_ROLES = (NONE, VIEWER, OPERATOR, ADMIN)
"""Roles of a console user; ``none`` may not read."""
