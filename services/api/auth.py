"""Authentication and authorisation: bearer tokens with roles. Only the service enforces them.

Without API_TOKENS every caller is trusted. This is meant for a sandbox on the loopback address. Source: contract 2.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import Request

from services.base.setting_types import ApiToken
from services.domain.errors import ApiError
from services.domain.roles import ADMIN, OPERATE, READ, SERVICE, TRADE
from services.http_server.envelope import header_text

__all__ = ["OPERATE", "READ", "TRADE", "Authenticator", "Caller", "Forbidden", "Unauthorized"]


class Unauthorized(ApiError):
    """The token is missing or unknown."""

    code = "UNAUTHORIZED"


class Forbidden(ApiError):
    """The token's role does not allow this."""

    code = "FORBIDDEN"


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request; ``name`` is the actor in timelines and in the audit log."""

    name: str
    role: str
    has_token: bool = False
    """Whether the name comes from a token. A caller without a token has its name from the X-Actor header."""

    @property
    def is_person(self) -> bool:
        """Whether the caller counts as a person. The actions of a person are audited."""
        return self.role in OPERATE


class Authenticator:
    """Checks the Authorization header against the configured tokens."""

    def __init__(self, tokens: Sequence[ApiToken]) -> None:
        self._tokens = tokens

    def caller(self, request: Request, roles: frozenset[str]) -> Caller:
        """Return the caller of a request. Raises Unauthorized, or Forbidden when its role is not among ``roles``.

        Empty ``roles`` allow every caller.
        """
        if not self._tokens or not roles:
            return _trusted(header_text(request, "x-actor"))
        scheme, _, presented = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not presented:
            raise Unauthorized("A bearer token is needed.")
        for token in self._tokens:
            if hmac.compare_digest(token.token.encode(), presented.strip().encode()):
                if token.role not in roles:
                    details = {"role": token.role, "allowed": sorted(roles)}
                    raise Forbidden(f"Role {token.role} may not do this.", details)
                return Caller(token.name, token.role, has_token=True)
        raise Unauthorized("This token is not known.")


def _trusted(name: str | None) -> Caller:
    """A caller without a token: a person if a name is given, else a program."""
    return Caller(name[:128], ADMIN) if name else Caller("api", SERVICE)
