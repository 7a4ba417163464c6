"""What somebody may do here: the roles of the API's tokens and of the people at the console.

Source: contract section 2; docs/adr/0016.
"""

from __future__ import annotations

NONE, VIEWER, OPERATOR, ADMIN, SERVICE = "none", "viewer", "operator", "admin", "service"

READ = frozenset({VIEWER, OPERATOR, ADMIN, SERVICE})
TRADE = frozenset({SERVICE, OPERATOR, ADMIN})
"""Place, cancel and return orders."""
OPERATE = frozenset({OPERATOR, ADMIN})
"""Work the review queue, releases and dead letters."""

CONSOLE_ROLES = (NONE, VIEWER, OPERATOR, ADMIN)
"""What a person at the console can be; ``none`` may not even look."""
