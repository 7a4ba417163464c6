"""What the people at the console may do.

CONSOLE_ROLE holds for everybody; CONSOLE_PEOPLE says who of those who log in may more or less. A name
that is only typed never gets the role of a listed one. Source: console rule 10; docs/adr/0016.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.domain.roles import ADMIN, NONE, OPERATE


class NotPermitted(Exception):
    """This person may not do that; the message says why, in words for them."""


@dataclass(frozen=True, slots=True)
class People:
    """Roles by name."""

    default: str
    listed: Mapping[str, str] = field(default_factory=dict)

    def role_of(self, actor: str) -> str:
        """The role under which an actor's commands are stored."""
        return self.listed.get(actor, self.default)

    def is_listed(self, name: str) -> bool:
        """Whether the name belongs to somebody who logs in, so that nobody else may type it."""
        return name in self.listed

    def may_look(self, actor: str) -> bool:
        return self.role_of(actor) != NONE

    def is_admin(self, actor: str) -> bool:
        return self.role_of(actor) == ADMIN

    def why_not_act(self, actor: str) -> str | None:
        """Why this actor may not ask for anything; None when they may."""
        role = self.role_of(actor)
        return None if role in OPERATE else f"Your role here is {role}: an operator may do this."

    def require(self, actor: str) -> None:
        """Raises NotPermitted for who may not act."""
        if reason := self.why_not_act(actor):
            raise NotPermitted(reason)
